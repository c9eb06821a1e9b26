"""Sessions of NVDEC on a fake of PyNvVideoCodec, which decodes with PyAV."""

import ctypes
import gc
import logging
import sys
import types
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import ConfigError, DeviceMemoryError, MediaError
from model.device_streams import DeviceStream
from model.media import nvdec_library
from model.media.nvdec import NvdecSession, decoder_caps, nvdec_module, why_not_nvdec
from tests.support import nvdec_checks as checks
from tests.support.fake_nvc import FakeNvc
from tests.support.nvdec_checks import CASES, Clip, decode_all, open_session, write_clip

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return write_clip(tmp_path_factory.mktemp("plain"), CASES["h264"])


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    clip = write_clip(tmp_path_factory.mktemp("reordered"), CASES["h264-reordered"])
    assert clip.shown != sorted(clip.shown), "the clip has no reordered frames"
    return clip


@pytest.mark.parametrize("name", CASES)
def test_frames_are_those_of_software(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path, CASES[name])
    fake = FakeNvc()
    checks.check_parity(fake, CPU, clip)
    assert fake.decoded == len(clip.frames)
    assert fake.open == 0


def test_a_decoder_is_created_as_the_camera_needs_it(plain: Clip, reordered: Clip) -> None:
    fake = FakeNvc()
    for clip in (plain, reordered):
        open_session(fake, CPU, clip, max_size=(1920, 1080)).close()
    low, native = fake.arguments
    assert (low["maxwidth"], low["maxheight"]) == (1920, 1088)  # the coded size
    assert (low["codec"].name, low["gpuid"], low["cudacontext"]) == ("H264", 0, 0)
    assert low["usedevicememory"] is True
    assert (low["latency"].name, native["latency"].name) == ("LOW", "NATIVE")


def test_the_decoder_works_on_the_stream_of_the_session(plain: Clip) -> None:
    class Stream(DeviceStream):
        handle = 0x1234  # type: ignore[assignment]

    fake = FakeNvc()
    NvdecSession(
        fake, codec="h264", gpu=3, max_size=(64, 64), keeps_order=True, stream=Stream(CPU)
    ).close()
    assert (fake.arguments[0]["cudastream"], fake.arguments[0]["gpuid"]) == (0x1234, 3)


def test_without_reordering_each_packet_gives_its_frame(plain: Clip) -> None:
    checks.check_each_packet_gives_its_frame(FakeNvc(), CPU, plain)


def test_with_reordering_frames_come_later_and_a_flush_gives_the_rest(reordered: Clip) -> None:
    session = open_session(FakeNvc(), CPU, reordered)
    during = [
        surface
        for index, packet in enumerate(reordered.packets)
        for surface in session.decode(packet, index)
    ]
    assert 4 <= len(reordered.frames) - len(during) <= 8
    assert len(during) + len(session.flush()) == len(reordered.frames)
    assert session.flush() == []


def test_frames_have_memory_of_their_own(plain: Clip, reordered: Clip) -> None:
    for clip in (plain, reordered):
        checks.check_memory_of_its_own(FakeNvc(), CPU, clip)


def test_the_fake_overwrites_surfaces_that_were_not_copied(plain: Clip) -> None:
    fake = FakeNvc()
    decoder = fake.CreateDecoder(
        latency=fake.DisplayDecodeLatencyType.LOW, maxwidth=512, maxheight=512
    )
    views = []
    for data in plain.packets[:2]:
        packet: Any = fake.PacketData()
        memory = bytearray(data)
        packet.bsl_data = _address(memory)
        packet.bsl = len(memory)
        packet.decode_flag = fake.VideoPacketFlag.ENDOFPICTURE
        (frame,) = decoder.Decode(packet)
        views.append(torch.from_dlpack(frame))
    assert bool((views[0].numpy() == plain.frames[1]).all())
    with pytest.raises(TypeError):
        frame.__dlpack__(max_version=(1, 0))


