"""Which stream of a device suits the analysis best, and how it becomes a camera."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from configs import ConfigError
from stream.discovery.found import Device, Profile

__all__ = ["MIN_ROWS", "camera_of", "choose_profile", "pick"]

# The network sees fewer rows than this, so a smaller stream would be scaled up.
MIN_ROWS = 180
_MIN_FPS = 10.0  # below it, clips of 15 frames per second repeat many frames


def choose_profile(profiles: Iterable[Profile]) -> Profile | None:
    """Return the smallest stream that has enough rows and frames; otherwise the largest one."""
    usable = [each for each in profiles if each.problem is None]
    enough = [each for each in usable if min(each.height, each.width) >= MIN_ROWS]
    quick = [each for each in enough if each.fps == 0 or each.fps >= _MIN_FPS]
    if quick or enough:
        return min(quick or enough, key=lambda each: (each.width * each.height, -each.fps))
    return max(usable, key=lambda each: each.width * each.height, default=None)


def pick(devices: Sequence[Device], host: str | None) -> Device:
    """Return the device to add: the one at this address, or the only one with a stream.

    Raises:
        ConfigError: there is none, or there are several; the message names them.
    """
    if host is not None:
        found = [device for device in devices if device.host == host]
        if not found:
            raise ConfigError(f"no device answered from {host}")
        if found[0].chosen is None:
            reason = found[0].problem or "it names no stream that can be used"
            raise ConfigError(f"the device {host} cannot be added: {reason}")
        return found[0]
    usable = [device for device in devices if device.chosen is not None]
    if len(usable) == 1:
        return usable[0]
    if usable:
        names = ", ".join(device.host for device in usable[:8])
        raise ConfigError(f"{len(usable)} devices could be added; name one of {names}")
    problems = "; ".join(f"{device.host}: {device.problem}" for device in devices[:8])
    raise ConfigError(f"no device could be added{': ' + problems if problems else ''}")


def camera_of(
    device: Device, *, camera_id: str | None, profile: str | None, user: str | None, password: str
) -> dict[str, Any]:
    """Return a device's stream as settings of a camera.

    Args:
        camera_id: name of the camera; None: made of the device's address.
        profile: token of the stream; None: the one that was chosen.
        password: as it stands in the address: percent-encoded, or a reference to a secret.

    Raises:
        ConfigError: the device has no such stream, or its address cannot be used.
    """
    token = profile or device.chosen
    found = next((each for each in device.profiles if each.token == token), None)
    if found is None:
        tokens = ", ".join(each.token for each in device.profiles) or "none"
        raise ConfigError(f"the device {device.host} has no profile {token!r}; it has: {tokens}")
    if found.problem is not None:
        raise ConfigError(f"profile {found.token!r} cannot be used: {found.problem}")
    parts = urlsplit(found.url)
    place = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{password}@" if user else ""
    made = re.sub(r"[^A-Za-z0-9._-]", "-", f"camera-{device.host}")[:64]
    return {"id": camera_id or made, "url": urlunsplit(parts._replace(netloc=login + place))}
