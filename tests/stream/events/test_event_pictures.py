"""Pictures of events: the best frame, painted for the action of the event."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.events.event_pictures import EventPictures
from stream.events.snapshots import Snapshot
from tests.support.factory import make_event


class Store:
    """Keeps what it is offered."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def offer(self, snapshot: Snapshot) -> bool:
        self.snapshots.append(snapshot)
        return True


def test_the_best_frame_is_painted_with_its_action_and_confidence() -> None:
    asked: list[tuple[str, float, int]] = []

    def paint(
        clip: Tensor, frame: NDArray[np.uint8], action: str, confidence: float
    ) -> NDArray[np.uint8]:
        asked.append((action, confidence, int(frame[0, 0, 0])))
        return frame + 1

    store = Store()
    pictures = EventPictures(store, paint)
    event = make_event(1, action="fall", kind="started")
    for confidence, level in ((0.6, 10), (0.9, 20), (0.7, 30)):
        frame = np.full((8, 8, 3), level, np.uint8)
        pictures.note_frame(
            {"fall": event.event_id}, {"fall": confidence}, frame, torch.zeros(1, 3, 4, 8, 8)
        )
    assert pictures.picture_of(event) is not None
    assert asked == [("fall", 0.9, 20)]
    _, painted = dataclasses.astuple(store.snapshots[0])
    assert int(painted[0, 0, 0]) == 21


def test_an_overlay_is_that_of_the_named_action(tiny_weights: Path) -> None:
    recogniser = Recogniser(
        InferConfig(weights=str(tiny_weights), device="cpu", precision="float32")
    )
    framing = recogniser.spec.preprocess
    clip = torch.randn(1, 3, recogniser.spec.model.frames, framing.height, framing.width)
    frame = np.full((180, 320, 3), 100, np.uint8)
    first, second = recogniser.spec.labels[1:3]
    one = recogniser.overlay(clip, frame, first, 0.93)
    other = recogniser.overlay(clip, frame, second, 0.93)
    assert one.shape == frame.shape
    # Below the title, only the maps differ; they are of different actions.
    assert (one[60:] != other[60:]).any()
    assert np.array_equal(frame, np.full_like(frame, 100))
