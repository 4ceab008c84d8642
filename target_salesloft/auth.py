"""Who we are to Salesloft. Knows tokens, and no addresses of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from singer_sdk.authenticators import BearerTokenAuthenticator

if TYPE_CHECKING:
    import requests


class Authenticator(Protocol):
    """What the client asks of an authenticator; `requests` calls it for each request."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token into the request."""

    def renew(self, refused: requests.PreparedRequest) -> bool:
        """Get another token after Salesloft refused the one in this request with 401.

        Returns:
            Whether it is worth sending the request again.
        """


class ApiKeyAuthenticator(BearerTokenAuthenticator):
    """Sends an API key, which travels as OAuth tokens do.

    Source: Salesloft's documentation on authentication, `Authorization: Bearer`.

    Args:
        api_key: `ak` and 64 hexadecimal digits.
    """

    def __init__(self, api_key: str) -> None:
        super().__init__(token=api_key)

    def renew(self, refused: requests.PreparedRequest) -> bool:  # noqa: ARG002 (the protocol's argument)
        """There is no other key to try."""
        return False
