"""Reads Singer messages line by line and routes each to its handler."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import select
import stat
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, AnyStr, Final, TypeAlias

from singer_sdk.exceptions import (
    InvalidJSONSchema,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.clock import Clock
from target_salesloft.encoding import decode_object
from target_salesloft.mapping.coercion import KINDS_OF_VALUE
from target_salesloft.redaction import sanitize_line
from target_salesloft.shutdown import Shutdown

if TYPE_CHECKING:
    from typing_extensions import Buffer

Handler: TypeAlias = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)

INPUT_ERRORS: Final = (
    InvalidInputLine,
    InvalidJSONSchema,
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)

MAX_LINE_BYTES: Final = 64 * 2**20
BUFFER_BYTES: Final = 2**18
BLOCK_BYTES: Final = 2**16
IDLE_SECONDS: Final = 1.0
DISCARD_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 2.0
BYTE_ORDER_MARK: Final = "\ufeff"
# Characters that databases can't store.
UNSTORABLE: Final = re.compile(r"[\0\ud800-\udfff]")


class LineReader(GenericSingerReader[str]):
    """Reads messages, and routes each to the handler of its type.

    Unlike the SDK's readers, it doesn't log invalid lines, which may contain personal data.

    Attributes:
        line: The number of the last line read, from 1.
        text: That line.
        shutdown: Interrupts a read when a signal arrives.
        on_idle: Called each second while a pipe, socket, or terminal has no data.
        on_block: Called before each block of lines.

    Args:
        handlers: Message type → the handler that replaces the SDK's callback.
    """

    def __init__(self, handlers: Mapping[str, Handler] | None = None) -> None:
        super().__init__()
        self._handlers = handlers or {}
        self.shutdown: Shutdown | None = None
        self.on_idle: Callable[[], object] = lambda: None
        self.on_block: Callable[[], object] = lambda: None
        self.line = 0
        self.text: str | bytes = ""

    @property
    def default_input(self) -> IO[str]:
        """Standard input as bytes, because Singer messages are UTF-8 in any locale."""
        if sys.stdin is None:
            raise InvalidInputLine("standard input is closed. Pipe a tap into it, or use --input FILE.")
        return self._wait_for(sys.stdin.buffer)

    def _wait_for(self, file: IO[Any]) -> IO[str]:
        # The decoder takes bytes and text.
        return wait_for_input(file, self.on_idle)  # type: ignore[return-value]

    def process_lines(self, file_input: IO[str] | None, callbacks: Mapping[str, Handler]) -> Counter[str]:
        """Read all messages, and call the handler of each. The SDK's callbacks handle the remaining types."""
        handlers = {**callbacks, **self._handlers}
        counts: defaultdict[str, int] = defaultdict(int)  # a Counter is slower
        if file_input is not None and can_wait(file_input):
            file_input = self._wait_for(file_input)
        blocks = read_blocks(file_input or self.default_input)
        while lines := next(blocks, None) if self.shutdown is None else self.shutdown.interruptible(next, blocks, None):
            self.on_block()
            for line in lines:
                self.line += 1
                self.text = line
                if not line or line.isspace():
                    continue
                message = self.deserialize_json(line)
                kind = message["type"]
                handler = handlers.get(kind)
                if handler is None:
                    raise InvalidInputLine(f"unknown message type {sanitize_line(repr(kind), 40)}.")
                handler(message)
                counts[kind] += 1
        return Counter(counts)

    def deserialize_json(self, line: str) -> dict[str, Any]:
        message = decode_object(line)
        if not isinstance(message.get("type"), str):
            require_keys(message, type=str)
        return message


class WaitingInput(io.RawIOBase):
    """Reads a file descriptor, and waits while it has no data, even if a parent process made it non-blocking."""

    def __init__(self, descriptor: int, on_idle: Callable[[], object]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._on_idle = on_idle

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: Buffer) -> int:
        """Read available data, at least one byte, into a buffer. Return the number of bytes, 0 at the end."""
        while True:
            ready, _, _ = select.select([self._descriptor], [], [], IDLE_SECONDS)
            if not ready:
                self._on_idle()
                continue
            with contextlib.suppress(BlockingIOError):
                return os.readv(self._descriptor, [buffer])


def wait_for_input(file: IO[bytes], on_idle: Callable[[], object] = lambda: None) -> IO[bytes]:
    """Return a reader that waits for data. A file without a descriptor is returned unchanged."""
    try:
        descriptor = file.fileno()
    except OSError:
        return file
    return io.BufferedReader(WaitingInput(descriptor, on_idle), BUFFER_BYTES)


