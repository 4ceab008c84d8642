"""The command `target-salesloft`."""

import os
import sys

from target_salesloft.config.loader import check_log_level
from target_salesloft.exceptions import ConfigError
from target_salesloft.target import TargetSalesloft


def main() -> None:
    """Run the command."""
    try:
        check_log_level(os.environ)
    except ConfigError as error:
        sys.exit(str(error))
    TargetSalesloft.cli()


if __name__ == "__main__":
    main()
