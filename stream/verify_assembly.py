"""Makes the part that takes second looks, and ends it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from urllib.parse import urlsplit

from model.checkpoints.weights import ModelSpec
from stream.config import StreamConfig
from stream.events.announcer import Announcer
from stream.events.second_looks import SecondLooks
from stream.metrics import Metrics
from stream.stage import Stage
from stream.verify.verifier import Verifier

__all__ = ["VerifyPart"]

_log = logging.getLogger(__name__)


class VerifyPart:
    """Second looks of a pipeline; without `verify.endpoint` it does nothing.

    Making it starts its thread; the stack ends that, if `finish` was not called.

    Attributes:
        looks: what the announcer offers actions to; None without an endpoint.

    Raises:
        ConfigError: the key or the certificates of the endpoint cannot be read.
    """

    def __init__(
        self,
        config: StreamConfig,
        spec: ModelSpec,
        metrics: Metrics,
        stack: contextlib.ExitStack,
    ) -> None:
        self._settings = config.verify
        self._verifier: Verifier | None = None
        self.looks: SecondLooks | None = None
        if not config.verify.is_on:
            return
        key = config.verify.api_key()
        self._verifier = Verifier(config.verify, spec.preprocess, metrics.verify, key)
        self.looks = SecondLooks(self._verifier)
        self._verifier.start()
        stack.callback(self._verifier.finish, 0.0)
        self._tell_where_frames_go(has_key=key is not None)

    def finish(self, announcer: Announcer, inference: Stage) -> None:
        """Wait `verify.drain_seconds` for answers, and announce those that came.

        Args:
            inference: the stage whose thread makes events; if it still hangs, nobody announces.
        """
        if self._verifier is None:
            return
        self._verifier.finish(self._settings.drain_seconds)
        if not inference.is_alive:
            announcer.tick()
        for _ in self._verifier.answers():
            self._verifier.count_failure("shutdown")

    def _tell_where_frames_go(self, *, has_key: bool) -> None:
        address = self._settings.endpoint or ""
        place = urlsplit(address)
        stays = _is_loopback(place.hostname or "")
        _log.warning(
            "second looks are on: up to %d frames of each action are sent to %s (model %s)%s",
            self._settings.frames,
            address,
            self._settings.model,
            "" if stays else "; these pictures of people leave this machine",
        )
        if place.scheme == "http" and not stays:
            what = "pictures and key" if has_key else "pictures"
            _log.warning("verify.endpoint is not https: the %s can be read on the way", what)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