def can_wait(file: IO[Any]) -> bool:
    """Return whether reading may wait for data, as with a pipe, socket, or terminal."""
    return has_mode(file, stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)


def has_mode(file: IO[Any] | None, *tests: Callable[[int], bool]) -> bool:
    """Return whether a file has a descriptor whose mode passes a test such as `stat.S_ISFIFO`."""
    try:
        mode = os.fstat(file.fileno()).st_mode  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return False
    return any(test(mode) for test in tests)


def read_lines(file: IO[AnyStr]) -> Iterator[AnyStr]:
    for lines in read_blocks(file):
        yield from lines


def read_blocks(file: IO[AnyStr]) -> Iterator[list[AnyStr]]:
    """Yield the lines of a file in blocks as they arrive, without a byte order mark.

    Reading line by line would take as long as decoding the lines.
    """
    read: Callable[[int], Any] = getattr(file, "read1", file.read)  # waits only for the first byte
    parts: list[Any] = []  # of an incomplete line
    mark = BYTE_ORDER_MARK
    while block := read(BLOCK_BYTES):
        *lines, rest = block.split(b"\n" if isinstance(block, bytes) else "\n")
        if lines:
            lines[0] = _join(*parts, lines[0], without=mark)
            mark, parts = "", []
            yield lines
        parts.append(rest)
        if sum(map(len, parts)) > MAX_LINE_BYTES:
            raise InvalidInputLine(f"longer than {MAX_LINE_BYTES // 2**20} MB.")
    if any(parts):
        yield [_join(*parts, without=mark)]


def _join(*parts: AnyStr, without: str) -> AnyStr:
    """Return a line without a prefix."""
    line = parts[0][:0].join(parts)
    prefix: Any = without.encode() if isinstance(line, bytes) else without
    return line.removeprefix(prefix)


def discard_input(
    file: IO[Any] | None, clock: Clock, is_cancelled: Callable[[], bool], *, idle_seconds: float = DISCARD_SECONDS
) -> None:
    """Read and discard the rest of a pipe or socket, for at most `DISCARD_SECONDS`.

    A tap that writes into a closed pipe fails, and under Meltano its traceback would bury the target's error.

    Args:
        file: The input of the run; standard input if None.
        is_cancelled: Whether to give up earlier.
        idle_seconds: How long to wait for more input. After a Ctrl-C, Meltano keeps the pipe open, and the tap is gone.
    """
    file = file or sys.stdin
    if not has_mode(file, stat.S_ISFIFO, stat.S_ISSOCK):
        return
    descriptor = file.fileno()
    started = read_at = now = clock.now()
    has_logged = False
    while now - started < DISCARD_SECONDS and now - read_at < idle_seconds and not is_cancelled():
        if now - started >= SILENT_SECONDS and not has_logged:
            has_logged = True
            message = "The run has failed. Discarding the rest of the input for up to %d s; Ctrl-C ends this."
            logger.info(message, DISCARD_SECONDS)
        ready, _, _ = select.select([descriptor], [], [], IDLE_SECONDS)
        now = clock.now()
        with contextlib.suppress(BlockingIOError):
            if ready and not os.read(descriptor, BUFFER_BYTES):
                return
            read_at = now if ready else read_at


def require_keys(message: Mapping[str, Any], **kinds: type) -> None:
    """Check that a message has the given keys, with values of the given types."""
    missing = [name for name in kinds if name not in message]
    if missing:
        names = ", ".join(f"'{each}'" for each in sorted(missing))
        raise InvalidInputLine(f"missing key{'s' if len(missing) > 1 else ''} {names}.")
    for name, kind in kinds.items():
        if not isinstance(message[name], kind):
            raise InvalidInputLine(f"'{name}' is not {KINDS_OF_VALUE[kind]}.")


def require_schema(message: Mapping[str, Any]) -> None:
    require_keys(message, stream=str, schema=dict)
    if UNSTORABLE.search(message["stream"]):
        raise InvalidInputLine("'stream' holds a NUL character or an unpaired surrogate.")
    require_keys(message["schema"], properties=dict)
    keys = message.get("key_properties") or []
    require_keys({"key_properties": keys}, key_properties=list)
    if not all(isinstance(each, str) for each in keys):
        raise InvalidInputLine("'key_properties' is not a list of text.")
