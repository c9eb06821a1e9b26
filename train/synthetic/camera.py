"""A pinhole camera: it projects world points in metres to pixels.

World axes: `x` to the right, `y` up, `z` away from the camera; the floor is `y` = 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.body import FloatArray

__all__ = ["Camera", "random_camera"]


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera at `height_metres` above the floor; tilt (down) and pan are in radians."""

    width: int
    height: int
    focal_pixels: float
    height_metres: float
    tilt: float
    pan: float

    def project(self, points: FloatArray) -> FloatArray:
        """Project points `[N, 3]` in front of the camera to columns and rows `[N, 2]`."""
        x = points[:, 0]
        y = points[:, 1] - self.height_metres
        z = points[:, 2]
        x, z = (
            x * np.cos(self.pan) - z * np.sin(self.pan),
            x * np.sin(self.pan) + z * np.cos(self.pan),
        )
        y, z = (
            y * np.cos(self.tilt) + z * np.sin(self.tilt),
            z * np.cos(self.tilt) - y * np.sin(self.tilt),
        )
        z = np.maximum(z, 0.05)
        columns = self.width / 2 + self.focal_pixels * x / z
        rows = self.height / 2 - self.focal_pixels * y / z
        return np.stack([columns, rows], axis=1)

    def project_points(self, *points: tuple[float, float, float]) -> FloatArray:
        """Project single points (x, y, z), as `project` does."""
        return self.project(np.array(points, np.float64))

    def scale(self, z: float) -> float:
        """Return the pixels per metre at distance z."""
        return self.focal_pixels / max(z, 0.3)


def random_camera(rng: np.random.Generator, width: int, height: int, z: float) -> Camera:
    """Draw a camera on a wall or tripod, aimed at people at distance z.

    These people fill about two thirds of the frame's height.
    """
    # Narrow frames get a smaller focal length, so that the whole room stays in view.
    fraction = rng.uniform(0.52, 0.75) * min(1.0, (width / height) / (16 / 9))
    height_metres = float(rng.uniform(1.2, 2.6))
    return Camera(
        width,
        height,
        focal_pixels=float(fraction * height * z / 1.7),
        height_metres=height_metres,
        tilt=float(np.arctan2(height_metres - 0.95, z)),
        pan=float(rng.normal(0, 0.02)),
    )
