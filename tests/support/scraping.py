"""The metrics of a run, as Prometheus would take them."""

from __future__ import annotations

import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


def scraped(nodes: list[dict[str, Any]]) -> dict[tuple[str, str, str], float]:
    """(name, run, stage or code) -> value, of ours on the metrics ports of a cluster's nodes."""
    found = {}
    for node in nodes:
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    if sample.name.startswith("ray_prelabel_"):
                        labels = sample.labels
                        tag = labels.get("stage") or labels.get("code") or ""
                        name = sample.name.removeprefix("ray_prelabel_")
                        found[name, labels["run"], tag] = sample.value
    return found
