"""Reads with prometheus_api_client, and prints what it got as JSON: read.py URL START END."""

import datetime
import json
import sys

from prometheus_api_client import PrometheusConnect

url, start, end = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])


def time(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


client = PrometheusConnect(url=url)
print(json.dumps({
    "metrics": client.all_metrics(),
    "labels": client.get_label_names(),
    "values": client.get_label_values("table"),
    "instant": client.custom_query("sum(rows)", params={"time": end}),
    "range": client.custom_query_range(
        'rows{table="orders"}', start_time=time(start), end_time=time(end), step="30s"
    ),
    "raw": client.get_metric_range_data(
        "rows", {"table": "users"}, start_time=time(start - 1), end_time=time(end),
        chunk_size=datetime.timedelta(seconds=end - start + 1),
    ),
}))
