"""What NVDEC decodes against software, bit for bit, with the checks that the fake passes too."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("pydantic")
pytest.importorskip("av", reason="PyAV is not installed")
from configs import MediaError
from model.media.nvdec import decoder_caps, nvdec_module, why_not_nvdec
from tests.support import nvdec_checks as checks
from tests.support.nvdec_checks import CASES, Case, write_clip

DEVICE = torch.device("cuda", 0)
SIZES = [(208, 152), (1920, 1080)]


@pytest.fixture
def nvc() -> Any:
    if why_not_nvdec():
        pytest.skip(why_not_nvdec())
    return nvdec_module()


def skip_if_unsupported(nvc: Any, case: Case, size: tuple[int, int]) -> None:
    bit_depth = 10 if case.pixels.endswith("10le") else 8
    caps = decoder_caps(nvc, gpu=0, codec=case.codec, bit_depth=bit_depth)
    print(f"{case.codec} {bit_depth} bits: {caps}")
    if caps.why_not(*size):
        pytest.skip(caps.why_not(*size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_frames_are_those_of_software(
    nvc: Any, tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    skip_if_unsupported(nvc, CASES[name], size)
    checks.check_parity(nvc, DEVICE, write_clip(tmp_path, CASES[name], size=size))


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].keeps_order])
def test_without_reordering_each_packet_gives_its_frame(
    nvc: Any, tmp_path: Path, name: str
) -> None:
    skip_if_unsupported(nvc, CASES[name], checks.SIZE)
    checks.check_each_packet_gives_its_frame(nvc, DEVICE, write_clip(tmp_path, CASES[name]))


@pytest.mark.parametrize("name", ["h264", "h264-reordered", "hevc-main10"])
def test_a_session_goes_on_after_a_flush(nvc: Any, tmp_path: Path, name: str) -> None:
    checks.check_going_on_after_a_flush(nvc, DEVICE, write_clip(tmp_path, CASES[name]))


@pytest.mark.parametrize("name", ["h264", "h264-reordered"])
def test_frames_have_memory_of_their_own(nvc: Any, tmp_path: Path, name: str) -> None:
    checks.check_memory_of_its_own(nvc, DEVICE, write_clip(tmp_path, CASES[name]))


@pytest.mark.parametrize("name", ["h264", "h264-reordered", "hevc", "hevc-reordered"])
def test_a_decoder_changes_its_size(nvc: Any, tmp_path: Path, name: str) -> None:
    sizes = [(640, 360), (208, 152), (1280, 720)]
    clips = [write_clip(tmp_path, CASES[name], size=size, frames=12) for size in sizes]
    checks.check_changed_sizes(nvc, DEVICE, clips)


def test_packets_before_a_key_frame_do_no_harm(nvc: Any, tmp_path: Path) -> None:
    """What comes out before the key frame is not defined; afterwards all is right."""
    clip = write_clip(tmp_path, CASES["h264"])
    session = checks.open_session(nvc, DEVICE, clip)
    early = [s.tag for i, p in enumerate(clip.packets[5:12]) for s in session.decode(p, i)]
    early += [surface.tag for surface in session.flush()]
    print("frames before the key frame:", early)
    checks.compare(checks.decode_all(session, clip, first_tag=100), clip, first_tag=100)
    session.close()


def test_a_damaged_packet_does_not_end_the_process(nvc: Any, tmp_path: Path) -> None:
    """Whether it raises or gives a frame is printed; the next session decodes."""
    clip = write_clip(tmp_path, CASES["h264"])
    session = checks.open_session(nvc, DEVICE, clip)
    for index, packet in enumerate(clip.packets):
        data = packet[: len(packet) // 2] + bytes(60) if index == 3 else packet
        try:
            print(index, [surface.tag for surface in session.decode(data, index)])
        except MediaError as error:
            print(index, error)
            break
    session.close()
    checks.check_parity(nvc, DEVICE, clip)


def test_closed_sessions_give_their_memory_back(nvc: Any, tmp_path: Path) -> None:
    clip = write_clip(tmp_path, CASES["h264-reordered"], size=(1920, 1080), frames=6)
    checks.check_parity(nvc, DEVICE, clip)
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info(DEVICE)
    started = time.perf_counter()
    sessions = [checks.open_session(nvc, DEVICE, clip) for _ in range(4)]
    for session in sessions:
        session.decode(clip.packets[0], 0)
    used = before - torch.cuda.mem_get_info(DEVICE)[0]
    print(
        f"4 decoders of 1920x1080: {used / 2**20:.0f} MiB,"
        f" {time.perf_counter() - started:.2f} seconds"
    )
    for session in sessions:
        session.close()
    for _ in range(8):
        checks.check_parity(nvc, DEVICE, clip)
    torch.cuda.empty_cache()
    left, _ = torch.cuda.mem_get_info(DEVICE)
    assert before - left < 64 * 2**20
