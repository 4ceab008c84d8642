"""OAuth: the authorization server."""

from salesloft_sandbox.oauth.models import DEFAULT_CLIENT, DEFAULT_SECRET, OAuth

__all__ = ["DEFAULT_CLIENT", "DEFAULT_SECRET", "OAuth"]
