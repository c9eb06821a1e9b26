"""The clip gather: the CPU path and the kernel's own source, both against the plain steps."""

import pytest
import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model.clip_gather import ClipGather, gather_kernels
from model.media.preprocess import PreprocessConfig, normalise_clips
from tests.support.shim import Shim

CPU = torch.device("cpu")
CONFIG = PreprocessConfig(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))
# Frames whose bytes fill 16-byte accesses and frames that do not; clips that start everywhere.
RINGS = [
    ((3, 4, 4, 8), [(2, 0), (0, 3), (2, 1)]),
    ((2, 5, 3, 7), [(1, 4)]),
    ((1, 32, 40, 80), [(0, 31), (0, 7)]),
    ((2, 1, 1, 1), [(1, 0)] * 3),
]


def ring_of(shape: tuple[int, int, int, int]) -> Tensor:
    return torch.randint(
        0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(7)
    )


def in_steps(ring: Tensor, clips: list[tuple[int, int]], dtype: torch.dtype) -> Tensor:
    rolled = torch.stack([ring[slot].roll(-head, dims=0) for slot, head in clips])
    return normalise_clips(rolled, CONFIG, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "clips"), RINGS, ids=str)
def test_the_cpu_path_gives_the_same_bits(
    shape: tuple[int, int, int, int], clips: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    ring = ring_of(shape)
    before = ring.clone()
    found = ClipGather(CONFIG, dtype=dtype, device=CPU)(ring, clips)
    assert torch.equal(found, in_steps(ring, clips, dtype))
    assert found.shape == (len(clips), 3, *shape[1:])
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(ring, before)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    built = Shim(tmp_path_factory.mktemp("shim"))
    built.build(list(gather_kernels()))
    return built


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "clips"), RINGS, ids=str)
def test_the_kernels_source_gives_the_same_values(
    shim: Shim, shape: tuple[int, int, int, int], clips: list[tuple[int, int]], dtype: torch.dtype
) -> None:
    ring = ring_of(shape)
    torch.use_deterministic_algorithms(True)  # fresh memory is full of NaN
    try:
        found = ClipGather(CONFIG, dtype=dtype, device=CPU).by_kernel(shim.run, ring, clips)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(
        found.double(), in_steps(ring, clips, torch.float32).double(), rtol=step, atol=4e-7
    )


def test_a_ring_at_an_odd_address_is_read_byte_by_byte(shim: Shim) -> None:
    shape, clips = RINGS[0]
    whole = ring_of(shape)
    odd = torch.empty(whole.numel() + 1, dtype=torch.uint8)[1:].view(whole.shape).copy_(whole)
    gather = ClipGather(CONFIG, dtype=torch.float32, device=CPU)
    found = gather.by_kernel(shim.run, odd, clips)
    assert shim.launched[-1].kernel == "gather_clips<float, 1>"
    torch.testing.assert_close(found, in_steps(whole, clips, torch.float32), rtol=1e-6, atol=4e-7)


def test_no_clips_give_an_empty_batch() -> None:
    gather = ClipGather(CONFIG, dtype=torch.float32, device=CPU)
    assert gather(ring_of((1, 2, 2, 2)), []).shape == (0, 3, 2, 2, 2)


def test_what_is_wrong_is_named() -> None:
    gather = ClipGather(CONFIG, dtype=torch.float32, device=CPU)
    with pytest.raises(
        ShapeError, match=r"clip \(slot 2, head 0\) lies outside a ring of 2 slots of 3 frames"
    ):
        gather(ring_of((2, 3, 4, 4)), [(2, 0)])
    with pytest.raises(ShapeError, match="head 3"):
        gather(ring_of((2, 3, 4, 4)), [(0, 3)])
    with pytest.raises(ShapeError, match="contiguous uint8 S T H W 3"):
        gather(torch.zeros(1, 2, 3, 4, 3), [(0, 0)])
    with pytest.raises(ShapeError, match="the ring is on meta, this gather was made for cpu"):
        gather(torch.zeros(1, 2, 3, 4, 3, dtype=torch.uint8, device="meta"), [(0, 0)])
    with pytest.raises(KernelError, match="runs on the CPU"):
        ClipGather(CONFIG, dtype=torch.float32, device=CPU, path="cuda")
