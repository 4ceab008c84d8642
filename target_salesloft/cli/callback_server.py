"""Receives the OAuth redirect on the loopback interface."""

from __future__ import annotations

import hmac
import queue
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from target_salesloft.exceptions import LoginTimeoutError

LOGIN_SECONDS: Final = 600.0
READ_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
PAGE: Final = "<!doctype html><title>target-salesloft</title><p>{message}</p>\n"


def parse_query(query: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(query))


def state_matches(redirect: Mapping[str, str], state: str) -> bool:
    """Return whether a redirect belongs to the login with this state, and has a code or an error."""
    ours = hmac.compare_digest(redirect.get("state", "").encode(), state.encode())
    return ours and bool(redirect.get("code") or redirect.get("error"))


class CallbackServer(ThreadingHTTPServer):
    """Receives the redirect to `/callback`.

    Browsers open connections that they never use, so each connection has a thread.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, state: str) -> None:
        self.redirects: queue.Queue[dict[str, str]] = queue.Queue()
        self.state = state
        super().__init__(("127.0.0.1", port), _Handler)

    def wait(self, seconds: float = LOGIN_SECONDS) -> dict[str, str]:
        """Serve until the redirect arrives, for a number of seconds at most, and return its parameters."""
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name="callback", daemon=True).start()
        try:
            return self.redirects.get(timeout=seconds)
        except queue.Empty:
            raise LoginTimeoutError(
                f"Timed out after {seconds / 60:.0f} minutes waiting for authorization. Run login again."
            ) from None
        finally:
            self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: CallbackServer
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        redirect = parse_query(parts.query)
        if parts.path != "/callback":
            self._send_page(404, "Not found.")
        elif not state_matches(redirect, self.server.state):
            self._send_page(400, "Unexpected request: use the URL printed in the terminal.")
        else:
            self._send_page(200, "Authorization received. You can close this window.")
            self.server.redirects.put(redirect)

    def _send_page(self, status: int, message: str) -> None:
        body = PAGE.format(message=message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # The URL contains the code, which must not be sent elsewhere.
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Log nothing: the URL contains the code."""
