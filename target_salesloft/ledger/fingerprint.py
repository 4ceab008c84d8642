"""Hashes of keys and payloads. Keyed with the ledger's salt, so that two ledgers cannot be compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from target_salesloft.objects import CUSTOM_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 12
FINGERPRINT_BYTES: Final = 8
FIELD_BYTES: Final = 4
NOT_COMPARED: Final = "upsert_key"  # says how a payload is written, not what


class Fingerprinter:
    """Hashes what the ledger remembers.

    Args:
        salt: The ledger's, up to 64 bytes.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def key(self, key: str) -> bytes:
        """Return the hash of a key, such as `email_address=a@b.co`."""
        return self._hash(key.encode(), KEY_BYTES)

    def fingerprint(self, body: Mapping[str, Any]) -> bytes:
        """Return the hash of a payload; the order of its fields does not count."""
        compared = {name: value for name, value in body.items() if name != NOT_COMPARED}
        return self._hash(msgspec.json.encode(compared, order="deterministic"), FINGERPRINT_BYTES)

    def fields(self, body: Mapping[str, Any]) -> dict[str, bytes]:
        """Return field → hash of its value. Custom fields are named `custom_fields.NAME`."""
        return {name: self.value(value) for name, value in flatten(body).items()}

    def value(self, value: Any) -> bytes:
        """Return the hash of one value."""
        return self._hash(msgspec.json.encode(value, order="deterministic"), FIELD_BYTES)

    def _hash(self, data: bytes, size: int) -> bytes:
        return hashlib.blake2b(data, digest_size=size, key=self._salt).digest()


def flatten(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return field → value of a payload, with custom fields as `custom_fields.NAME`."""
    flat = {name: value for name, value in body.items() if name not in {CUSTOM_FIELDS, NOT_COMPARED}}
    custom = body.get(CUSTOM_FIELDS) or {}
    return flat | {f"{CUSTOM_FIELDS}.{name}": value for name, value in custom.items()}
