"""Schemas of `/discover`: what a client asks for, and what is found."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from configs import StrictModel, has_controls

__all__ = ["AddFound", "DiscoveryReport", "DiscoveryRequest", "FoundDevice", "FoundProfile"]


def _check_text(text: str) -> str:
    if has_controls(text):
        raise ValueError("must have no control characters")
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class AddFound(StrictModel):
    """Which of the found devices to add, and how."""

    device: Text | None = Field(
        None, max_length=64, description="address of the device; null: the only one with a stream"
    )
    id: Text | None = Field(
        None, max_length=64, description="name of the camera; null: made of the device's address"
    )
    profile: Text | None = Field(
        None,
        max_length=128,
        description="token of the profile; null: the smallest with 180 rows and 10 frames a second",
    )
    secret: Text | None = Field(
        None,
        max_length=200,
        description="write ${secret:NAME} in the place of the password, for cameras of a topic",
    )


class DiscoveryRequest(StrictModel):
    """Where to look for cameras, for how long, and with which login."""

    interfaces: tuple[Text, ...] = Field(
        (), max_length=16, description="IPv4 addresses of this machine to ask from; empty: all"
    )
    addresses: tuple[Text, ...] = Field(
        (),
        max_length=16,
        description="devices to ask instead of the network: IP or IP:PORT",
    )
    timeout_seconds: float = Field(3.0, gt=0, le=10, description="how long answers are waited for")
    device_timeout_seconds: float = Field(
        5.0, gt=0, le=10, description="maximum time of each device"
    )
    username: Text | None = Field(
        None, max_length=128, description="user name on the devices, for ONVIF and for RTSP"
    )
    password: SecretStr | None = Field(
        None, max_length=256, description="its password; devices get only its digest"
    )
    add: AddFound | None = Field(None, description="add a found device; null: only look")

    @field_validator("password")
    @classmethod
    def _check_password(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None:
            _check_text(password.get_secret_value())
        return password


class FoundProfile(BaseModel):
    """A stream of a found device."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(description="name by which the device knows it")
    name: str = Field(description="name for people")
    codec: str = Field(description="such as H264")
    width: int = Field(description="pixels; 0: not known")
    height: int = Field(description="pixels; 0: not known")
    fps: float = Field(description="frames per second; 0: not known")
    url: str = Field(description="address without user name, password and query")
    problem: str | None = Field(description="why it cannot be used; null if it can")


class FoundDevice(BaseModel):
    """A device that answered."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(description="address from which it answered")
    name: str = Field(description="name that it announces")
    manufacturer: str = Field(description="its maker")
    model: str = Field(description="its model")
    addresses: list[str] = Field(description="web addresses that it names")
    profiles: list[FoundProfile] = Field(description="its streams")
    chosen: str | None = Field(description="token of the stream for the analysis; null: none")
    problem: str | None = Field(description="why its streams are not known; null if they are")


class DiscoveryReport(BaseModel):
    """What a discovery found."""

    model_config = ConfigDict(extra="forbid")

    devices: list[FoundDevice] = Field(description="the devices, by their addresses")
    dropped: dict[str, int] = Field(
        description="answers that were no use: malformed, unasked, too_many"
    )
    finished_at: str | None = Field(description="when it ended; null: none ran yet")
    seconds: float | None = Field(description="how long it took")
    added: str | None = Field(None, description="name of the camera that was added; null: none")
