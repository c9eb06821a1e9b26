"""DALI's messages: what is short of memory, and which line says what is wrong."""

import numpy as np
import pytest
import torch

from configs import CidcError, ConfigError, DeviceMemoryError, MediaError
from model.media import dali_runner
from model.media.dali_errors import is_out_of_memory, reason_of
from model.media.preprocess import CropSpec, EncodedClip, PreprocessConfig, Preprocessor

CONFIG = PreprocessConfig(short_side=32, height=32, width=48)
BROKEN = EncodedClip(np.zeros(100, np.uint8), np.array([0, 1], np.int32))
# Texts in DALI 2.4's libraries, and those of CUDA and of the C++ library.
SHORT_OF_MEMORY = (
    "CUDA allocation failed",
    "Critical error in pipeline:\nCUDA runtime API error cudaErrorMemoryAllocation (2):\n"
    "out of memory",
    "CUDA driver API error CUDA_ERROR_OUT_OF_MEMORY (2)",
    "Can't allocate 12582912 bytes on device 0.",
    "Can't allocate 12582912 bytes on host.",
    "Could not allocate virtual address space of size 4096",
    "Failed to allocate 4096 bytes",
    "std::bad_alloc",
    "NPP_MEMORY_ALLOCATION_ERROR",
    "Insufficient memory",
)
OTHERS = (
    'Assert on "frames_decoders_[s]->IsValid()" failed: Failed to create video decoder for "x"',
    "Unsupported codec: av1",
    "an illegal memory access was encountered",
    'Failed to decode "memory file"',
    # FFmpeg's words for files that claim a huge size
    "Failed to open video file from memory buffer due to: Cannot allocate memory",
    "Could not allocate av packet",
)
MIXED = """Critical error in pipeline:
Critical error in pipeline:
Error in MIXED operator `nvidia.dali.fn.decoders.video`,
which was used in the pipeline definition with the following traceback:

  File "dali_graph.py", line 39, in encoded_clip_graph
    frames = fn.decoders.video(encoded, frames=places, device=decoder)

encountered:

CUDA runtime API error cudaErrorNoKernelImageForDevice (209):
no kernel image is available for execution on the device
C++ context: [/opt/dali/dali/operators/video/decoder/video_decoder_mixed.cc:24]
Current pipeline object is no longer valid.
Current pipeline object is no longer valid."""


def test_texts_that_say_that_memory_is_short() -> None:
    assert all(is_out_of_memory(RuntimeError(text)) for text in SHORT_OF_MEMORY)
    assert not any(is_out_of_memory(RuntimeError(text)) for text in OTHERS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            MIXED,
            "CUDA runtime API error cudaErrorNoKernelImageForDevice (209): no kernel image is"
            " available for execution on the device",
        ),
        (OTHERS[0], 'Failed to create video decoder for "x"'),
        ("Critical error when building pipeline:\nno NVDEC here", "no NVDEC here"),
        ("Critical error in pipeline:\n", "RuntimeError"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_is_what_dali_says_behind_its_headings(text: str, reason: str) -> None:
    assert reason_of(RuntimeError(text)) == reason


def test_a_video_that_does_not_decode_is_a_media_error_with_dalis_reason() -> None:
    with pytest.raises(
        MediaError, match=r'one of 1 videos: Failed to create video decoder for "memory file"$'
    ):
        Preprocessor(CONFIG, max_batch=1).decode([BROKEN], [CropSpec(0)])


def failing(monkeypatch: pytest.MonkeyPatch, where: str, text: str) -> None:
    """Let DALI fail with this text when it builds a graph or runs it."""

    def fail(*_: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(dali_runner.DaliRunner, where, fail)


@pytest.mark.parametrize("where", ["_built", "_run"])
def test_too_little_memory_is_not_blamed_on_the_videos(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    graph = Preprocessor(CONFIG, max_batch=4)
    failing(monkeypatch, where, "CUDA allocation failed")
    with pytest.raises(DeviceMemoryError, match=r"4 clips.*CUDA allocation failed; lower") as found:
        graph.decode([BROKEN], [CropSpec(0)])
    assert isinstance(found.value, MemoryError)
    assert isinstance(found.value, CidcError)


def test_a_graph_that_cannot_be_built_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Preprocessor(CONFIG, max_batch=1)
    failing(monkeypatch, "_built", "Critical error when building pipeline:\nno NVDEC here")
    for _ in range(2):
        with pytest.raises(ConfigError, match="encoded_clip_graph on the cpu: no NVDEC here; "):
            graph.decode([BROKEN], [CropSpec(0)])


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    with pytest.raises(ConfigError, match=r"clip_graph on the gpu: .*CUDA is not available"):
        Preprocessor(CONFIG, max_batch=1, device="gpu")


def test_after_a_failure_the_same_preprocessor_goes_on() -> None:
    graph = Preprocessor(CONFIG, max_batch=1)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 60, 3), dtype=np.uint8)
    expected = graph([frames]).clone()
    for _ in range(3):
        with pytest.raises(MediaError):
            graph.decode([BROKEN], [CropSpec(0)])
        np.testing.assert_array_equal(graph([frames]).numpy(), expected.numpy())
