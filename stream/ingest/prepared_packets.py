"""Add to packets what a hardware decoder needs, while their connection is open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from model.media.key_frames import is_key_frame
from model.media.remux import stream_template
from stream.ingest.decodable import codec_name
from stream.types import CodedPacket

__all__ = ["prepared_packets"]


def prepared_packets(
    packets: Iterable[CodedPacket], needs_template: Callable[[], bool]
) -> Iterator[CodedPacket]:
    """Pass packets on; called by the thread that receives them.

    Hardware decoders need the stream's parameters, which are lost when the connection closes. So
    they are copied while it is open. Key frames are marked where FFmpeg does not do this.

    Args:
        needs_template: whether the parameters are needed.
    """
    template: Any = None
    known: Any = None
    for coded in packets:
        if not coded.size:
            yield coded
            continue
        _mark_key_frame(coded.packet)
        if needs_template() and coded.packet.stream is not known:
            known = coded.packet.stream
            template = stream_template(known)
        yield dataclasses.replace(coded, template=template)


def _mark_key_frame(packet: Any) -> None:
    codec = codec_name(packet.stream.codec_context)
    is_key = is_key_frame(codec, bytes(packet)) if codec in ("vp8", "vp9") else None
    if is_key is not None:
        packet.is_keyframe = is_key
