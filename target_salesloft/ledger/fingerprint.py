"""Hashes of keys and payloads. Keyed with the ledger's salt, so that two ledgers cannot be compared."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.mapping.comparison import NOT_COMPARED, canonical, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 12
FINGERPRINT_BYTES: Final = 8
FIELD_BYTES: Final = 4
MAX_CACHED_VALUES: Final = 2**14

encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Fingerprinter:
    """Hashes what the ledger remembers.

    Args:
        salt: The ledger's, up to 64 bytes.
    """

    def __init__(self, salt: bytes) -> None:
        self._key = hashlib.blake2b(digest_size=KEY_BYTES, key=salt)
        self._fingerprint = hashlib.blake2b(digest_size=FINGERPRINT_BYTES, key=salt)
        value = hashlib.blake2b(digest_size=FIELD_BYTES, key=salt)
        # Many records have the same titles, cities and stages.
        self._hash_value = functools.lru_cache(MAX_CACHED_VALUES)(functools.partial(_digest, value))

    def key(self, key: str) -> bytes:
        """Return the hash of a key, such as `email_address=a@b.co`."""
        return _digest(self._key, key.encode())

    def fingerprint(self, body: Mapping[str, Any]) -> bytes:
        """Return the hash of a payload; the order of its fields does not count."""
        compared = {name: value for name, value in body.items() if name != NOT_COMPARED}
        return _digest(self._fingerprint, encode(compared))

    def fields(self, body: Mapping[str, Any]) -> dict[str, bytes]:
        """Return field → hash of its value. Custom fields are named `custom_fields.NAME`."""
        return {name: self.value(name, value) for name, value in flatten(body).items()}

    def value(self, name: str, value: Any) -> bytes:
        """Return the hash of the value of a field, which is the same for values that mean the same."""
        return self._hash_value(encode(canonical(name, value)))


def _digest(keyed: hashlib.blake2b, data: bytes) -> bytes:
    state = keyed.copy()
    state.update(data)
    return state.digest()
