"""A target that overrides nothing but what the SDK demands: what it does is the SDK's contract."""

from singer_sdk import Target
from singer_sdk.sinks import BatchSink


class StockSink(BatchSink):
    """Takes batches."""

    def process_batch(self, context):
        """Take a batch."""


class StockTarget(Target):
    """Takes all streams."""

    name = "target-stock"
    config_jsonschema = {"type": "object", "properties": {"stream_maps": {"type": "object"}}}  # noqa: RUF012 (the SDK)
    default_sink_class = StockSink


if __name__ == "__main__":
    StockTarget.cli()
