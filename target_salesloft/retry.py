"""Retries the failed records of earlier runs, once all newer records are written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.singerlib.exceptions import InvalidInputLine

from target_salesloft.engine.stream import Stream
from target_salesloft.exceptions import TooManyDeletedRecordsError, TooManyEnrollmentsError, UnknownColumnError
from target_salesloft.ledger.failed import UnresolvedRecord
from target_salesloft.objects import ID_FIELD
from target_salesloft.records import Outcome, Source, Write
from target_salesloft.reporting.failed_records import NO_LONGER_THERE, SavedRecord
from target_salesloft.run import Run
from target_salesloft.singer.reader import INPUT_ERRORS
from target_salesloft.wording import plural

logger = logging.getLogger(__name__)


def retry_failed_records(run: Run, streams: Mapping[str, Stream]) -> None:
    """Retry unresolved failed records of this run's streams, after STATE was emitted."""
    unresolved: dict[str, dict[int, dict[str, UnresolvedRecord]]] = {}
    found = [(each, name) for name, stream in streams.items() for each in stream.ledger.failed.get_unresolved()]
    for each, name in sorted(found):  # oldest first
        unresolved.setdefault(each.saved_at.file, {}).setdefault(each.saved_at.line, {})[name] = each
    if unresolved:
        run.engine.settle_earlier_jobs()
    for file, lines in unresolved.items():
        if run.journal.failed_records.is_in_use(file):
            logger.info("Another run is still writing to %s. A later run retries its failed records.", file)
        else:
            _retry_file(run, streams, file, lines)
    try:
        run.engine.finish(is_complete=True)
    except (TooManyDeletedRecordsError, TooManyEnrollmentsError) as error:
        logger.warning("Failed records of earlier runs are left to a later run. %s", error, extra={"code": "SL069"})
    for stream in streams.values():
        _report(stream)


def _retry_file(
    run: Run, streams: Mapping[str, Stream], file: str, lines: Mapping[int, Mapping[str, UnresolvedRecord]]
) -> None:
    """Retry the records of a file.

    Args:
        lines: Line → stream in which its record is unresolved → the record.
    """
    unusable: Counter[str] = Counter()
    missing = set(lines)
    for saved in run.journal.failed_records.read_failed(file, lines, unusable):
        run.shutdown.raise_if_stopping()
        missing.discard(saved.line)
        for name, record in lines[saved.line].items():
            try:
                _retry(run, streams[name], saved, record)
            except (ConfigValidationError, UnknownColumnError, *INPUT_ERRORS) as error:
                unusable[str(error)] += 1
    for reason, count in unusable.items():
        extra = {"code": "SL069", "records_failed": count}
        logger.warning("%s cannot be retried (%s): %s", plural(count, "failed record"), file, reason, extra=extra)
    if unusable.keys() == {NO_LONGER_THERE}:
        # They were removed from the file, so warning once is enough.
        for name, record in (each for line in missing for each in lines[line].items()):
            streams[name].ledger.failed.resolve([], [record.saved_at])


def _retry(run: Run, stream: Stream, saved: SavedRecord, record: UnresolvedRecord) -> None:
    source_stream = saved.schema["stream"]
    source = Source(
        saved.schema,
        saved.record,
        saved.line,
        record.saved_at.file,
        saved_at=record.saved_at,
        attempts=record.attempts,
    )
    if not stream.mapper.knows(source_stream):
        return
    mapped = stream.mapper.map(source)
    write = mapped.write if isinstance(mapped, Outcome) else mapped
    if isinstance(mapped, Write) and mapped.key is None:
        raise InvalidInputLine("an insert without a key may have been created. Replay the file if it is missing")
    # Skip it if any stream has written or removed the record since.
    known_ids = run.ledger.get_ids(stream.object.name, write.tokens).values()
    ids = {write.body.get(ID_FIELD, write.record_id), *known_ids} - {None}
    last = run.ledger.get_last_writes(stream.object.name, write.tokens, ids)
    is_removed = not write.tokens.isdisjoint(run.journal.removed[stream.object.name])
    if is_removed or any(each > record.failed_at for each in last.values()):
        stream.ledger.failed.resolve([], [record.saved_at])
    else:
        run.engine.feed(stream, mapped, saved.size)


def _report(stream: Stream) -> None:
    stats = stream.retried
    if not stats.read:
        return
    stream.stats.retried = {"read": stats.read, "written": stats.written, "failed": stats.failed}
    logger.info(
        "%s: retried %s of earlier runs: %s written, %s failed again.",
        *(stream.name, plural(stats.read, "failed record"), f"{stats.written:,}", f"{stats.failed:,}"),
        extra=stats.log_fields(stream.name),
    )
    for reason, count in stats.reasons.most_common():
        extra = {"code": "SL061", "stream": stream.name, "reason": reason, "records_failed": count}
        logger.warning("%s: %s × %s", stream.name, f"{count:,}", reason, extra=extra)
