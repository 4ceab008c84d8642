"""A headless browser, driven by the DevTools protocol over a pipe."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager

COMMANDS = ("chromium", "chromium-browser", "google-chrome")


def find_browser():
    """Return the path of a browser, or None if none is installed."""
    return next(filter(None, map(shutil.which, COMMANDS)), None)


class Page:
    """A page of the browser."""

    def __init__(self, requests, responses):
        self._requests = requests
        self._responses = responses
        self._number = 0
        self._session = None
        self.events = []

    def call(self, method, **params):
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._requests.write(json.dumps(message).encode() + b"\0")
        self._requests.flush()
        while (answer := self._read()).get("id") != self._number:
            self.events.append((answer.get("method"), answer.get("params")))
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, url):
        """Open a page and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in [name for name, _ in self.events]:
            answer = self._read()
            self.events.append((answer.get("method"), answer.get("params")))

    def _read(self):
        return json.loads(b"".join(iter(lambda: self._responses.read(1), b"\0")))


@contextmanager
def open_page(browser, profile, url):
    """Yield a page that is loaded."""
    read_requests, write_requests = os.pipe()
    read_responses, write_responses = os.pipe()
    # The browser reads from descriptor 3, and writes to 4.
    script = f'exec 3<&{read_requests} 4>&{write_responses}; exec "$@"'
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}")
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", browser, *options],
        pass_fds=(read_requests, write_responses),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    os.close(read_requests)
    os.close(write_responses)
    with os.fdopen(write_requests, "wb") as requests, os.fdopen(read_responses, "rb", buffering=0) as responses:
        try:
            page = Page(requests, responses)
            page.open(url)
            yield page
        finally:
            process.kill()
            process.wait()
