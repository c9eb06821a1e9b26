"""The fake PyNvVideoCodec against the real one, which runs here on a stand-in for the driver.

The stand-in has no video engine: it shows what the library asks of the driver, and what it does
with the answers.
"""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.support.fake_nvc import FakeNvc
from tests.support.nvdec.real_library import (
    accepted_values,
    build_driver,
    native_module,
    run_in_a_process,
)

pytestmark = pytest.mark.slow
SIGNATURE = re.compile(r"(\w+)(?:: [\w.\[\], ]+?)?(?: = (<[^>]*>|[^,)]+))?(?:, |\))")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Any:
    native = native_module()
    folder = tmp_path_factory.mktemp("driver")
    build_driver(folder, native)
    return run_in_a_process(folder, native)


def arguments_of_real(text: str) -> list[tuple[str, int | None]]:
    """Return names and defaults from the first signature in a description by pybind11."""
    line = next(line for line in text.splitlines() if re.search(r"\w\((?!\*args)", line))
    found = []
    for name, default in SIGNATURE.findall(line.partition("(")[2].rpartition(") -> ")[0] + ")"):
        number = re.search(r"(\d+)>?$", default) if default else None
        found.append((name, int(number[1]) if number else None))
    return found


def arguments_of_fake(function: Any) -> list[tuple[str, int | None]]:
    parameters = inspect.signature(function).parameters.values()
    return [
        (item.name, None if item.default is item.empty else int(item.default))
        for item in parameters
    ]


def test_signatures_are_read_as_they_are_written() -> None:
    text = (
        "f(*args, **kwargs)\nOverloaded function.\n\n1. f(self: m.T, a: int = 0,"
        " b: m.E = <E.420: 1>, c: List[int]) -> Dict[str, int]\n"
    )
    assert arguments_of_real(text) == [("self", None), ("a", 0), ("b", 1), ("c", None)]


@pytest.mark.parametrize("name", ["CreateDecoder", "GetDecoderCaps"])
def test_functions_have_the_arguments_of_the_real_ones(real: Any, name: str) -> None:
    expected = arguments_of_real(real["library"]["functions"][name])
    assert len(expected) in (4, 12)
    assert arguments_of_fake(getattr(FakeNvc(), name)) == expected


@pytest.mark.parametrize("kind", ["PyNvDecoder", "DecodedFrame"])
def test_methods_have_the_arguments_of_the_real_ones(real: Any, kind: str) -> None:
    known = real["library"]["methods"][kind]
    fake = vars(getattr(FakeNvc, kind))
    public = {name for name in fake if not name.startswith("_")} | {
        name for name in fake if name.startswith("__dlpack")
    }
    for name in public:
        assert name in known, f"the real {kind} has no {name}"
        if callable(fake[name]):
            assert arguments_of_fake(fake[name]) == arguments_of_real(known[name]), name
    assert {"Decode", "setReconfigParams"} <= public or {"getPTS", "__dlpack__"} <= public


def test_members_of_enums_have_the_numbers_of_the_real_ones(real: Any) -> None:
    compared = 0
    for name, members in real["library"]["enums"].items():
        for member in getattr(FakeNvc, name, ()):
            assert members[member.name] == int(member), f"{name}.{member.name}"
            compared += 1
    assert compared >= 20
    for name in re.findall(r"^    (\w+) = \w+$", inspect.getsource(FakeNvc), re.MULTILINE):
        assert name in {**real["library"]["enums"], **real["library"]["methods"]}, name


def test_exceptions_are_related_as_the_real_ones(real: Any) -> None:
    for name, bases in real["library"]["errors"].items():
        assert [base.__name__ for base in getattr(FakeNvc, name).__mro__[1:]] == bases


def test_packets_take_the_values_that_real_ones_take(real: Any) -> None:
    fake = accepted_values(FakeNvc, FakeNvc.PacketData())
    assert {"bsl", "bsl_data", "pts", "decode_flag"} <= set(fake)
    for name, accepted in fake.items():
        assert real["library"]["packet"][name] == accepted, name


def test_what_the_project_uses_exists(real: Any) -> None:
    library = real["library"]
    text = "".join(
        (ROOT / "model/media" / name).read_text() for name in ("nvdec.py", "nvdec_library.py")
    )
    used = set(re.findall(r"\b_?module\.([A-Za-z]\w+)", text))
    assert {"CreateDecoder", "GetDecoderCaps", "PacketData", "VideoPacketFlag"} <= used
    assert used <= {*library["functions"], *library["enums"], *library["methods"]}
    assert set(re.findall(r"\bpacket\.(\w+) = ", text)) <= set(library["packet"])
    assert set(re.findall(r"\bframe\.(\w+)", text)) <= set(library["methods"]["DecodedFrame"])


