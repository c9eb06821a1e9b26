"""Ask a device what it is and which streams it has, by ONVIF's device and media services.

The package onvif-zeep-async makes and reads the messages. A password is sent only as the digest of
WS-UsernameToken. Whatever a device answers or does not answer costs its own time only.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import importlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs import has_controls, readable
from stream.discovery.choice import choose_profile
from stream.discovery.found import Answer, Device, Profile, host_of, short
from stream.discovery.transport import DeviceError, new_transport, onvif_client

__all__ = ["Login", "ask_devices"]

_MAX_AT_ONCE = 16
_MAX_PROFILES = 32
_MAX_URL = 2048
_NAMESPACE = "http://www.onvif.org/ver10/{}/wsdl"
_DEVICE = ("devicemgmt", "device", "DeviceBinding")
_MEDIA = ("media", "media", "MediaBinding")
_STREAM = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}


class Login(NamedTuple):
    """A user name and a password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ***)"


async def ask_devices(
    answers: Sequence[Answer], login: Login | None, device_seconds: float
) -> list[Device]:
    """Ask all devices that answered a probe, some at once.

    Args:
        login: sent to each of them; None asks without.
        device_seconds: maximum time of each device.
    """
    turns = asyncio.Semaphore(_MAX_AT_ONCE)
    if answers:
        await _Session("", None, device_seconds).load()

    async def ask(answer: Answer) -> Device:
        async with turns:
            return await _ask_device(answer, login, device_seconds)

    return list(await asyncio.gather(*(ask(answer) for answer in answers)))


async def _ask_device(answer: Answer, login: Login | None, seconds: float) -> Device:
    device = Device(answer.host, answer.addresses, name=answer.name, model=answer.model)
    address = _own_address(answer)
    if address is None:
        problem = "it names no web address of its own, and addresses of other hosts are not asked"
        return dataclasses.replace(device, problem=problem)
    session = _Session(answer.host, login, seconds)
    try:
        async with asyncio.timeout(seconds):
            device = await session.describe(device, address)
    except DeviceError as error:
        return dataclasses.replace(device, problem=str(error))
    except TimeoutError:
        return dataclasses.replace(device, problem=f"no answer within {seconds:g} s")
    except Exception as error:  # the edge of the device: it may answer anything
        return dataclasses.replace(device, problem=_explain(error, login))
    finally:
        await session.close()
    chosen = choose_profile(device.profiles)
    return dataclasses.replace(device, chosen=chosen.token if chosen else None)


def _own_address(answer: Answer) -> str | None:
    """Return the first web address that is on the host that answered."""
    for url in answer.addresses:
        is_web = url.startswith(("http://", "https://")) and not has_controls(url)
        if is_web and host_of(url) == answer.host and "@" not in url:
            return url
    return None


