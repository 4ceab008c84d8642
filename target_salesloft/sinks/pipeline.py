"""The steps of a stream's payloads between merging and writing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from target_salesloft.config.schema import SkipUnchanged
from target_salesloft.objects import DeletedRecords, SyncMode
from target_salesloft.reporting.stats import Comparison, StreamStats
from target_salesloft.steps.compare import CompareStep
from target_salesloft.steps.identity import IdentityStep
from target_salesloft.steps.ids import IdStep
from target_salesloft.steps.memberships import MembershipStep
from target_salesloft.steps.overwrite import resolve_overwrite
from target_salesloft.steps.reader import Reader
from target_salesloft.steps.references import DeferredPayloads, ReferenceStep
from target_salesloft.steps.removal import RemovalForecastStep, RemovalStep
from target_salesloft.steps.unchanged import UnchangedStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_salesloft.config.streams import StreamSettings
    from target_salesloft.context import RunContext
    from target_salesloft.ledger.base import StreamLedger
    from target_salesloft.mapping.payload import Payload
    from target_salesloft.steps.base import Step


class HoldRemovals(Protocol):
    """Holds removals back, unless payloads with some keys were written later."""

    def __call__(self, payloads: list[Payload], written_keys: list[str | None]) -> None:
        """Hold the removals of `payloads`, and cancel those of `written_keys`."""


def build_steps(  # noqa: PLR0913 (dependencies are passed in)
    stream: str,
    settings: StreamSettings,
    context: RunContext,
    *,
    stats: StreamStats,
    ledger: StreamLedger,
    deferred: DeferredPayloads,
    hold_removals: HoldRemovals,
) -> Iterator[Step]:
    """Yield the steps that the settings of a stream call for, in order.

    Args:
        stream: The stream's name.
        settings: Its settings.
        context: What the run shares.
        stats: Its counts.
        ledger: What the ledger knows of it.
        deferred: Takes payloads that wait for records that they refer to.
        hold_removals: Takes removals.

    Raises:
        ConfigError: The setting `overwrite` names a field that does not exist, or that identifies the records.
    """
    operation = settings.object.operations[settings.sync_mode]
    writer = context.get_writer(stream)
    if settings.object.references and context.references is not None:
        yield ReferenceStep(context.references, settings.missing_references, stats, operation.identity, deferred)
    if operation.identity and context.references is not None:
        yield IdentityStep(operation.identity)
    if operation.needs_id and context.lookups is not None:
        yield IdStep(settings.object, settings.upsert_key, context.lookups, writer, context.memory)
    if settings.deleted_records is not DeletedRecords.SKIP:
        yield _build_removal_step(stream, settings, context, ledger, hold_removals)
    # The ledger does not know whether a membership is still in effect.
    if not settings.re_enroll and settings.skip_unchanged is not SkipUnchanged.SALESLOFT:
        yield UnchangedStep(
            ledger,
            partial(writer.get_held, settings.object),
            settings.sync_mode,
            skip=settings.skip_unchanged is SkipUnchanged.LEDGER,
            resend_after_days=context.config.get("resend_after_days"),
            clock=context.clock,
            stats=stats,
        )
    if context.config["compare"] and stats.comparison is None:
        stats.comparison = Comparison()
    if operation.active_field and context.lookups is not None:
        yield MembershipStep(context.lookups.memberships, re_enroll=settings.re_enroll, stats=stats)
    skips = stats.comparison is not None or settings.skip_unchanged is SkipUnchanged.SALESLOFT
    overwrite = resolve_overwrite(stream, settings, partial(context.custom_fields.get, settings.object))
    keeps = overwrite and settings.sync_mode is not SyncMode.INSERT
    if settings.upsert_key and context.lookups is not None and (skips or keeps):
        yield CompareStep(
            stream,
            settings,
            overwrite,
            reader=Reader(settings.object, context.lookups, context.memory),
            memory=context.memory.stream(stream, settings.object.name),
            ledger=ledger,
            writer=writer,
            skip=skips,
            stats=stats,
        )


def _build_removal_step(
    stream: str, settings: StreamSettings, context: RunContext, ledger: StreamLedger, hold: HoldRemovals
) -> Step:
    if context.lookups is None or context.writer is None:
        return RemovalForecastStep(lambda each: context.count_removals(stream, each, settings.object, settings))
    return RemovalStep(
        settings.object,
        settings.object.removals[settings.deleted_records],
        settings.upsert_key,
        lookups=context.lookups,
        writer=context.writer,
        hold=hold,
        forget=ledger.forget,
    )