def test_the_gpu_says_what_it_decodes(real: Any) -> None:
    steps = real["steps"]
    assert steps["h264 is supported"][0] == [True, 7]
    assert steps["hevc is supported"][0] == [False, 0]
    assert steps["caps"][0] == sorted(FakeNvc().GetDecoderCaps())


def test_without_reordering_each_packet_gives_its_frame(real: Any) -> None:
    steps = real["steps"]
    assert "create a parser with delay 0" in steps["low open"][1]
    for tag in range(3):
        frames, calls = steps[f"low {tag}"]
        assert frames == [[tag, 640, 360, 100 + tag]]
        assert calls[0] == "packet of 8 bytes, flags 10"  # TIMESTAMP, ENDOFPICTURE
    assert steps["low flush"] == ([], ["packet of 0 bytes, flags 3"])  # TIMESTAMP, ENDOFSTREAM


def test_with_reordering_frames_come_later(real: Any) -> None:
    steps = real["steps"]
    assert "create a parser with delay 1" in steps["native open"][1]
    frames = [steps[f"native {tag}"][0] for tag in range(3)]
    assert frames == [[], [[0, 640, 360, 100]], [[1, 640, 360, 101]]]
    assert steps["native flush"][0] == [[2, 640, 360, 102]]


def test_frames_are_copied_on_the_stream_and_nothing_waits(real: Any) -> None:
    calls = [line for _, lines in real["steps"].values() for line in lines]
    copies = [line for line in calls if line.startswith("copy")]
    assert copies
    assert all(line.endswith("on stream 1234") for line in copies)
    assert not [line for line in calls if "wait" in line]


def test_the_primary_context_and_the_limits_are_used(real: Any) -> None:
    steps = real["steps"]
    assert "retain the primary context" in steps["low open"][1]
    assert "create a decoder of 640x368, at most 1920x1088" in steps["low 0"][1]
    assert steps["low close"][1] == [
        "destroy the parser",
        "destroy the decoder",
        "release the primary context",
    ]


def test_an_announced_size_is_used_and_held_frames_come_first(real: Any) -> None:
    steps = real["steps"]
    assert steps["low resize"][0] is True
    assert "reconfigure to 320x192, shown 320x180" in steps["low resized"][1]
    assert steps["low resized"][0] == [[3, 320, 180, 103]]
    assert steps["low largest"][0] is True
    assert steps["low too large"] == (False, [])
    assert steps["native unannounced"][0] == [[3, 320, 180, 103]]
    assert steps["native rest"][0] == [[4, 320, 180, 104]]


def test_a_size_that_was_not_announced_is_not_noticed(real: Any) -> None:
    """Callers must therefore read the size from the stream; the fake gives noise."""
    frames, calls = real["steps"]["low unannounced"]
    assert frames == [[4, 320, 180, 104]]
    assert "reconfigure to 480x272, shown 320x180" in calls


def test_ten_bits_and_a_change_to_them(real: Any) -> None:
    assert real["steps"]["ten bits"][0] == [[0, 640, 360, 100 * 257]]
    assert real["steps"]["low other depth"][0] == (
        "MediaError: NVDEC on GPU 0: h264 cannot decode a packet: Reconfigure Not supported for"
        " bit depth change; decode it in software"
    )


def test_odd_widths_are_rounded_up_and_odd_heights_refused(real: Any) -> None:
    assert real["steps"]["odd (321, 180)"][0] == [[0, 322, 180, 100]]
    assert "NV12 or P016 with even width and height" in real["steps"]["odd (320, 181)"][0]


def test_python_goes_on_in_other_threads(real: Any) -> None:
    assert real["steps"]["another thread"][0] == [[0, 640, 360, 100]]


def test_the_next_call_overwrites_a_surface(real: Any) -> None:
    assert real["steps"]["reuse"][0] == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("cuvidCreateDecoder 801", "MediaError: .*cuvidCreateDecoder.* returned error 801; decode"),
        ("cuvidCreateDecoder 2", "DeviceMemoryError: .* memory is full: .* returned error 2; use"),
        ("cuMemAlloc 2", "DeviceMemoryError: .* memory is full: .*CUDA_ERROR_OUT_OF_MEMORY; use"),
        ("cuvidDecodePicture 801", "MediaError: .*cuvidDecodePicture.* returned error 801; decode"),
    ],
)
def test_errors_of_the_driver_come_with_the_first_packet(
    real: Any, step: str, expected: str
) -> None:
    text = real["steps"][step][0]
    assert re.fullmatch(rf"{expected}[\w ,]*", text), text
    assert "\n" not in text
    assert "/" not in text


def test_a_missing_compiler_is_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no compiler"):
        build_driver(tmp_path, tmp_path)
