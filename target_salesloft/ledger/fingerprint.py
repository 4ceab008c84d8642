"""Hashes of keys and payloads, keyed with the ledger's salt, so that two ledgers cannot be compared."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from target_salesloft.mapping.comparison import canonical, canonical_texts
from target_salesloft.objects import ID_FIELD, UPSERT_KEY

HASH_BYTES: Final = 8
VALUE_BYTES: Final = 4
MAX_CACHED_KEYS: Final = 2**15
"""Each key is hashed several times until its outcome. This is enough for all jobs in flight."""
REPEATED_TYPES: Final = frozenset({str, bool, type(None)})
"""Equal values of these types have the same hash. True and 1 are equal, but their hashes differ."""

encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Fingerprinter:
    """Hashes keys and payloads to 8-byte integers, and values of fields to bytes."""

    def __init__(self, salt: bytes) -> None:
        self._state = hashlib.blake2b(digest_size=HASH_BYTES, key=salt)
        self._value_state = hashlib.blake2b(digest_size=VALUE_BYTES, key=salt)
        self.key = functools.lru_cache(MAX_CACHED_KEYS)(self._hash_key)

    def _hash_key(self, key: str) -> int:
        """Return the hash of a key, such as `email_address=a@b.co`."""
        # A tap may send a lone surrogate; the record fails elsewhere.
        return self._hash(key.encode(errors="surrogatepass"))

    def fingerprint(self, body: Mapping[str, Any]) -> int:
        """Return the hash of a payload, regardless of the order of its fields."""
        compared = dict(body)
        compared.pop(UPSERT_KEY, None)
        compared.pop(ID_FIELD, None)  # the key, if it is sent
        return self._hash(_encode(compared))

    def _hash(self, data: bytes) -> int:
        state = self._state.copy()
        state.update(data)
        return int.from_bytes(state.digest(), "big", signed=True)

    def value(self, name: str, value: Any) -> bytes:
        """Return the hash of a field's value. Equivalent values have the same hash.

        Args:
            name: The field, or `custom_fields.NAME`.
        """
        return self._hash_meanings([canonical(name, value)])[0]

    def column(self, name: str, values: Sequence[Any]) -> list[bytes]:
        """Return the hashes of a field's values in many records."""
        types = {*map(type, values)}
        distinct = list({*values}) if types <= REPEATED_TYPES else []
        if 0 < len(distinct) <= len(values) // 2:
            # Many records have the same titles, cities, and stages.
            hashes = dict(zip(distinct, self.column(name, distinct), strict=True))
            return [hashes[each] for each in values]
        if types == {str}:
            return self._hash_meanings(canonical_texts(name, values))
        return self._hash_meanings([canonical(name, each) for each in values])

    def _hash_meanings(self, meanings: Iterable[str | tuple[str, ...] | None]) -> list[bytes]:
        copy, hashes = self._value_state.copy, []
        for each in meanings:
            state = copy()
            state.update(each.encode("utf-8", "surrogatepass") if isinstance(each, str) else _encode(each))
            hashes.append(state.digest())
        return hashes


def _encode(value: Any) -> bytes:
    try:
        return encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, default=str).encode()
