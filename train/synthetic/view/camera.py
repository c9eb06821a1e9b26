"""A camera with a lens: it projects world points in metres to pixels.

World axes: `x` to the right, `y` up, `z` away from the camera; the floor is `y` = 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from train.synthetic.motions.body import FloatArray

__all__ = ["Camera", "random_camera"]

_NEAREST_METRES = 0.05
_CHEST_METRES = 0.9
_PERSON_METRES = 1.7


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera at (`x_metres`, `height_metres`, `z_metres`).

    Tilt (down), pan (to the right) and roll are in radians. `distortion` is the barrel distortion
    of the lens: 0 is none, and 1 is that of a very wide lens.
    """

    width: int
    height: int
    focal_pixels: float
    height_metres: float
    tilt: float
    pan: float
    roll: float = 0.0
    x_metres: float = 0.0
    z_metres: float = 0.0
    distortion: float = 0.0

    def project(self, points: FloatArray) -> FloatArray:
        """Project points `[N, 3]` in front of the camera to columns and rows `[N, 2]`."""
        x, y, z = self._from_world(points).T
        z = np.maximum(z, _NEAREST_METRES)
        u, v = x / z, -y / z
        if self.distortion:
            bend = self.distortion * np.maximum(np.hypot(u, v), 1e-6)
            u, v = (value * np.arctan(bend) / bend for value in (u, v))
        sine, cosine = np.sin(self.roll), np.cos(self.roll)
        columns = self.width / 2 + self.focal_pixels * (u * cosine - v * sine)
        rows = self.height / 2 + self.focal_pixels * (u * sine + v * cosine)
        return np.stack([columns, rows], axis=1)

    def project_points(self, *points: tuple[float, float, float]) -> FloatArray:
        """Project single points (x, y, z), as `project` does."""
        return self.project(np.array(points, np.float64))

    def directions(self, columns: FloatArray, rows: FloatArray) -> FloatArray:
        """Return what `project` maps to these pixels: directions `[3, ...]` in world axes."""
        sine, cosine = np.sin(self.roll), np.cos(self.roll)
        across = (columns - self.width / 2) / self.focal_pixels
        down = (rows - self.height / 2) / self.focal_pixels
        u, v = across * cosine + down * sine, down * cosine - across * sine
        if self.distortion:
            bend = self.distortion * np.maximum(np.hypot(u, v), 1e-6)
            wide = np.tan(np.minimum(bend, 1.5)) / bend
            u, v = u * wide, v * wide
        y = -v * np.cos(self.tilt) - np.sin(self.tilt)
        z = np.cos(self.tilt) - v * np.sin(self.tilt)
        x, z = (
            u * np.cos(self.pan) + z * np.sin(self.pan),
            z * np.cos(self.pan) - u * np.sin(self.pan),
        )
        return np.stack([x, y, z])

    def depths(self, points: FloatArray) -> FloatArray:
        """Return the distances of points `[N, 3]` along the optical axis, in metres `[N]`."""
        depths: FloatArray = self._from_world(points)[:, 2]
        return depths

    def scales(self, points: FloatArray) -> FloatArray:
        """Return the pixels per metre at points `[N, 3]`, `[N]`."""
        scales: FloatArray = self.focal_pixels / np.maximum(self.depths(points), 0.3)
        return scales

    def scale(self, z: float) -> float:
        """Return the pixels per metre at distance z, at the height of a chest, in the middle."""
        x = self.x_metres + np.tan(self.pan) * (z - self.z_metres)
        return float(self.scales(np.array([[x, _CHEST_METRES, z]]))[0])

    def _from_world(self, points: FloatArray) -> FloatArray:
        """Return points `[N, 3]` in the camera's axes: right, up, away."""
        x = points[:, 0] - self.x_metres
        y = points[:, 1] - self.height_metres
        z = points[:, 2] - self.z_metres
        x, z = (
            x * np.cos(self.pan) - z * np.sin(self.pan),
            x * np.sin(self.pan) + z * np.cos(self.pan),
        )
        y, z = (
            y * np.cos(self.tilt) + z * np.sin(self.tilt),
            z * np.cos(self.tilt) - y * np.sin(self.tilt),
        )
        return np.stack([x, y, z], axis=1)


def random_camera(
    rng: np.random.Generator, width: int, height: int, z: float, *, max_fraction: float = 1.0
) -> Camera:
    """Draw a camera on a desk, a tripod, a wall or in a high corner, aimed at distance z.

    People there fill a quarter of the frame's height or more. Close cameras cut them off.

    Args:
        max_fraction: largest part of the frame's height that a standing person fills.
    """
    # Narrow frames get a smaller focal length, so that the whole room stays in view.
    fraction = _random_fraction(rng, max_fraction) * min(1.0, (width / height) / (16 / 9))
    height_metres = _random_height(rng)
    half_metres = _PERSON_METRES / fraction / 2
    # Whoever lies on the floor and most of who stands are in the frame.
    lowest = max(1.25 - half_metres, _CHEST_METRES - 0.35 * half_metres)
    highest = min(0.05 + half_metres, _CHEST_METRES + 0.35 * half_metres)
    aim = float(rng.uniform(min(lowest, highest), highest))
    distance = z * float(rng.uniform(0.88, 1.0))
    # High cameras are nearer: they look down steeply from the same distance.
    across = float(np.sqrt(max(distance**2 - (height_metres - aim) ** 2, (0.5 * z) ** 2)))
    distance = float(np.hypot(across, height_metres - aim))
    focal = fraction * height * distance / _PERSON_METRES
    side = _random_side(rng, height_metres)
    off_centre = float(np.clip(rng.normal(0, 0.05), -0.1, 0.1)) * width / focal
    return Camera(
        width,
        height,
        focal_pixels=float(focal),
        height_metres=height_metres,
        tilt=float(np.arctan2(height_metres - aim, across)),
        pan=side + float(np.arctan(off_centre)),
        roll=float(rng.normal(0, 0.02)) if rng.random() < 0.5 else 0.0,
        x_metres=-across * float(np.sin(side)),
        z_metres=z - across * float(np.cos(side)),
        distortion=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.4 else 0.0,
    )


def _random_fraction(rng: np.random.Generator, largest: float) -> float:
    """Draw the part of the frame's height that a standing person fills."""
    low, high = ((0.27, 0.45), (0.45, 0.75), (0.75, 1.0))[int(rng.choice(3, p=[0.3, 0.5, 0.2]))]
    return min(float(rng.uniform(low, high)), largest)


def _random_height(rng: np.random.Generator) -> float:
    """Draw a height in metres: a low shelf or desk, a tripod or wall, or high in a corner."""
    low, high = ((0.5, 1.5), (1.4, 2.3), (2.3, 3.4))[int(rng.choice(3, p=[0.45, 0.25, 0.3]))]
    return float(rng.uniform(low, high))


def _random_side(rng: np.random.Generator, height_metres: float) -> float:
    """Draw the angle from which the back wall is seen, in radians; corners see it at a slant."""
    spread = 0.3 if height_metres > 2.3 else 0.12
    return float(np.clip(rng.normal(0, spread), -0.5, 0.5))
