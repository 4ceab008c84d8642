"""The interface of the ledger, and the one of a run without memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from target_salesloft.ledger.entry import Reshaped
from target_salesloft.ledger.failed import NullFailedRecords

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from target_salesloft.ledger.entry import Entry, UnsettledJob
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

    def hash_value(self, name: str, value: Any) -> bytes:
        """Return the hash of the value of a field, to compare it with those of an entry."""

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

    def forget(self, keys: Iterable[str]) -> None:
        """Forget records that are to be removed, whichever stream has written them.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def reject(self, keys: Iterable[str]) -> None:
        """Note that Salesloft has not taken what was sent last; earlier payloads of unknown outcome stay pending.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def note_reshaped(self, values: Iterable[tuple[str, Any, Any]]) -> None:
        """Note values that Salesloft has stored in another form.

        Args:
            values: Field, the value that was sent, and the one that Salesloft holds.

        Raises:
            LedgerError: The ledger cannot be written.
        """

    def get_reshaped(self, held: Iterable[tuple[str, Any]]) -> Reshaped:
        """Return what is known of the values that Salesloft holds of some fields."""

    def start_job(self, job_id: int, job_type: str, upsert_key: str, keys: Collection[str | None]) -> None:
        """Note durably that a bulk job is about to be marked ready, so that a later run can settle it.

        Args:
            job_id: Salesloft's id.
            job_type: Its type, such as `person/upsert`.
            upsert_key: The field that identifies a record.
            keys: The keys of its payloads, which are pending.

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

    def get_ids(self, object_name: str, keys: Iterable[str]) -> dict[str, int]:
        """Return key → Salesloft's id, of records that any stream has written."""

    def get_unsettled_jobs(self) -> list[UnsettledJob]:
        """Return the bulk jobs of earlier runs whose results are not known."""

    def settle_job(self, job_id: int, failed: Mapping[str | None, bool]) -> None:
        """Note the results of a job of an earlier run, and forget the job.

        Args:
            job_id: Salesloft's id.
            failed: Key of each record that was not written → whether it is certain that nothing was.
        """

    def forget_job(self, job_id: int) -> None:
        """Forget a job: its results are known, or never will be. Records that are still pending stay so."""

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, int]:
        """Return value → Salesloft's id, for those that are known.

        Args:
            reference: Such as `account.domain`.
            values: Normalized values.
        """

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        """Remember value → Salesloft's id."""

    def forget_lookups(self, reference: str, values: Iterable[str], ids: Collection[int] = ()) -> None:
        """Forget the ids of some values, and some ids whatever their values."""


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

    def hash_value(self, name: str, value: Any) -> bytes:  # noqa: ARG002
        """Return nothing to compare."""
        return b""

    def get(self, keys: Iterable[str]) -> dict[str, Entry]:  # noqa: ARG002
        """Return no entry."""
        return {}

    def mark_pending(self, payloads: Iterable[Payload]) -> None:
        """Do nothing."""

    def confirm(self, results: Iterable[tuple[str, int | None]]) -> None:
        """Do nothing."""

    def forget(self, keys: Iterable[str]) -> None:
        """Do nothing."""

    def reject(self, keys: Iterable[str]) -> None:
        """Do nothing."""

    def note_reshaped(self, values: Iterable[tuple[str, Any, Any]]) -> None:
        """Do nothing."""

    def get_reshaped(self, held: Iterable[tuple[str, Any]]) -> Reshaped:  # noqa: ARG002
        """Return that nothing is known."""
        return Reshaped({})

    def start_job(self, job_id: int, job_type: str, upsert_key: str, keys: Collection[str | None]) -> None:
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

    def get_ids(self, object_name: str, keys: Iterable[str]) -> dict[str, int]:  # noqa: ARG002
        """Return no id."""
        return {}

    def get_unsettled_jobs(self) -> list[UnsettledJob]:
        """Return no job."""
        return []

    def settle_job(self, job_id: int, failed: Mapping[str | None, bool]) -> None:
        """Do nothing."""

    def forget_job(self, job_id: int) -> None:
        """Do nothing."""

    def get_lookups(self, reference: str, values: Iterable[str]) -> dict[str, int]:  # noqa: ARG002
        """Return no id."""
        return {}

    def set_lookups(self, reference: str, ids: Mapping[str, int]) -> None:
        """Do nothing."""

    def forget_lookups(self, reference: str, values: Iterable[str], ids: Collection[int] = ()) -> None:
        """Do nothing."""
