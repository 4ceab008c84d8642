"""The interface of the ledger, and the one of a run without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from target_salesloft.ledger.failed import NullFailedRecords

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from target_salesloft.ledger.entry import Entry
    from target_salesloft.ledger.failed import FailedRecords
    from target_salesloft.mapping.payload import Payload


class StreamLedger(Protocol):
    """What the ledger knows of the records of one stream. Another stream that writes the same records has its own.

    Attributes:
        failed: Failed records that are not resolved.
    """

    failed: FailedRecords

    def fingerprint(self, payload: Payload) -> bytes:
        """Return the hash of what a payload writes, to compare it with an entry."""

    def get(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return key → entry of the records that are known."""

    def mark_pending(self, payloads: Iterable[Payload]) -> None:
        """Note durably what is about to be sent; payloads without a key are not remembered.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def confirm(self, results: Iterable[tuple[str, int | None]]) -> None:
        """Note that Salesloft holds what was marked as pending.

        Args:
            results: Key and Salesloft's id, if known, of each record.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def reject(self, keys: Iterable[str]) -> None:
        """Note that Salesloft has not taken what was sent last; earlier payloads of unknown outcome stay pending.

        Raises:
            LedgerError: The ledger cannot be written.
        """


class Ledger(Protocol):
    """What earlier runs did for one team of Salesloft."""

    def stream(self, name: str, object_name: str) -> StreamLedger:
        """Return what is known of a stream."""

    def start_run(self, run_id: str, version: str) -> None:
        """Note that a run has started."""

    def finish_run(self, **values: Any) -> None:
        """Note how the run ended: columns of the table `runs`."""

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, int]:
        """Return value → Salesloft's id, for those that are known.

        Args:
            reference: Such as `account.domain`.
            values: Normalized values.
        """

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        """Remember value → Salesloft's id."""

    def forget_lookups(self, reference: str, values: Iterable[str]) -> None:
        """Forget ids that are gone."""


class NullStreamLedger:
    """Knows nothing.

    Attributes:
        failed: Knows no failed records.
    """

    def __init__(self) -> None:
        self.failed: FailedRecords = NullFailedRecords()

    def fingerprint(self, payload: Payload) -> bytes:  # noqa: ARG002
        """Return nothing to compare."""
        return b""

    def get(self, keys: Iterable[str]) -> dict[str, Entry]:  # noqa: ARG002
        """Return no entry."""
        return {}

    def mark_pending(self, payloads: Iterable[Payload]) -> None:
        """Do nothing."""

    def confirm(self, results: Iterable[tuple[str, int | None]]) -> None:
        """Do nothing."""

    def reject(self, keys: Iterable[str]) -> None:
        """Do nothing."""


class NullLedger:
    """A run without memory: `ledger_uri: none`."""

    def stream(self, name: str, object_name: str) -> NullStreamLedger:  # noqa: ARG002
        """Return a stream of which nothing is known."""
        return NullStreamLedger()

    def start_run(self, run_id: str, version: str) -> None:
        """Do nothing."""

    def finish_run(self, **values: Any) -> None:
        """Do nothing."""

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, int]:  # noqa: ARG002
        """Return no id."""
        return {}

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        """Do nothing."""

    def forget_lookups(self, reference: str, values: Iterable[str]) -> None:
        """Do nothing."""
