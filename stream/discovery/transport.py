"""How devices are asked over HTTP: with bounds, and no other host than the one that answered."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from configs import ConfigError
from stream.discovery.found import host_of
from stream.discovery.safe_xml import UnsafeXmlError, parse

__all__ = ["DeviceError", "new_transport", "onvif_client"]

_MAX_ANSWER_BYTES = 262_144


class DeviceError(Exception):
    """A device cannot be asked; the text is for people and has no secrets."""


def onvif_client() -> Any:
    """Return the module `onvif.client`.

    Raises:
        ConfigError: the extra onvif is not installed.
    """
    try:
        return importlib.import_module("onvif.client")
    except ImportError:
        raise ConfigError("to find cameras, install the extra onvif") from None


def new_transport(session: Any, host: str) -> Any:
    """Return a transport for the package's services.

    It sends to this host only, follows no redirects, reads up to 256 KiB, and refuses answers with
    document types before the package parses them. It loads nothing: the descriptions of the
    services (WSDL) are files of the package.

    Args:
        session: an aiohttp session that does not decompress.
    """
    base: Any = importlib.import_module("onvif.zeep_aiohttp").AIOHTTPTransport

    class Transport(base):  # type: ignore[misc]
        async def _post_internal(
            self, address: str, message: str | bytes, headers: dict[str, str]
        ) -> tuple[Any, bytes]:
            if host_of(address) != host:
                raise DeviceError("it sends requests to another host")
            data = message.encode() if isinstance(message, str) else message
            headers = {**headers, "Accept-Encoding": "identity", "User-Agent": "cidc-stream"}
            headers.setdefault("Content-Type", 'application/soap+xml; charset="utf-8"')
            answer = await session.post(address, data=data, headers=headers, allow_redirects=False)
            try:
                return answer, await _body(answer)
            finally:
                answer.close()

        async def get(self, *_arguments: Any, **_options: Any) -> Any:
            raise DeviceError("it wants something loaded")

    return Transport(session=session)


async def _body(answer: Any) -> bytes:
    """Return a body that the package may parse.

    Raises:
        DeviceError: the device wants a login, redirects, sends too much or not XML.
    """
    if answer.status in (401, 403):
        raise DeviceError("it refuses user name and password, or wants them")
    if 300 <= answer.status < 400:
        raise DeviceError("it redirects, which is not followed")
    body = b""
    async for part in answer.content.iter_chunked(65_536):
        body += part
        if len(body) > _MAX_ANSWER_BYTES:
            raise DeviceError(f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
    try:
        await asyncio.to_thread(parse, body)
    except UnsafeXmlError as error:
        raise DeviceError(f"its answer cannot be used: {error}") from None
    return body
