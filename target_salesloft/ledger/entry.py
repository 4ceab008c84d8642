"""What the ledger knows about one record."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from target_salesloft.ledger.fingerprint import FIELD_BYTES, FINGERPRINT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_PENDING: Final = 8
"""How many payloads of unknown outcome are stored per record; older ones are dropped."""
FIELD_ID_BYTES: Final = 2
SIZE_BYTES: Final = 2


class Entry(NamedTuple):
    """What the ledger knows about a record of a stream.

    Attributes:
        fingerprint: Of the payload last confirmed, or None.
        record_id: Salesloft's id, if known.
        written_at: When the payload was confirmed, in seconds since the epoch.
        encoded_fields: The ids of the fields last confirmed, each with the hash of its value.
        encoded_pending: What `append_pending` has joined.
        field_names: Field id → name.
    """

    fingerprint: bytes | None
    record_id: int | None
    written_at: int | None
    encoded_fields: bytes | None
    encoded_pending: bytes | None
    field_names: Mapping[int, str]

    @property
    def is_pending(self) -> bool:
        """Whether something was sent since whose outcome is unknown: Salesloft may hold it."""
        return self.encoded_pending is not None

    @property
    def fields(self) -> dict[str, bytes]:
        """Field → hash of the value last confirmed."""
        return self._decode(self.encoded_fields or b"")

    @property
    def pending_fields(self) -> list[dict[str, bytes]]:
        """Field → hash of the value, for each payload whose outcome is unknown."""
        return [self._decode(each[FINGERPRINT_BYTES:]) for each in split_pending(self.encoded_pending)]

    @property
    def names(self) -> set[str]:
        """The fields that were written last, or may have been."""
        return {name for each in (self.fields, *self.pending_fields) for name in each}

    def values(self, name: str) -> list[bytes]:
        """Return the hashes of the values of a field that may have been written last, the latest last."""
        return [each[name] for each in (self.fields, *self.pending_fields) if name in each]

    def is_unchanged(self, fingerprint: bytes) -> bool:
        """Whether a payload equals the one last confirmed, and nothing was sent since."""
        return not self.is_pending and self.fingerprint == fingerprint

    def _decode(self, encoded: bytes) -> dict[str, bytes]:
        size = FIELD_ID_BYTES + FIELD_BYTES
        parts = (encoded[start : start + size] for start in range(0, len(encoded), size))
        return {self.field_names[int.from_bytes(each[:FIELD_ID_BYTES], "big")]: each[FIELD_ID_BYTES:] for each in parts}


class Reshaped:
    """Which values Salesloft stores in another form.

    Args:
        sent: Field and hash of the value that Salesloft holds → hashes of the values that were sent.
    """

    def __init__(self, sent: Mapping[tuple[str, bytes], Collection[bytes]]) -> None:
        self._sent = sent

    def is_known(self, name: str, sent: bytes, held: bytes) -> bool:
        """Return whether Salesloft stores one value of a field as the other, by the hashes of both."""
        return sent in self._sent.get((name, held), ())


class HashedKeys(Collection["str | None"]):
    """Keys of which only the hashes are known.

    Args:
        hashes: The hashes.
        hash_key: Returns the hash of a key.
    """

    def __init__(self, hashes: Collection[bytes], hash_key: Callable[[str], bytes]) -> None:
        self._hashes = frozenset(hashes)
        self._hash_key = hash_key

    def __contains__(self, key: object) -> bool:
        """Whether a key is one of them."""
        return isinstance(key, str) and self._hash_key(key) in self._hashes

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self._hashes)

    def __iter__(self) -> Iterator[str | None]:
        """Refuse: hashes cannot be turned into keys.

        Raises:
            TypeError: Always.
        """
        raise TypeError("Only the hashes of these keys are known.")


@dataclass(frozen=True)
class UnsettledJob:
    """A bulk job of an earlier run whose results are not known.

    Attributes:
        id: Salesloft's id.
        type: Its type, such as `person/upsert`.
        upsert_key: The field that identifies a record.
        stream: The stream that it writes.
        keys: The keys of its records, as far as nothing was sent for them since.
    """

    id: int
    type: str
    upsert_key: str
    stream: str
    keys: HashedKeys


def append_pending(earlier: bytes, payload: bytes) -> bytes:
    """Return encoded payloads of unknown outcome with one more; only the latest of many are kept."""
    kept = split_pending(earlier)[1 - MAX_PENDING :]
    return b"".join(len(each).to_bytes(SIZE_BYTES, "big") + each for each in (*kept, payload))


def split_pending(value: bytes | None) -> list[bytes]:
    """Return the payloads that `append_pending` has joined."""
    payloads = []
    rest = value or b""
    while rest:
        end = SIZE_BYTES + int.from_bytes(rest[:SIZE_BYTES], "big")
        payloads.append(rest[SIZE_BYTES:end])
        rest = rest[end:]
    return payloads
