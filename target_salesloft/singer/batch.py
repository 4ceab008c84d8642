"""Reads the files of BATCH messages."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import IO, Any, Final, NamedTuple, cast

from singer_sdk import batch as sdk_batch
from singer_sdk.singerlib.exceptions import InvalidInputLine
from upath import UPath

from target_salesloft.encoding import decode_object, to_json_types
from target_salesloft.redaction import redact_secrets, sanitize_line
from target_salesloft.singer.reader import INPUT_ERRORS, read_lines
from target_salesloft.storage import buffered

ENCODINGS: Final = (("jsonl", "gzip"), ("jsonl", "none"), ("jsonl", None), ("arrow", "none"), ("arrow", None))
MAX_NAME: Final = 300
MAX_REASON: Final = 200
QUERY: Final = re.compile(r"([?#]|%3f|%23).*", re.IGNORECASE | re.DOTALL)
PARAMETERS: Final = re.compile(r"([;&]|%3b|%26)((?!%2f)[^/])*", re.IGNORECASE)
DELIMITER: Final = re.compile(r"[?#;&]|%3f|%23|%3b|%26", re.IGNORECASE)
AT: Final = re.compile(r"@|%40")
SCHEME: Final = re.compile(r"[a-z][a-z0-9+.:-]*", re.IGNORECASE)
LOCAL_SCHEMES: Final = frozenset({"file", "local"})
LOCAL_PATH: Final = re.compile(r"/(?!/)|\.{1,2}/")


class BatchRecord(NamedTuple):
    file: str  # safe to log
    line: int  # from 1
    size: int  # the length of the line in bytes
    record: dict[str, Any]


def read_batch(message: Mapping[str, Any], storage: Mapping[str, Any] | None) -> Iterator[BatchRecord]:
    """Yield the records of a BATCH message's files, one at a time: a file may be larger than memory.

    Args:
        storage: The setting `batch_config.storage`, which overrides the location of the files.

    Raises:
        InvalidInputLine: A file cannot be read or has invalid content. The message names the file and line.
    """
    encoding = message["encoding"]
    if (encoding.get("format"), encoding.get("compression")) not in ENCODINGS:
        raise InvalidInputLine(
            "unsupported BATCH encoding. Set the tap's batch_config.encoding to format jsonl and compression gzip or "
            "none, or to format arrow without compression."
        )
    for url in message["manifest"]:
        if not isinstance(url, str):
            raise InvalidInputLine("'manifest' is not a list of text.")
        name = file_name(url)
        line = 0
        try:
            with open_file(url, storage) as file:
                if encoding["format"] == "arrow":
                    for record in read_arrow(file):
                        line += 1
                        yield BatchRecord(name, line, len(repr(record)), record)
                    continue
                for text in read_lines(decompressed(file) if encoding.get("compression") == "gzip" else file):
                    line += 1
                    if text and not text.isspace():
                        yield BatchRecord(name, line, len(text), decode_object(text))
        except INPUT_ERRORS as error:
            raise InvalidInputLine(f"{name}:{line}: {error}" if line else f"{name}: {error}") from None
        except Exception as error:  # packages of object stores may raise anything
            reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            if isinstance(error, ImportError):
                reason = str(error)  # names the package to install
            reason = sanitize_line(redact_secrets(QUERY.sub("", reason), url), MAX_REASON)
            place = f"{name}:{line}" if line else name
            raise InvalidInputLine(f"{place}: cannot read batch file ({reason}).") from error


def file_name(url: str) -> str:
    """Return a URL that is safe to log: without query, fragment, parameters, and credentials.

    They are also recognized without a scheme, and if percent-encoded. When in doubt, more is removed than necessary.
    """
    shown = PARAMETERS.sub("", QUERY.sub("", url))
    scheme, separator, rest = shown.rpartition("://")
    is_local = scheme.lower() in LOCAL_SCHEMES if separator else LOCAL_PATH.match(rest)
    if not is_local:
        if AT.search(DELIMITER.split(url, maxsplit=1)[-1]) and DELIMITER.search(url):
            rest = "…"  # a query with an @, or a password with a question mark
        # Up to the last @: a password may contain a slash.
        shown = f"{scheme if SCHEME.fullmatch(scheme) else '…'}{separator}" if separator else ""
        shown += AT.split(rest)[-1]
    return sanitize_line(shown, MAX_NAME) or "…"


def open_file(url: str, storage: Mapping[str, Any] | None) -> IO[bytes]:
    """Open a batch file for reading. Unlike the SDK's `StorageTarget`, this doesn't create directories."""
    path = UPath(url)
    if storage and storage.get("root"):
        path = UPath(storage["root"], **(storage.get("params") or {})) / path.name
    if path.protocol == "memory":
        raise InvalidInputLine("memory:// files are private to the tap's process. Use file:// or a bucket.")
    return buffered(path.open("rb"))


def read_arrow(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of an Arrow IPC file, which requires SDK 0.55."""
    reader = getattr(sdk_batch, "BaseBatchReader", None)
    if reader is None:
        raise ImportError("the Arrow format requires singer-sdk 0.55")
    yield from map(to_json_types, reader.from_encoding(SimpleNamespace(format="arrow", compression=None)).read(file))


def decompressed(file: IO[bytes]) -> IO[bytes]:
    if not file.read(1):
        raise EOFError("empty")  # `gzip` accepts it
    file.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
