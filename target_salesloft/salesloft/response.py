"""An HTTP response, as far as the target uses it."""

from __future__ import annotations

import datetime as dt
import email.utils
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.redaction import sanitize_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

SUCCESS: Final = range(200, 300)
MAX_REQUEST_ID_LENGTH: Final = 100
# Salesloft documents no request id (assumption): these are the usual names, its proxies' included.
REQUEST_ID_HEADERS: Final = ("X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Amzn-RequestId", "CF-Ray")


@dataclass(frozen=True)
class Response:
    """An HTTP response whose body has been read.

    Attributes:
        status: The HTTP status.
        headers: The headers; names are case-insensitive.
        body: The decoded body.
        request: The request, as it was sent.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request: requests.PreparedRequest = field(repr=False)

    @property
    def request_id(self) -> str:
        """The id that the server gave the request, or an empty string."""
        found = next((self.headers[name] for name in REQUEST_ID_HEADERS if self.headers.get(name)), "")
        return sanitize_line(found, MAX_REQUEST_ID_LENGTH)

    @property
    def retry_after(self) -> float | None:
        """The seconds that the server asks us to wait, or None if the header is missing or invalid.

        Source: RFC 9110, section 10.2.3 (a number of seconds, or a date). Salesloft does not document the header.
        """
        header = self.headers.get("Retry-After", "").strip()
        try:
            seconds = float(header)
        except ValueError:
            try:
                moment = email.utils.parsedate_to_datetime(header)
                seconds = (moment - dt.datetime.now(tz=dt.timezone.utc)).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
            return max(seconds, 0.0)
        return None if math.isnan(seconds) or seconds < 0 else seconds

    def json(self) -> Any:
        """Return the JSON value of the body.

        Raises:
            ValueError: The body is not JSON.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError("not JSON") from error

    def json_object(self) -> dict[str, Any] | None:
        """Return the JSON object of the body, or None if it is something else."""
        try:
            found = self.json()
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def describe(self) -> str:
        """Return the status and the request id, as messages contain them: `HTTP 503, request id 4f1a`."""
        return f"HTTP {self.status}{f', request id {self.request_id}' if self.request_id else ''}"