def _address(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_a_session_goes_on_after_a_flush(plain: Clip, reordered: Clip) -> None:
    for clip in (plain, reordered):
        checks.check_going_on_after_a_flush(FakeNvc(), CPU, clip)


def test_nothing_comes_before_a_key_frame(reordered: Clip) -> None:
    session = open_session(FakeNvc(), CPU, reordered)
    surfaces = []
    for index, packet in enumerate(reordered.packets[5:], 5):
        surfaces += session.decode(packet, index)
    surfaces += session.flush()
    assert {surface.tag for surface in surfaces} == set(range(12, 24))


@pytest.mark.parametrize("name", ["h264", "h264-reordered"])
def test_a_decoder_changes_its_size(tmp_path: Path, name: str) -> None:
    sizes = [(208, 152), (112, 96), (320, 176)]
    clips = [write_clip(tmp_path, CASES[name], size=size, frames=12) for size in sizes]
    fake = FakeNvc()
    checks.check_changed_sizes(fake, CPU, clips)
    assert (fake.created, fake.resized, fake.unannounced) == (1, 2, 0)


def test_frames_that_were_held_come_with_the_next_packet_after_a_resize(
    reordered: Clip,
) -> None:
    session = open_session(FakeNvc(), CPU, reordered)
    given = [s.tag for i, p in enumerate(reordered.packets) for s in session.decode(p, i)]
    assert session.resize((112, 96))
    given += [surface.tag for surface in session.decode(reordered.packets[0], 100)]
    assert given == reordered.shown


def test_b_frames_in_a_session_that_keeps_the_order_are_said(reordered: Clip) -> None:
    session = NvdecSession(
        FakeNvc(),
        codec="h264",
        gpu=0,
        max_size=reordered.size,
        keeps_order=True,
        stream=DeviceStream(CPU),
    )
    with pytest.raises(MediaError, match="B-frames; open a session that reorders"):
        decode_all(session, reordered)


def test_a_damaged_packet_costs_frames_or_is_an_error(plain: Clip) -> None:
    packets = list(plain.packets)
    packets[3] = b"\0\0\0\1\x65" + bytes(40)
    damaged = Clip(plain.case, plain.size, packets, plain.frames, plain.shown)
    session = open_session(FakeNvc(), CPU, damaged)
    tags = {surface.tag for surface in decode_all(session, damaged)}
    assert set(range(12, 24)) < tags
    assert 3 not in tags
    fake = FakeNvc()
    fake.raises_on_corrupt = True
    with pytest.raises(MediaError, match=r"^NVDEC on GPU 0: h264 cannot decode a packet: m_api"):
        decode_all(open_session(fake, CPU, damaged), damaged)


def test_empty_data_is_not_the_end_of_the_stream(reordered: Clip) -> None:
    session = open_session(FakeNvc(), CPU, reordered)
    session.decode(reordered.packets[0], 0)
    assert session.decode(b"", 1) == []
    assert [surface.tag for surface in session.flush()] == [0]


def test_errors_are_one_line_without_places_in_the_source(plain: Clip) -> None:
    fake = FakeNvc()
    fake.raise_in_decode(2)
    session = open_session(fake, CPU, plain)
    with pytest.raises(MediaError) as caught:
        decode_all(session, plain)
    assert str(caught.value) == (
        "NVDEC on GPU 0: h264 cannot decode a packet: m_api.cuvidDecodePicture(m_hDecoder,"
        " pPicParams) returned error 999; decode it in software"
    )


@pytest.mark.parametrize("at_first_packet", [False, True])
def test_a_decoder_that_cannot_be_created_is_an_error(plain: Clip, at_first_packet: bool) -> None:
    fake = FakeNvc()
    fake.fail_to_create(codec="h264", at_first_packet=at_first_packet)
    with pytest.raises(MediaError, match="returned error 801; decode it in software"):
        decode_all(open_session(fake, CPU, plain), plain)
    checks.check_parity(fake, CPU, plain)


@pytest.mark.parametrize(
    "error",
    [
        FakeNvc().error("HandleVideoSequence", 2, "cuvidCreateDecoder returned error 2"),
        FakeNvc().error("HandlePictureDisplay", 2, "CUDA_ERROR_OUT_OF_MEMORY"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB"),
    ],
)
def test_full_memory_has_an_error_of_its_own(plain: Clip, error: Exception) -> None:
    fake = FakeNvc()
    fake.raise_in_decode(0, error)
    session = open_session(fake, CPU, plain)
    with pytest.raises(DeviceMemoryError, match=r"the GPU's memory is full: .*; use fewer cameras"):
        session.decode(plain.packets[0], 0)


def test_a_version_without_an_argument_is_an_error(plain: Clip) -> None:
    fake = FakeNvc()
    fake.fail_to_create(error=TypeError("CreateDecoder(): incompatible function arguments"))
    with pytest.raises(MediaError, match="cannot open a decoder: CreateDecoder"):
        open_session(fake, CPU, plain)


def test_a_packet_gives_one_frame(plain: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvc()
    session = open_session(fake, CPU, plain)
    session.decode(plain.packets[0], 0)
    monkeypatch.setattr(fake.DecodedFrame, "getPTS", lambda self: 0)
    with pytest.raises(MediaError, match="packet 0, which it did not get or whose frame it gave"):
        session.decode(plain.packets[1], 1)


def test_surfaces_are_freed_only_after_the_copies_of_them(
    plain: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resize and the end free the library's surfaces."""
    steps = []

    class Event:
        def synchronize(self) -> None:
            steps.append("copies are done")

    class Stream(DeviceStream):
        def record(self) -> Any:
            return Event()

    fake = FakeNvc()
    session = NvdecSession(
        fake, codec="h264", gpu=0, max_size=(640, 360), keeps_order=True, stream=Stream(CPU)
    )
    resize = fake.PyNvDecoder.setReconfigParams

    def noted_resize(self: Any, width: int, height: int) -> int:
        steps.append("resize")
        return resize(self, width, height)

    monkeypatch.setattr(fake.PyNvDecoder, "setReconfigParams", noted_resize)
    session.decode(plain.packets[0], 0)
    session.resize((320, 176))
    weakref.finalize(session._decoder, lambda: steps.append("free"))
    session.close()
    gc.collect()
    assert steps == ["copies are done", "resize", "copies are done", "free"]


@pytest.mark.parametrize("fault", ["shape", "format", "tag"])
def test_frames_that_are_not_as_expected_are_an_error(
    plain: Clip, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fake = FakeNvc()
    session = open_session(fake, CPU, plain)
    frame = fake.DecodedFrame
    if fault == "shape":
        monkeypatch.setattr(frame, "__dlpack__", lambda self: self._samples[:100].__dlpack__())
    elif fault == "format":
        monkeypatch.setattr(frame, "__dlpack__", lambda self: self._samples.view("i1").__dlpack__())
    else:
        monkeypatch.setattr(frame, "getPTS", lambda self: 77)
    expected = "packet 77" if fault == "tag" else "NV12 or P016 with even width"
    with pytest.raises(MediaError, match=expected):
        session.decode(plain.packets[0], 0)


def test_closing_releases_the_decoder_and_may_be_repeated(plain: Clip) -> None:
    fake = FakeNvc()
    session = open_session(fake, CPU, plain)
    surfaces = session.decode(plain.packets[0], 0)
    assert (fake.open, fake.max_open) == (1, 1)
    session.close()
    session.close()
    gc.collect()
    assert (fake.open, fake.closed) == (0, 1)
    assert len(surfaces) == 1
    with pytest.raises(MediaError, match="is closed"):
        session.decode(plain.packets[1], 1)
    with pytest.raises(MediaError, match="is closed"):
        session.resize((16, 16))


def test_a_codec_that_nvdec_does_not_know_is_an_error() -> None:
    with pytest.raises(MediaError, match="does not decode mjpeg; it decodes h264, hevc"):
        NvdecSession(
            FakeNvc(),
            codec="mjpeg",
            gpu=0,
            max_size=(64, 64),
            keeps_order=True,
            stream=DeviceStream(CPU),
        )


def test_the_gpu_says_what_it_decodes() -> None:
    fake = FakeNvc()
    caps = decoder_caps(fake, gpu=0, codec="hevc", bit_depth=10)
    assert (caps.is_supported, caps.engines, caps.max_width) == (True, 7, 8192)
    assert caps.why_not(1920, 1080) == ""
    assert "outside the limits of the GPU's decoder, 144x144 to 8192x8192" in caps.why_not(64, 64)
    fake.caps[("h264", 8)]["mb_num_max"] = 8160
    h264 = decoder_caps(fake, gpu=0, codec="h264", bit_depth=8)
    assert h264.why_not(1920, 1080) == ""
    assert "have 8192 macroblocks; the GPU's decoder takes 8160" in h264.why_not(2048, 1024)
    for codec, bits in (("h264", 10), ("mjpeg", 8)):
        none = decoder_caps(fake, gpu=0, codec=codec, bit_depth=bits)
        assert not none.is_supported
        assert "does not support" in none.why_not(640, 360)


def test_the_gpu_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvc()
    first = decoder_caps(fake, gpu=0, codec="h264", bit_depth=8)
    fake.caps.clear()
    assert decoder_caps(fake, gpu=0, codec="h264", bit_depth=8) is first
    monkeypatch.setattr(fake, "GetDecoderCaps", lambda **_: 1 / 0)
    with pytest.raises(MediaError, match="GPU 1 does not say whether it decodes h264 with 8 bits"):
        decoder_caps(fake, gpu=1, codec="h264", bit_depth=8)


class TestImport:
    """The one import of the package."""

    @pytest.fixture(autouse=True)
    def _fresh(self) -> Any:
        nvdec_library._loaded.cache_clear()
        yield
        nvdec_library._loaded.cache_clear()

    def test_a_package_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
        assert "is not installed; install the extra gpu" in why_not_nvdec()
        with pytest.raises(ConfigError, match="decoding by NVDEC is not possible: PyNvVideoCodec"):
            nvdec_module()

    def test_a_package_without_the_drivers_libraries(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        package = tmp_path / "PyNvVideoCodec"
        package.mkdir()
        (package / "__init__.py").write_text(
            "import logging\n"
            "logging.getLogger(__name__).setLevel(logging.INFO)\n"
            "logging.getLogger(__name__).error('advice')\n"
            "raise RuntimeError('no library\\n\\n=== TROUBLESHOOTING STEPS ===\\nmany lines')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "PyNvVideoCodec", raising=False)
        assert why_not_nvdec().startswith("PyNvVideoCodec cannot be loaded: no library; install")
        assert why_not_nvdec() == why_not_nvdec()
        assert not caplog.records
        assert not logging.getLogger("PyNvVideoCodec").disabled

    @pytest.mark.parametrize(("version", "suits"), [("2.2.4", True), ("3.0", True), ("2.1", False)])
    def test_versions(self, monkeypatch: pytest.MonkeyPatch, version: str, suits: bool) -> None:
        module: Any = types.ModuleType("PyNvVideoCodec")
        module.__version__ = version
        monkeypatch.setitem(sys.modules, "PyNvVideoCodec", module)
        if suits:
            assert nvdec_module() is module
        else:
            assert "2.1 is installed; version 2.2 or newer" in why_not_nvdec()