class _Session:
    """The requests to one device."""

    def __init__(self, host: str, login: Login | None, seconds: float) -> None:
        self._host = host
        self._login = login
        self._seconds = seconds
        self._clock_difference: datetime.timedelta | None = None
        self._http = self._new_http()

    async def close(self) -> None:
        await self._http.close()

    async def load(self) -> None:
        """Read the descriptions of the services, which all sessions use."""
        try:
            for kind in (_DEVICE, _MEDIA):
                async with self._service(kind, ""):
                    pass
        finally:
            await self.close()

    async def describe(self, device: Device, address: str) -> Device:
        """Return the device with all that it says."""
        async with self._service(_DEVICE, address) as service:
            self._clock_difference = await _clock_difference(service)
        async with self._service(_DEVICE, address) as service:
            told = await self._call(service, "GetDeviceInformation")
            device = dataclasses.replace(
                device,
                manufacturer=short(told.Manufacturer),
                model=short(told.Model) or device.model,
            )
            media = await self._media_address(service)
        if host_of(media) != self._host:
            raise DeviceError(
                f"its media service is on another host, {short(host_of(media))}, which is not asked"
            )
        async with self._service(_MEDIA, media) as service:
            told = await self._call(service, "GetProfiles")
            if not told:
                raise DeviceError("it names no streams")
            profiles = [await self._profile(service, each) for each in told[:_MAX_PROFILES]]
        return dataclasses.replace(device, profiles=tuple(profiles))

    async def _media_address(self, service: Any) -> str:
        told = await self._call(service, "GetCapabilities", {"Category": "Media"})
        media = getattr(told, "Media", None)
        if media is None:
            raise DeviceError("it has no media service of version 1, and so names no streams")
        return str(media.XAddr)

    async def _profile(self, service: Any, told: Any) -> Profile:
        encoder = told.VideoEncoderConfiguration
        size = encoder.Resolution if encoder is not None else None
        rate = encoder.RateControl if encoder is not None else None
        uri = await self._call(
            service, "GetStreamUri", {"StreamSetup": _STREAM, "ProfileToken": told.token}
        )
        url = str(uri.Uri).strip()
        return Profile(
            short(told.token),
            short(told.Name),
            short(encoder.Encoding) if encoder is not None else "",
            _number(size.Width) if size is not None else 0,
            _number(size.Height) if size is not None else 0,
            float(_number(rate.FrameRateLimit)) if rate is not None else 0.0,
            url[:_MAX_URL],
            self._problem_of(url),
        )

    def _problem_of(self, url: str) -> str | None:
        """Say why a stream's address is not used; None if it may be."""
        if len(url) > _MAX_URL or has_controls(url):
            return "its address is malformed"
        if not url.startswith(("rtsp://", "rtsps://")):
            return "its address is not one of RTSP"
        if host_of(url) != self._host:
            return f"its address is on another host, {short(host_of(url))}"
        return None

    async def _call(self, service: Any, name: str, parameters: object = None) -> Any:
        prefix = "" if self._login is not None else "authless_"
        return await getattr(service, prefix + name)(parameters)

    @contextlib.asynccontextmanager
    async def _service(self, kind: tuple[str, str, str], address: str) -> AsyncIterator[Any]:
        file, name, binding = kind
        client = onvif_client()
        service = client.ONVIFService(
            address,
            self._login.user if self._login else None,
            self._login.password if self._login else None,
            str(Path(client.__file__).parent / "wsdl" / f"{file}.wsdl"),
            no_cache=True,
            dt_diff=self._clock_difference,
            binding_name=f"{{{_NAMESPACE.format(name)}}}{binding}",
        )
        try:
            service.transport = new_transport(self._http, self._host)
            await service.setup()
            yield service
        finally:
            await service.close()

    def _new_http(self) -> Any:
        aiohttp = importlib.import_module("aiohttp")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=False),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


async def _clock_difference(service: Any) -> datetime.timedelta | None:
    """Return how far a device's clock is ahead: digests must be dated by it; None if unknown."""
    try:
        told = (await service.authless_GetSystemDateAndTime()).UTCDateTime
        date, clock = told.Date, told.Time
        theirs = datetime.datetime(
            *(date.Year, date.Month, date.Day, clock.Hour, clock.Minute, clock.Second),
            tzinfo=datetime.UTC,
        )
    except (DeviceError, OSError):
        raise
    except Exception:
        return None  # it may want a login for this, or have no clock
    return theirs - datetime.datetime.now(datetime.UTC)


def _number(value: object) -> int:
    """Return a size or rate, in bounds; 0 for what is not a number."""
    try:
        return max(0, min(int(value), 100_000))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0


def _explain(error: Exception, login: Login | None) -> str:
    """Say why a device could not be asked, without what it sent."""
    kind = type(error).__name__
    words = f"{error} {getattr(error, 'subcodes', '')}".lower()
    if kind == "Fault" and ("author" in words or "credential" in words or "password" in words):
        if login is None:
            return "it wants user name and password"
        return "it refuses user name and password, or this machine's clock is wrong"
    if kind == "Fault":
        return f"it answers with a fault: {short(error)}"
    if kind in ("ClientConnectorError", "ServerDisconnectedError", "ClientOSError"):
        return "its web server does not answer"
    return f"its answer cannot be used ({readable(kind)})"
