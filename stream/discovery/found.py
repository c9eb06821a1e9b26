"""What a discovery finds: devices, their profiles, and what became of answers that were no use."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import urlsplit

from configs import readable
from stream.cameras.config import redact_url

__all__ = ["Answer", "Device", "Discovery", "Profile", "host_of", "short"]

_MAX_TEXT = 128


@dataclasses.dataclass(frozen=True)
class Answer:
    """A device that answered a probe.

    Attributes:
        host: the address from which the answer came.
        addresses: the web addresses that the answer names, on whatever host.
        name, model: what its scopes say; empty if they say nothing.
    """

    host: str
    addresses: tuple[str, ...]
    name: str = ""
    model: str = ""


@dataclasses.dataclass(frozen=True)
class Profile:
    """One stream of a device. Sizes in pixels, `fps` in frames per second; 0 is unknown."""

    token: str
    name: str
    codec: str
    width: int
    height: int
    fps: float
    url: str = dataclasses.field(repr=False)  # as the device gave it; it may hold a login
    problem: str | None = None  # why the address cannot be used; None if it can

    def as_dict(self, *, raw_urls: bool) -> dict[str, Any]:
        """Return it as plain values; the address has no secrets unless `raw_urls` is set."""
        fields = dataclasses.asdict(self)
        return fields | {"url": self.url if raw_urls else readable(redact_url(self.url))}


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that was found, and what it says about itself.

    Attributes:
        chosen: token of the profile that suits the analysis best; None if there is none.
        problem: why its profiles are not known; None if they are.
    """

    host: str
    addresses: tuple[str, ...]
    name: str = ""
    manufacturer: str = ""
    model: str = ""
    profiles: tuple[Profile, ...] = ()
    chosen: str | None = None
    problem: str | None = None

    def as_dict(self, *, raw_urls: bool = False) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "host": self.host,
            "name": self.name,
            "manufacturer": self.manufacturer,
            "model": self.model,
            "addresses": [readable(redact_url(url)) for url in self.addresses],
            "profiles": [profile.as_dict(raw_urls=raw_urls) for profile in self.profiles],
            "chosen": self.chosen,
            "problem": self.problem,
        }


@dataclasses.dataclass(frozen=True)
class Discovery:
    """The result of a discovery. `dropped` counts answers that were no use, by reason."""

    devices: tuple[Device, ...]
    dropped: dict[str, int]

    def as_dict(self, *, raw_urls: bool = False) -> dict[str, Any]:
        """Return it as plain values."""
        devices = [device.as_dict(raw_urls=raw_urls) for device in self.devices]
        return {"devices": devices, "dropped": self.dropped}


def short(text: object) -> str:
    """Return what a device says as one line of at most 128 characters that can be printed."""
    return readable("" if text is None else text).strip()[:_MAX_TEXT]


def host_of(url: str) -> str | None:
    """Return the host of an address; None if it has none, or is malformed."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
