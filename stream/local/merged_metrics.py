"""The metrics of several workers as one text, each sample with the label `worker`."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["merge_metrics"]

# What Prometheus's text format appends to the name of a family in the names of its samples.
_END = "# EOF"  # the last line of OpenMetrics
_ENDINGS = ("_total", "_created", "_bucket", "_sum", "_count")


def merge_metrics(texts: Mapping[str, str], *, openmetrics: bool = False) -> str:
    """Merge expositions of one format; each family has one heading. Exemplars stay.

    Args:
        openmetrics: whether the format is OpenMetrics; if not, it is Prometheus's text format.
        texts: the exposition of each worker, by its name; under the empty name samples that have
            the label already.
    """
    headings: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line == _END:
                break
            if line.startswith("#"):
                _, kind, family = line.split(" ", 3)[:3]
                known = headings.setdefault(family, [])
                if kind not in {heading.split(" ", 2)[1] for heading in known}:
                    known.append(line)
            elif line:
                samples.setdefault(_family_of(line, family), []).append(_labelled(line, worker))
    lines = []
    for family in headings | samples:
        lines += headings.get(family, [])
        lines += samples.get(family, [])
    if openmetrics:
        lines.append(_END)
    return "".join(f"{line}\n" for line in lines)


def _family_of(line: str, heading: str) -> str:
    """Return the family of a sample: the heading before it, if its name belongs to that."""
    name = line.partition("{")[0].partition(" ")[0]
    names = {heading, *(heading + ending for ending in _ENDINGS)}
    return heading if name in names else name


def _labelled(line: str, worker: str) -> str:
    if not worker:
        return line
    name, brace, rest = line.partition("{")
    if brace and " " not in name:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'
