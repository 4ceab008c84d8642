"""The command `target-salesloft`."""

import gc
import os
import sys
from importlib import metadata
from typing import Final

NAME: Final = "target-salesloft"
GC_THRESHOLD: Final = 50_000
"""Batches have many objects but no garbage. Frequent collections would take a sixth of the CPU time."""


def main() -> None:
    if sys.argv[1:] == ["--version"]:  # as the SDK prints it, which takes a second to import
        sys.stdout.write(f"{NAME} v{metadata.version(NAME)}, Meltano SDK v{metadata.version('singer-sdk')}\n")
        return
    gc.disable()  # imports create no garbage, and collections would take a tenth of the time
    from target_salesloft.exceptions import ConfigError  # noqa: PLC0415 (see above)
    from target_salesloft.settings.loader import check_log_level  # noqa: PLC0415
    from target_salesloft.target import TargetSalesloft  # noqa: PLC0415

    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    gc.enable()
    try:
        check_log_level(os.environ)
    except ConfigError as error:
        sys.exit(str(error))
    TargetSalesloft.cli()


if __name__ == "__main__":
    main()
