"""The command `target-salesloft`."""

import gc
import os
import sys
from typing import Final

from target_salesloft.exceptions import ConfigError
from target_salesloft.settings.loader import check_log_level
from target_salesloft.target import TargetSalesloft

GC_THRESHOLD: Final = 50_000
"""A batch is many objects, and none of them is garbage: looking for some often would take a sixth of the CPU time."""


def main() -> None:
    """Run the command."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    try:
        check_log_level(os.environ)
    except ConfigError as error:
        sys.exit(str(error))
    TargetSalesloft.cli()


if __name__ == "__main__":
    main()
