"""Files of records that BATCH messages name."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, TYPE_CHECKING, Any

from singer_sdk.helpers._batch import BatchFileFormat, StorageTarget
from singer_sdk.singerlib.exceptions import InvalidInputLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMPRESSIONS = ("gzip", "none", None)


def read_batch_lines(message: Mapping[str, Any], storage: dict[str, Any] | None) -> Iterator[bytes]:
    """Yield the lines of a BATCH message's files, one at a time: a file may be larger than memory.

    Args:
        message: The BATCH message.
        storage: The setting `batch_config.storage`, where the files are if not where the message says.

    Raises:
        InvalidInputLine: A file cannot be read to its end.
    """
    encoding = message["encoding"]
    compression = encoding.get("compression")
    if encoding.get("format") != BatchFileFormat.JSONL or compression not in COMPRESSIONS:
        raise InvalidInputLine(
            f"A BATCH of the encoding {encoding} cannot be read. "
            "Set the tap's batch_config.encoding to format jsonl, compression gzip or none."
        )
    for path in message["manifest"]:
        try:
            head, tail = StorageTarget.split_url(path)
            place = StorageTarget.from_dict(storage) if storage else StorageTarget.from_url(head)
            with place.open(tail, mode="rb") as file:
                yield from decompressed(file) if compression == "gzip" else file
        except (OSError, EOFError, zlib.error, ImportError, ValueError, TypeError, IndexError) as fault:
            raise InvalidInputLine(f"Its batch file {path} cannot be read to the end: {fault}.") from fault


def decompressed(file: IO[bytes]) -> gzip.GzipFile:
    """Return what is in a gzip file.

    Raises:
        EOFError: The file is empty, which `gzip` takes for an end.
    """
    if not file.read(1):
        raise EOFError("it is empty, and not gzip")
    file.seek(0)
    return gzip.GzipFile(fileobj=file)
