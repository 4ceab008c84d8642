"""A local fake of the Salesloft API v2 with fault injection."""

from salesloft_sandbox.fault_injection import Fault
from salesloft_sandbox.log import RequestEvent
from salesloft_sandbox.sandbox import Sandbox
from salesloft_sandbox.server import SandboxServer
from salesloft_sandbox.version import VERSION

__version__ = VERSION
__all__ = ["Fault", "RequestEvent", "Sandbox", "SandboxServer"]
