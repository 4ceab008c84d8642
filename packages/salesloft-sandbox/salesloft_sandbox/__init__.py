"""In-memory fake of the Salesloft API v2 with fault injection.

It shares no code with the target, so that an error in a field definition cannot be masked by sharing it.
"""

from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.server import Sandbox, SandboxServer

__all__ = ["Fault", "Sandbox", "SandboxServer"]
