"""Which metrics and labels a PromQL query of this project names; recorded names have a colon."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Set

_METRIC = re.compile(r"(?<![\w:])(?:cidc|process)_\w+(?![\w:])")
_SELECTOR = re.compile(r"(?<![\w:])((?:cidc|process)_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|ignoring|on)\s*\(([\w\s,]*)\)")
# Added by Prometheus, by a pipeline with several devices, and by Kubernetes.
TARGET_LABELS = frozenset({"job", "instance", "worker", "pod"})


@dataclasses.dataclass(frozen=True)
class Names:
    """What a query names.

    Attributes:
        metrics: each with the labels that its selectors name.
        labels: those by which results are grouped or matched.
    """

    metrics: Mapping[str, Set[str]]
    labels: Set[str]

    @classmethod
    def of(cls, query: str) -> Names:
        """Read the names of a query."""
        metrics: dict[str, set[str]] = {name: set() for name in _METRIC.findall(query)}
        for name, matchers in _SELECTOR.findall(query):
            metrics[name] |= set(_MATCHER.findall(re.sub(r'"[^"]*"', '""', matchers)))
        grouped = {
            label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")
        }
        return cls(metrics, grouped - {""})

    def unknown(self, known: Mapping[str, Set[str]], legend: Set[str] = frozenset()) -> list[str]:
        """What `known`, metrics with their labels, does not have.

        Args:
            legend: labels of the legend; one of the metrics must have each.
        """
        missing = [name for name in self.metrics if name not in known]
        for name, labels in self.metrics.items():
            allowed = known.get(name, frozenset()) | TARGET_LABELS
            missing += [f"{name}{{{label}}}" for label in sorted(labels - allowed)]
        anywhere = {label for name in self.metrics for label in known.get(name, ())}
        missing += sorted((self.labels | legend) - anywhere - TARGET_LABELS)
        return missing
