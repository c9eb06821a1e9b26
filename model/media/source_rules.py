"""What FFmpeg may do with a source: which formats and protocols it may use, how large frames are.

Some formats of FFmpeg are lists of other addresses (concat, HLS, SDP), and some turn any text into
video (tty). A server or a file with such content could otherwise make this process read files,
connect to other hosts or open sockets without end. So each kind of source has a list of formats and
one of protocols (options `format_whitelist` and `protocol_whitelist` of FFmpeg), and everything
else is refused before it is read.
"""

from __future__ import annotations

import dataclasses

from configs import MediaError

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FILE",
    "HLS",
    "MAX_SIDE_PIXELS",
    "MJPEG",
    "RTMP",
    "RTSP",
    "SRT",
    "TCP",
    "UDP",
    "V4L2",
    "WEB_LIVE",
    "WEB_RECORDING",
    "SourceRules",
    "check_frame_size",
    "decoder_options",
]

DEFAULT_MAX_PIXELS = 7680 * 4320  # 8K UHD
# Frames are scaled by their shorter side, so the longer one needs a limit of its own.
MAX_SIDE_PIXELS = 16_384
# Decoders allocate whole blocks: 1080 rows become 1088.
_BLOCK_PIXELS = 64 * MAX_SIDE_PIXELS
_MAX_STREAMS = 256

_STREAMED = (
    "mpegts,mpeg,mpegvideo,h261,h263,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,mpjpeg,flv,live_flv"
    ",matroska,mov,nut,ogg,asf"
)
_CONTAINERS = (
    "avi,dhav,dirac,dnxhd,dv,evc,gif,apng,gxf,kux,lvf,mjpeg_2000,mxf,nsv,nuv,pva,rm,smjpeg,ty,vc1"
    ",vc1test,wtv,yuv4mpegpipe,avs2,avs3,cavsvideo"
)
# Without video, but then the error says so.
_SOUND = "aac,ac3,aiff,amr,flac,mp3,wav"
_IMAGES = "bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
_SEGMENTS = "mpegts,mov,aac,ac3,eac3,mp3,webvtt"
# `httpproxy` is used only if the environment names a proxy.
_WEB = "http,https,tls,tcp,httpproxy"


@dataclasses.dataclass(frozen=True)
class SourceRules:
    """The formats and protocols that FFmpeg may use for one kind of source, separated by commas.

    `what` names what the formats are, for error messages.
    """

    formats: str
    protocols: str
    what: str

    def options(self, max_pixels: int) -> dict[str, str]:
        """Return the options of FFmpeg that keep a source within the rules.

        No frame is decoded while FFmpeg finds out what the streams are: it does not pass a limit on
        their size to the decoders of streams that it finds late.
        """
        return {
            "format_whitelist": self.formats,
            "protocol_whitelist": self.protocols,
            "codec_whitelist": "none",
            "max_streams": str(_MAX_STREAMS),
            **decoder_options(max_pixels),
        }


_VIDEO = "video in a usual container, such as MP4, MKV or MPEG-TS"

FILE = SourceRules(f"{_STREAMED},{_CONTAINERS},{_IMAGES},{_SOUND}", "file", _VIDEO)
RTSP = SourceRules("rtsp", "rtp,udp,tcp,tls", "an RTSP stream")
RTMP = SourceRules("flv,live_flv", "rtmp,rtmps,tls,tcp", "an RTMP stream")
# A program of its own reads SRT, and hands MPEG-TS on.
SRT = SourceRules("mpegts", "pipe", "MPEG-TS over SRT")
TCP = SourceRules(_STREAMED, "tcp", "a video stream, such as MPEG-TS")
UDP = SourceRules(_STREAMED, "udp", "a video stream, such as MPEG-TS")
V4L2 = SourceRules("video4linux2,v4l2", "file", "a V4L2 device")
HLS = SourceRules(f"hls,{_SEGMENTS}", _WEB, "HLS with segments in MPEG-TS or MP4")
MJPEG = SourceRules("mjpeg,mpjpeg", _WEB, "MJPEG")
WEB_LIVE = SourceRules(_STREAMED, _WEB, "a video stream, such as MPEG-TS, FLV or MJPEG")
WEB_RECORDING = SourceRules(f"{_STREAMED},{_CONTAINERS}", _WEB, _VIDEO)


def decoder_options(max_pixels: int) -> dict[str, str]:
    """Return the options with which a decoder refuses larger frames before it allocates them."""
    return {"max_pixels": str(max_pixels + _BLOCK_PIXELS)}


def check_frame_size(width: int, height: int, max_pixels: int) -> None:
    """Check the size of a frame, in pixels.

    Raises:
        MediaError: it has more pixels than `max_pixels`, or a side of more than `MAX_SIDE_PIXELS`.
    """
    if width * height > max_pixels:
        raise MediaError(
            f"frames of {width}x{height} have more than {max_pixels} pixels"
            f" (source.max_pixels, by default 8K UHD); let the source send smaller ones"
        )
    if max(width, height) > MAX_SIDE_PIXELS:
        raise MediaError(
            f"frames of {width}x{height} are longer than {MAX_SIDE_PIXELS} pixels; let the source"
            " send smaller ones"
        )
