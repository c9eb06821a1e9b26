"""Writes what the measurement of attention found: a page of Markdown and a picture of examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError
from model.activation import overlay_map, titled_frame
from model.network import ActionNetwork
from train.evaluation.attention import MAP_NAMES, AttentionResult, MapsOfClips
from train.evaluation.channel_facts import ChannelFacts
from train.synthetic.attention_clips import AttentionClip

__all__ = [
    "HEADER",
    "Results",
    "attention_json",
    "attention_page",
    "attention_rows",
    "write_examples",
]

Results = Mapping[str, AttentionResult]

HEADER = ("beside the action", "map", "pointing", "energy", "above the other")
_SHOWN_MAPS = MAP_NAMES[:4]
_SHOWN_HEIGHT = 180

_INTRODUCTION = """# What the network looks at

Written by `{command}`.

Generated clips of every action. The person who acts is at a quarter of the width, left and right in
turn. Beside the action there is nothing, a person who stands still, or a rectangle that flickers.
Weights: {model}; {clips} clips each; {correct} of them are classified correctly.

*Pointing*: the maximum of the map is in the person's box, enlarged by half a cell of the map.
*Energy*: the part of the map's sum that is in the box. *Above the other*: the mean in the box is
above the mean in the box of what stands or flickers.
"""
_CHANNELS = """
The channels of the last maps, at the person and elsewhere. *Lower*: the fraction of channels whose
mean is lower at the person. *Change*: the mean distance of both means.{part}
"""
_PART = """ The CIDC
network's map gives {part:.0%} of the logit of the class that is found, above the mean logit."""


def attention_rows(results: Results) -> list[tuple[str, ...]]:
    """Return the cells of the table, in the order of `HEADER`."""
    return [
        (
            distractor,
            name,
            f"{row.pointing:.2f}",
            f"{row.energy:.2f}",
            "" if row.above_other is None else f"{row.above_other:.2f}",
        )
        for distractor, result in results.items()
        for name, row in result.maps.items()
    ]


def attention_json(results: Results) -> dict[str, Any]:
    """Return the figures as one JSON value."""
    return {distractor: dataclasses.asdict(result) for distractor, result in results.items()}


def attention_page(results: Results, *, model: str, command: str) -> str:
    """Return the page of Markdown."""
    first = next(iter(results.values()))
    clips = next(iter(first.maps.values())).clips
    correct = np.mean([result.correct for result in results.values()])
    introduction = _INTRODUCTION.format(
        model=model, clips=clips, correct=f"{correct:.0%}", command=command
    )
    part = _PART.format(part=first.cidc_part) if first.cidc_part is not None else ""
    facts = [
        (name, *(f"{value:.2f}" for value in dataclasses.astuple(fact)))
        for name, fact in first.channels.items()
    ]
    names = [field.name.replace("_", " ") for field in dataclasses.fields(ChannelFacts)]
    return "\n".join(
        [
            introduction,
            *_table(HEADER, attention_rows(results)),
            _CHANNELS.format(part=part),
            *_table(("map", *names), facts),
            "",
        ]
    )


def write_examples(network: ActionNetwork, clips: Sequence[AttentionClip], path: Path) -> None:
    """Write a picture with a row for each clip: its middle frame, and the frame with each map.

    Raises:
        MediaError: the picture cannot be written.
    """
    maps_of = MapsOfClips(network)
    rows = [_example(maps_of, clip) for clip in clips]
    width = max(row.shape[1] for row in rows)
    picture = np.vstack([_widened(row, width) for row in rows])
    try:
        coded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        path.write_bytes(coded.tobytes())
    except (cv2.error, OSError):
        raise MediaError(
            f"cannot write the picture {path}; is the folder there, and its ending .png or .jpg?"
        ) from None


def _example(maps_of: MapsOfClips, clip: AttentionClip) -> NDArray[np.uint8]:
    found = maps_of.network_maps(clip)
    maps = maps_of.named(found)
    frame = clip.frames_THWC[len(clip.frames_THWC) // 2]
    panels = [titled_frame(_small(frame), f"{clip.label}; found: {maps_of.label(found)}")]
    for name in _SHOWN_MAPS:
        if name in maps:
            map_HW = maps[name].sum(axis=0)
            strength_HW = map_HW / max(float(map_HW.max()), 1e-12)
            painted = overlay_map(_small(frame), strength_HW, maps_of.spec.preprocess)
            panels.append(titled_frame(painted, name))
    return np.hstack(panels)


def _small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = round(frame.shape[1] * _SHOWN_HEIGHT / frame.shape[0])
    small: NDArray[np.uint8] = cv2.resize(
        frame, (width, _SHOWN_HEIGHT), interpolation=cv2.INTER_AREA
    ).astype(np.uint8)
    return small


def _widened(row: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table; Markdown must not read the bars of absolute values as borders of cells."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]
