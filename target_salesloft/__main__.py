"""`python -m target_salesloft`."""

from target_salesloft.target import TargetSalesloft

TargetSalesloft.cli()
