"""The counters of all workers as Prometheus text.

A module of its own, imported when somebody first asks: the library brings four mebibytes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from holdall.server.metrics import (
    ACCESS_FAILURES,
    BUCKETS_SECONDS,
    CACHE_HITS,
    CONNECTIONS,
    ENTRIES,
    ENTRY_BYTES,
    EXPIRED,
    LATENCY,
    LATENCY_ROW,
    RECEIVED_BYTES,
    REQUESTS,
    SENT_BYTES,
    STATUSES,
    SWEEPS,
    VERBS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from holdall.server.metrics import Metrics

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(metrics: Metrics, *, free_bytes: int) -> bytes:
    """All workers' counters as Prometheus text.

    Args:
        metrics: Any worker's.
        free_bytes: Room on the store's disk.
    """
    metrics.publish()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Totals(metrics, free_bytes))
    return generate_latest(registry)


class _Totals(Collector):
    def __init__(self, metrics: Metrics, free_bytes: int) -> None:
        self._metrics = metrics
        self._free_bytes = free_bytes

    def collect(self) -> Iterator[Metric]:
        total = self._metrics.total
        requests = CounterMetricFamily("holdall_requests", "Requests answered.", labels=["verb", "status"])
        latency = HistogramMetricFamily(
            "holdall_request_seconds", "From a request's head to the end of its answer.", labels=["verb"]
        )
        for verb_index, verb in enumerate(VERBS):
            for status_index, status in enumerate(STATUSES):
                count = total(REQUESTS + verb_index * len(STATUSES) + status_index)
                if count:
                    requests.add_metric([verb, str(status)], count)
            base, running, buckets = LATENCY + verb_index * LATENCY_ROW, 0, []
            for index, bound in enumerate((*map(str, BUCKETS_SECONDS), "+Inf")):
                running += total(base + index)
                buckets.append((bound, float(running)))
            if running:
                latency.add_metric([verb], buckets, total(base + LATENCY_ROW - 1) / 1e9)
        yield requests
        yield latency
        for name, words, counter in (
            ("holdall_received_bytes", "Body bytes received.", RECEIVED_BYTES),
            ("holdall_sent_bytes", "Body bytes sent.", SENT_BYTES),
            ("holdall_cache_hits", "Reads answered from memory.", CACHE_HITS),
            ("holdall_access_failures", "Requests with a wrong API key.", ACCESS_FAILURES),
            ("holdall_expired_entries", "Entries removed because their retention had passed.", EXPIRED),
            ("holdall_sweeps", "Sweeps finished.", SWEEPS),
        ):
            yield CounterMetricFamily(name, words, value=total(counter))
        for name, words, value in (
            ("holdall_connections", "Open connections.", total(CONNECTIONS)),
            ("holdall_entries", "Entries seen by the last sweep.", total(ENTRIES)),
            ("holdall_entry_bytes", "Their bytes.", total(ENTRY_BYTES)),
            ("holdall_free_bytes", "Bytes free on the store's disk.", self._free_bytes),
        ):
            yield GaugeMetricFamily(name, words, value=value)
