"""An SDK target that does nothing, with the SDK's defaults."""

from __future__ import annotations

from typing import Any, ClassVar

from singer_sdk import Target
from singer_sdk.sinks import BatchSink


class NoopSink(BatchSink):
    """Discards batches."""

    def process_batch(self, context: dict[str, Any]) -> None:
        """Discard the batch."""


class NoopTarget(Target):
    """Does nothing."""

    name = "target-noop"
    config_jsonschema: ClassVar[dict[str, Any]] = {"properties": {}}
    default_sink_class = NoopSink


if __name__ == "__main__":
    NoopTarget.cli()
