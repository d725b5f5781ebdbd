"""Sends a counter, a gauge and a histogram with OpenTelemetry's exporter: otlp.py ENDPOINT TEMPORALITY."""

import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

endpoint, temporality = sys.argv[1:]
preferred = AggregationTemporality[temporality]
exporter = OTLPMetricExporter(
    endpoint=endpoint,
    compression=Compression.Gzip,
    preferred_temporality={Counter: preferred, Histogram: preferred},
)
# Exports only when it is told to.
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
resource = Resource({
    "service.namespace": "shop",
    "service.name": temporality.lower(),
    "service.instance.id": "i1",
    "host.name": "db1",
})
buckets = View(
    instrument_name="batch.duration",
    aggregation=ExplicitBucketHistogramAggregation((0.5, 1.0)),
)
provider = MeterProvider(metric_readers=[reader], resource=resource, views=[buckets])
meter = provider.get_meter("backfill", "1.0")

rows = meter.create_counter("rows.copied", unit="{row}", description="Rows copied.")
left = meter.create_gauge("buffer.size", unit="By")
durations = meter.create_histogram("batch.duration", unit="s")

rows.add(40, {"table.name": "orders"})
left.set(1024)
durations.record(0.25)
assert provider.force_flush()
rows.add(2, {"table.name": "orders"})
durations.record(0.75)
durations.record(3)
assert provider.force_flush()
# A shutdown exports once more.
provider.shutdown()
