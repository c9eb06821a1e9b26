"""Metrics under names that they had before."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["OldMetricNames"]


class OldMetricNames(Collector):
    """Metrics under names that they had before 0.2.0, until 0.3.0.

    Args:
        sources: old name to the metrics whose samples it shows.
    """

    def __init__(self, sources: dict[str, list[Counter] | list[Histogram]]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """The families under their old names, with the values of the new ones."""
        for old, metrics in self._sources.items():
            families = [family for metric in metrics for family in metric.collect()]
            new = ", ".join(family.name for family in families)
            family = Metric(old, f"Deprecated, gone in 0.3.0; use {new}", families[0].type)
            for source in families:
                for sample in source.samples:
                    if sample.name.endswith("_created"):
                        continue
                    name = old + sample.name.removeprefix(source.name)
                    family.samples.append(sample._replace(name=name))
            yield family
