"""Pushes with prometheus_client: push.py GATEWAY STEP."""

import sys

from prometheus_client import (
    CollectorRegistry, Counter, Gauge, Histogram,
    delete_from_gateway, push_to_gateway, pushadd_to_gateway,
)

gateway, step = sys.argv[1:]
# A value with a slash goes as base64, and so does an empty one.
key = {"path": "a/b", "empty": ""}
registry = CollectorRegistry()

if step == "push":
    Gauge("rows_left", "Rows to go.", ["table"], registry=registry).labels("orders").set(12.5)
    Counter("rows_copied", "Rows copied.", registry=registry).inc(41)
    durations = Histogram("batch_seconds", "Batches.", buckets=[0.5, 1], registry=registry)
    for seconds in (0.25, 0.75, 3):
        durations.observe(seconds)
    push_to_gateway(gateway, job="backfill", registry=registry, grouping_key=key)
elif step == "add":
    Gauge("rows_left", "Rows to go.", ["table"], registry=registry).labels("users").set(1)
    pushadd_to_gateway(gateway, job="backfill", registry=registry, grouping_key=key)
elif step == "replace":
    Gauge("done", "Whether it is done.", registry=registry).set(1)
    push_to_gateway(gateway, job="backfill", registry=registry, grouping_key=key)
elif step == "delete":
    delete_from_gateway(gateway, job="backfill", grouping_key=key)
else:
    sys.exit(f"unknown step {step}")
