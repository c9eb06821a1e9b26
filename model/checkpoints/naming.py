"""Translate the tensor names of a public package into the names of this project, by rules.

The pattern of a rule matches the start of a name; the rest of the name (`weight`, `running_mean`,
...) is kept. `{s}` is the number of a stage (0 for stage 2), `{l}` the number of a connection
between pathways, `{b}` the number of a block, and `{k}` the number of a convolution in the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from model.media.preprocess import MEAN_RGB, STD_RGB

__all__ = ["BLOCK", "STAGE", "Naming", "Numbers", "Statistics"]

Statistics = tuple[float, float, float]
# For the groups `s` and `l` of the patterns: our number for each of the package's numbers.
Numbers = dict[str, dict[str, int]]
_CONV = {"a": "1", "b": "2", "c": "3"}
STAGE = r"(?P<s>[0-9]{1,3})"
BLOCK = r"(?P<b>[0-9]{1,3})"


@dataclass(frozen=True)
class Naming:
    """The tensor names of one package, and the settings with which it trains networks.

    Attributes:
        signatures: tensor names; a file of this package has one of them, and no other file has.
        rules: pairs of a pattern for the package's names and the name in this project; the first
            rule that matches is used.
        duplicates: patterns of tensor names whose tensors are also in the file under another name.
        frames_sampled: whether r2d and i3d read only every fourth frame; if not, they read all
            frames and use strides.
        non_local_pooling: where non-local blocks pool; None if they differ from the blocks of this
            project.
        statistics: means and standard deviations of the channels, in grey levels, used to
            normalise frames in training.
    """

    signatures: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    duplicates: tuple[str, ...] = ()
    frames_sampled: bool = True
    non_local_pooling: Literal["before", "none"] | None = None
    statistics: tuple[Statistics, Statistics] = (MEAN_RGB, STD_RGB)
    _compiled: list[tuple[re.Pattern[str], str]] = field(
        default_factory=list, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._compiled.extend((re.compile(pattern), target) for pattern, target in self.rules)

    def numbers(self, names: Iterable[str]) -> Numbers:
        """Number the package's stages and connections between pathways, each from 0."""
        found: dict[str, set[str]] = {"s": set(), "l": set()}
        for name in names:
            match = self._match(name)[0]
            for group in found.keys() & (match.groupdict().keys() if match else ()):
                assert match is not None
                found[group].add(match[group] or "")
        return {
            group: {number: index for index, number in enumerate(sorted(numbers, key=_as_number))}
            for group, numbers in found.items()
        }

    def translate(self, name: str, numbers: Numbers) -> str | None:
        """Return this project's name for a tensor of the package, or None if no rule matches.

        Args:
            name: name of the tensor in the package.
            numbers: result of the method `numbers`.
        """
        match, target = self._match(name)
        if match is None:
            return None
        groups = match.groupdict()
        place: dict[str, object] = {
            group: known.get(groups.get(group) or "", 0) for group, known in numbers.items()
        }
        place["b"] = groups.get("b", "")
        place["k"] = _CONV.get(groups.get("k", ""), groups.get("k", ""))
        return target.format(**place) + name[match.end() :]

    def _match(self, name: str) -> tuple[re.Match[str] | None, str]:
        for pattern, target in self._compiled:
            if match := pattern.match(name):
                return match, target
        return None, ""


def _as_number(digits: str) -> int:
    return int(digits or 0)
