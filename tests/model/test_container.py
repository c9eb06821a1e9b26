"""What may be opened as a video, and what it may cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from configs import MediaError
from model.media import source_rules
from model.media.container import decode_packet, demux_packets, open_file, video_stream
from model.media.conversion import rgb_frame
from model.media.image_sequence import ImageSequence
from model.media.source_rules import MAX_SIDE_PIXELS, SourceRules, check_frame_size
from model.media.video import decode_frames
from tests import ROOT
from tests.support.hostile_media import write_flat_png, write_flat_video, write_many_tracks

LISTS = {
    "concat": "ffconcat version 1.0\nfile good.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ngood.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 26\n",
    "text": "password: hunter2\n" * 200,
    "metadata": ";FFMETADATA1\ntitle=a\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:09,000\nhello\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("ending", [".mp4", ".txt", ".m3u8", ".ans", ".ffconcat", ".sdp"])
def test_lists_of_addresses_and_text_are_not_videos(kind: str, ending: str, tmp_path: Path) -> None:
    write_flat_video(tmp_path / "good.ts", 64, 64)
    path = tmp_path / f"a{ending}"
    path.write_text(LISTS[kind])
    with pytest.raises(MediaError, match=r"cannot open|no video"), open_file(path) as container:
        video_stream(container)


@pytest.mark.parametrize(
    "name", ["10:30.mp4", "http:a.mp4", "concat:a|b.mp4", "a%20b.mp4", "é ü.mp4", "-i.mp4"]
)
def test_names_of_files_are_not_read_as_addresses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_flat_video(tmp_path / "a.mp4", 64, 64).rename(tmp_path / name)
    for path in (name, tmp_path / name):
        with open_file(path) as container:
            assert video_stream(container).codec_context.width == 64


def test_every_format_and_protocol_of_the_rules_exists() -> None:
    rules = [each for each in vars(source_rules).values() if isinstance(each, SourceRules)]
    assert len(rules) == 11
    # A protocol that does not exist would never be missed; a wrong name of a format neither.
    formats = {name for each in rules for name in each.formats.split(",")}
    assert formats - {"v4l2", "video4linux2"} <= av.formats_available
    assert {each.protocols for each in rules} == {
        "file",
        "rtp,udp,tcp,tls",
        "tcp",
        "udp",
        "rtmp,rtmps,tls,tcp",
        "pipe",
        "http,https,tls,tcp,httpproxy",
    }
    for each in ("concat", "sdp", "tty", "image2", "lavfi", "data", "rtp"):
        assert each not in formats


def test_titles_that_are_not_utf8_do_not_keep_a_file_from_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caffeine"
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"caffeine", b"caff\xe9ine"))
    assert len(list(decode_frames(path))) == 1


def cost_of(path: Path) -> tuple[int, str]:
    """Return how many MB more a new process needs to decode a file, and what it says."""
    program = """
import resource, sys
import model.media.video
from configs import MediaError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
says = "decoded"
try:
    for _ in model.media.video.decode_frames(sys.argv[1], strict=True):
        pass
except MediaError as error:
    says = str(error)
print(peak() - before, says)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    cost, _, says = run.stdout.strip().partition(" ")
    return int(cost), says


@pytest.mark.parametrize("ending", ["png", "h264.flv", "h264.ts", "h264.mp4", "mjpeg.mkv"])
def test_huge_frames_cost_no_memory(ending: str, tmp_path: Path) -> None:
    """A frame of 10000 x 10000 takes 150 MB as YUV, 300 MB as RGB."""
    path = tmp_path / f"a.{ending}"
    if ending == "png":
        write_flat_png(path, 10_000, 10_000)
    else:
        codec = {"h264": "libx264"}.get(ending.partition(".")[0], "mjpeg")
        write_flat_video(path, 10_000, 10_000, codec=codec)
    megabytes, says = cost_of(path)
    assert "source.max_pixels" in says
    assert megabytes < 100


def test_frames_up_to_the_limit_are_decoded(tmp_path: Path) -> None:
    """1080 rows are 1088 coded ones; the limit is of what is shown."""
    path = write_flat_video(tmp_path / "a.mp4", 1920, 1080)
    with open_file(path, max_pixels=1920 * 1080) as container:
        stream = video_stream(container)
        frames = [each for packet in demux_packets(container, stream) for each in packet.decode()]
    assert len(frames) == 2
    with pytest.raises(MediaError, match="1920x1080 have more than 2073599 pixels"):
        open_file(path, max_pixels=1920 * 1080 - 1)


def test_a_stream_that_becomes_huge_is_not_decoded_further(tmp_path: Path) -> None:
    small = write_flat_video(tmp_path / "a.ts", 64, 64).read_bytes()
    large = write_flat_video(tmp_path / "b.ts", 4096, 4096).read_bytes()
    (tmp_path / "c.ts").write_bytes(small + large)
    with open_file(tmp_path / "c.ts", max_pixels=640 * 480) as container:
        stream = video_stream(container)
        frames = [
            each for packet in demux_packets(container, stream) for each in decode_packet(packet)
        ]
    assert {frame.width for frame in frames} == {64}


def test_long_and_thin_frames_are_refused(tmp_path: Path) -> None:
    check_frame_size(MAX_SIDE_PIXELS, 4, 10**6)
    with pytest.raises(MediaError, match="16385x4 are longer than 16384 pixels"):
        check_frame_size(MAX_SIDE_PIXELS + 1, 4, 10**6)
    path = write_flat_png(tmp_path / "a.png", 30_000, 16)
    (frame,) = decode_frames(path)
    with pytest.raises(MediaError, match="longer than 16384"):
        rgb_frame(frame)


def test_huge_images_of_a_sequence_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        write_flat_png(tmp_path / f"{number}.png", 10_000, 10_000)
    with pytest.raises(MediaError, match=r"image 1\.png does not decode"):
        list(ImageSequence(tmp_path).frames(strict=True))


def test_a_file_with_ten_thousand_tracks_is_refused_quickly(tmp_path: Path) -> None:
    assert cost_of(write_many_tracks(tmp_path / "few.mp4", 3))[1] == "decoded"
    megabytes, says = cost_of(write_many_tracks(tmp_path / "many.mp4", 10_000))
    assert "cannot open" in says or says == "decoded"
    assert megabytes < 100


def test_subtitles_and_attachments_beside_a_video_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        container.add_attachment("../../evil.ttf", "font/ttf", b"x" * 1000)
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    assert len(list(decode_frames(path))) == 1
    assert [each.name for each in tmp_path.parent.glob("*.ttf")] == []
