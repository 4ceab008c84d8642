"""The redirect that brings a user's consent: hears it on the loopback interface, and knows it for ours."""

from __future__ import annotations

import hmac
import queue
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from target_salesloft.exceptions import RunCancelledError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGIN_SECONDS: Final = 600.0
READ_SECONDS: Final = 10.0
POLL: Final = 0.05
PAGE: Final = "<!doctype html><title>target-salesloft</title><p>{words}</p>\n"


def parse_query(query: str) -> dict[str, str]:
    """Return a query's parameters; of repeated ones the last."""
    return dict(urllib.parse.parse_qsl(query))


def state_matches(answer: Mapping[str, str], state: str) -> bool:
    """Whether a redirect answers the very login that began with this state."""
    ours = hmac.compare_digest(answer.get("state", "").encode(), state.encode())
    return ours and bool(answer.get("code") or answer.get("error"))


class CallbackServer(ThreadingHTTPServer):
    """Hears the redirect to `/callback`, on the loopback interface alone.

    Browsers open connections that they never use, so each has a thread.

    Args:
        port: The port, part of the redirect URI that the application is registered with.
        state: What the redirect must bring back.

    Raises:
        OSError: The port cannot be had.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, state: str) -> None:
        self.answers: queue.Queue[dict[str, str]] = queue.Queue()
        self.state = state
        super().__init__(("127.0.0.1", port), _Handler)

    def wait(self, seconds: float = LOGIN_SECONDS) -> dict[str, str]:
        """Serve until the redirect has come, and return what it brings.

        Args:
            seconds: How long a user may take.

        Raises:
            RunCancelledError: The user took longer.
        """
        threading.Thread(target=self.serve_forever, args=(POLL,), name="callback", daemon=True).start()
        try:
            return self.answers.get(timeout=seconds)
        except queue.Empty:
            raise RunCancelledError(
                f"Nobody allowed the application within {seconds / 60:.0f} minutes. Run login again."
            ) from None
        finally:
            self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: CallbackServer
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        """Answer a browser."""
        parts = urllib.parse.urlsplit(self.path)
        answer = parse_query(parts.query)
        if parts.path != "/callback":
            self._page(404, "Nothing is here.")
        elif not state_matches(answer, self.server.state):
            self._page(400, "This does not belong to the login that waits. Use the address that it printed.")
        else:
            self._page(200, "target-salesloft has heard it: close this window, the terminal tells how it went.")
            self.server.answers.put(answer)

    def _page(self, status: int, words: str) -> None:
        body = PAGE.format(words=words).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        # The code is in the address: it is to go nowhere else.
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's name)
        """Log nothing: the code is in the address."""
