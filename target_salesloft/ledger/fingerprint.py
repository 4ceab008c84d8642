"""Hashes of keys and payloads. Keyed with the ledger's salt, so that two ledgers cannot be compared."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.mapping.comparison import NOT_COMPARED, canonical, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 12
FINGERPRINT_BYTES: Final = 8
FIELD_BYTES: Final = 4
MAX_CACHED_KEYS: Final = 2**15
"""Each key is hashed several times from the look-up to the outcome: enough for the payloads of all jobs in flight."""
MAX_CACHED_VALUES: Final = 2**13
"""Many records have the same titles, cities and stages."""

encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Fingerprinter:
    """Hashes what the ledger remembers.

    Args:
        salt: The ledger's, up to 64 bytes.
    """

    def __init__(self, salt: bytes) -> None:
        key = hashlib.blake2b(digest_size=KEY_BYTES, key=salt)
        self._fingerprint = hashlib.blake2b(digest_size=FINGERPRINT_BYTES, key=salt)
        value = hashlib.blake2b(digest_size=FIELD_BYTES, key=salt)
        self._hash_key = functools.lru_cache(MAX_CACHED_KEYS)(functools.partial(_digest_text, key))
        self._hash_value = functools.partial(_digest_value, value)
        # True and 1 are equal, but not the same value.
        self._hash_cached = functools.lru_cache(MAX_CACHED_VALUES, typed=True)(self._hash_value)

    def key(self, key: str) -> bytes:
        """Return the hash of a key, such as `email_address=a@b.co`."""
        return self._hash_key(key)

    def fingerprint(self, body: Mapping[str, Any]) -> bytes:
        """Return the hash of a payload; the order of its fields does not count."""
        compared = {name: value for name, value in body.items() if name != NOT_COMPARED}
        return _digest(self._fingerprint, _encode(compared))

    def fields(self, body: Mapping[str, Any]) -> dict[str, bytes]:
        """Return field → hash of its value. Custom fields are named `custom_fields.NAME`."""
        cached = self._hash_cached
        return {
            name: cached(name, value) if isinstance(value, str) else self.value(name, value)
            for name, value in flatten(body).items()
        }

    def value(self, name: str, value: Any) -> bytes:
        """Return the hash of the value of a field, which is the same for values that mean the same."""
        if not isinstance(value, (list, dict)):
            return self._hash_cached(name, value)
        # Only what can be hashed can be the key of a cache, and in a tuple, True and 1 would be the same.
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return self._hash_cached(name, tuple(value))
        return self._hash_value(name, value)


def _digest_text(keyed: hashlib.blake2b, text: str) -> bytes:
    # A tap may send half of a surrogate pair; the record fails elsewhere.
    return _digest(keyed, text.encode(errors="surrogatepass"))


def _digest_value(keyed: hashlib.blake2b, name: str, value: Any) -> bytes:
    return _digest(keyed, _encode(canonical(name, value)))


def _encode(value: Any) -> bytes:
    try:
        return encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, default=str).encode()


def _digest(keyed: hashlib.blake2b, data: bytes) -> bytes:
    state = keyed.copy()
    state.update(data)
    return state.digest()
