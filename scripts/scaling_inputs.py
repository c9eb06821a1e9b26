"""The costs from which `scripts.scaling_table` computes, each with the page it comes from."""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = ["INPUTS", "Input", "input_table", "value"]

Kind = Literal["measured", "computed", "target", "assumed"]


@dataclasses.dataclass(frozen=True)
class Input:
    """One number.

    Attributes:
        name: for the code.
        meaning: for people, with the unit.
        kind: `measured` here; `computed` from the code; `target`: what a GPU should reach, and
            nobody has measured; `assumed`: replace it with your own.
        source: page of the documentation, below `docs`, or the code that it comes from.
        quote: text on that page that holds the number; a test looks for it.
    """

    name: str
    meaning: str
    value: float
    kind: Kind
    source: str
    quote: str = ""


_PIPELINE = "results/pipeline.md"
_GPU = "how-to/gpu.md"

INPUTS = (
    Input(
        "cameras_per_pair",
        "cameras of 720p30 that two CPU cores carry, demo's network",
        15,
        "measured",
        _PIPELINE,
        "| this project | 15 |",
    ),
    Input(
        "cores_per_camera",
        "CPU cores for each of them",
        0.113,
        "measured",
        _PIPELINE,
        "among fifteen, 0.113",
    ),
    Input(
        "network_cores",
        "the part of the demo's network in that, cores",
        0.025,
        "measured",
        _PIPELINE,
        "network 0.025 in batches of 8",
    ),
    Input(
        "large_network_ms",
        "CIDC on I3D-50, 8 clips of 32 x 224 x 224 on two CPU cores, ms",
        611,
        "measured",
        "results/network.md",
        "| CIDC on I3D-50 | 8 | 1916 | 865 | 611 |",
    ),
    Input(
        "stream_megabits",
        "one camera of 720p30 in H.264, Mbit/s",
        2.6,
        "measured",
        _PIPELINE,
        "720p30 H.264 at 2.6 Mbit/s",
    ),
    Input(
        "large_stream_megabits",
        "one camera of 1080p30 in H.264, Mbit/s",
        4.0,
        "assumed",
        "no page",
    ),
    Input(
        "nvdec_frames_per_second",
        "frames of 1080p that one H100 decodes in a second",
        3000,
        "target",
        _GPU,
        "frames a second: 100 cameras of 30 | at least 3000",
    ),
    Input(
        "gpu_clips_per_second",
        "clips of CIDC on I3D-50 that one H100 analyses in a second",
        1500,
        "target",
        _GPU,
        "bfloat16, batch 64 | at least 1500",
    ),
    Input(
        "packet_microseconds",
        "Python's time for each packet that NVDEC decodes, microseconds",
        170,
        "measured",
        _GPU,
        "160 to 170 microseconds for each packet",
    ),
    Input(
        "outbox_events_per_second",
        "events that one process hands to a broker in a second, topic of open events not included",
        7200,
        "measured",
        _PIPELINE,
        "It hands 7,200 a second",
    ),
    Input(
        "busy_actions_per_hour",
        "actions of one camera in an hour, full of actions (the demo: 47 by 4 cameras in 60.1 s)",
        704,
        "measured",
        _PIPELINE,
        "47 actions in 60.1 s",
    ),
    Input(
        "calm_actions_per_hour",
        "actions of one camera in an hour, calm",
        60,
        "assumed",
        "no page",
    ),
    Input(
        "events_per_action",
        "events of one action, with the default `events.update_seconds: 0`",
        2,
        "computed",
        "reference/events.md",
        "never if that is 0",
    ),
    Input(
        "event_bytes",
        "one event as JSON, bytes",
        537,
        "computed",
        "`stream/events/event.py`",
    ),
    Input(
        "camera_record_bytes",
        "record of one camera, key and value, bytes",
        140,
        "computed",
        "`stream/fleet/records.py`",
    ),
    Input(
        "outbox_bytes",
        "one event in the outbox on disk, bytes",
        1440,
        "computed",
        "`stream/events/outbox.py`",
    ),
    Input(
        "memory_one_megabytes",
        "memory of a process with one small camera, MB",
        640,
        "measured",
        "how-to/least-rights.md",
        "one small camera, on two CPU cores | 640 MB |",
    ),
    Input(
        "memory_ten_megabytes",
        "memory of a process with ten RTSP cameras, after 2,400 flaps, MB",
        714,
        "measured",
        _PIPELINE,
        "resident memory 663, then 698, 714, 706, 714 MB",
    ),
    Input(
        "series_per_camera",
        "series of Prometheus for a camera that has no trouble and 5 actions",
        45,
        "computed",
        "`stream/metrics.py`",
    ),
    Input(
        "partitions_per_worker",
        "partitions for each worker, at least (`cameras_from.min_partitions_per_worker`)",
        8,
        "computed",
        "`stream/fleet/config.py`",
    ),
    Input(
        "fill_fraction",
        "fraction of a worker's capacity that is planned for",
        0.7,
        "assumed",
        "no page",
    ),
    Input("replicas", "replicas of each topic", 3, "assumed", "no page"),
    Input("retention_days", "days for which events are kept", 7, "assumed", "no page"),
)
_BY_NAME = {each.name: each.value for each in INPUTS}


def value(name: str) -> float:
    """Return the value of an input.

    Raises:
        KeyError: there is none of this name.
    """
    return _BY_NAME[name]


def input_table() -> str:
    """Return the inputs as a table in Markdown, with links from the folder `docs`."""
    lines = ["| input | value | kind | from |", "|---|---|---|---|"]
    for each in INPUTS:
        source = f"[{each.source}]({each.source})" if each.source.endswith(".md") else each.source
        lines.append(f"| {each.meaning} | {each.value:g} | {each.kind} | {source} |")
    return "\n".join(lines) + "\n"
