"""What the clip stage keeps of one camera from its opening to its end."""

from __future__ import annotations

import dataclasses

from stream.analysis.ring import ClipRing
from stream.cameras.config import CameraConfig, RegionConfig
from stream.types import CameraOpened, SampledFrame, View

__all__ = ["CameraSession", "ViewState"]


@dataclasses.dataclass
class ViewState:
    """A view's slot of the ring, its region, and its newest frame."""

    slot: int
    region: RegionConfig | None
    count: int = 0  # frames since the clip was restarted
    has_emitted: bool = False  # whether a clip was cut since then
    latest: SampledFrame | None = None

    def restart(self) -> None:
        """Forget the frames."""
        self.count = 0
        self.has_emitted = False
        self.latest = None


class CameraSession:
    """One camera's settings, and the state of its views.

    A view takes its slot with its first frame: the slots of a camera that was removed are free
    again only when its last frame has been dealt with.
    """

    def __init__(self, opened: CameraOpened, default_stride: int) -> None:
        self.opened = opened
        self.stride = opened.config.hop or default_stride
        self.views: dict[View, ViewState] = {}

    @property
    def config(self) -> CameraConfig:
        """The camera's settings."""
        return self.opened.config

    @property
    def generation(self) -> int:
        """The number of the camera's latest opening."""
        return self.opened.generation

    @property
    def has_emitted(self) -> bool:
        """Whether any view has given a clip since it was restarted."""
        return any(state.has_emitted for state in self.views.values())

    def acquire(self, ring: ClipRing) -> int:
        """Take slots for views that have none; returns for how many the ring has no slot."""
        missing = 0
        regions = self.config.regions or (None,)
        for view, region in zip(self.config.views, regions, strict=True):
            if view in self.views:
                continue
            if ring.free:
                self.views[view] = ViewState(ring.acquire(), region)
            else:
                missing += 1
        return missing

    def release(self, ring: ClipRing) -> None:
        """Give all slots back."""
        for state in self.views.values():
            ring.release(state.slot)
        self.views.clear()
