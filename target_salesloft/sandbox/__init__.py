"""A local stand-in for Salesloft's API v2: real HTTP, real refusals, faults on request, nobody's data.

It shares no code with the target on purpose: were both to read one table of fields, a mistake in
that table would agree with itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from target_salesloft.sandbox.faults import Fault
    from target_salesloft.sandbox.server import Sandbox, SandboxServer

__all__ = ["Fault", "Sandbox", "SandboxServer"]


def __getattr__(name: str) -> Any:
    """Load what is exported when it is first asked for.

    The command line can only tell a user to install the `sandbox` extra if this package imports
    without it.
    """
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    if name == "Fault":
        from target_salesloft.sandbox import faults  # noqa: PLC0415

        return faults.Fault
    from target_salesloft.sandbox import server  # noqa: PLC0415

    return getattr(server, name)
