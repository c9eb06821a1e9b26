"""Directional mixing by its CUDA kernel, against float64 on the CPU."""

import pytest
import torch
from torch import Tensor

from model.mixing import FixedMixer, directional_mix, directional_mix_logits
from model.mixing.cpu import is_channels_last
from model.mixing.reference import mix_by_einsum
from tests.support.mixing_cases import CASES, Case, agree, reference

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
WAYS = (("affine", True), ("minmax", True), ("plain", True), ("plain", False), ("affine", False))
PAPER = [
    Case(2, channels, 4, 2, 2, side, side, memory)
    for channels, side in ((512, 28), (1024, 14), (2048, 7))
    for memory in ("last", "planar")
]
RUNS = [
    (case, dtype, *WAYS[(i + j) % 5])
    for i, case in enumerate(CASES)
    for j, dtype in enumerate(DTYPES)
]
RUNS += [(case, torch.bfloat16, "affine", True) for case in PAPER]


def name(value: object) -> str:
    return str(value).removeprefix("torch.")


def mixed_with_gradients(
    case: Case, dtype: torch.dtype, mapping: str, masked: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """By the kernel or not at all."""
    x = case.map(dtype, "cuda").requires_grad_()
    given = case.given(dtype, "cuda").requires_grad_()
    if mapping == "plain":
        mixed = directional_mix(x, given, masked=masked, path="cuda")
    else:
        mixed = directional_mix_logits(x, given, normalisation=mapping, masked=masked, path="cuda")  # type: ignore[arg-type]
    return mixed, *torch.autograd.grad(mixed, (x, given), case.gradient(dtype, "cuda"))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("case", "dtype", "mapping", "masked"), RUNS, ids=name)
def test_the_kernel_is_right_on_shapes_that_break_kernels(
    case: Case, dtype: torch.dtype, mapping: str, masked: bool
) -> None:
    out, x_grad, given_grad = reference(case, dtype, mapping, masked)
    mixed, found_x, found_given = mixed_with_gradients(case, dtype, mapping, masked)
    assert agree(mixed, out, dtype)
    assert agree(found_x, x_grad, dtype)
    assert torch.isfinite(found_given).all()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(
        found_given.cpu().double(),
        given_grad,
        rtol=0,
        atol=tolerance * float(given_grad.abs().max()) + 1e-30,
    )
    assert is_channels_last(mixed) == is_channels_last(case.map(dtype))


@pytest.mark.parametrize("case", [CASES[3], CASES[4], PAPER[0], PAPER[5]], ids=str)
def test_results_repeat_bit_for_bit(case: Case) -> None:
    runs = [mixed_with_gradients(case, torch.bfloat16, "affine", True) for _ in range(4)]
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["plain", "affine", "minmax"])
@pytest.mark.parametrize("case", [CASES[2], CASES[3], CASES[20], CASES[23]], ids=str)
def test_opcheck(case: Case, mapping: str) -> None:
    x = case.map(torch.float32, "cuda").requires_grad_()
    given = case.given(torch.float32, "cuda").requires_grad_()
    torch.library.opcheck(torch.ops.cidc.directional_mix.default, (x, given, mapping, True))


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["planar", "last"])
@pytest.mark.parametrize("mapping", ["plain", "affine", "minmax"])
def test_gradcheck(memory: str, mapping: str) -> None:
    case = Case(2, 3, 4, 2, 2, 2, 2, memory)
    x = case.map(torch.float64, "cuda").requires_grad_()
    given = case.given(torch.float64, "cuda").requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, k: torch.ops.cidc.directional_mix(x, k, mapping, True), (x, given)
    )


def test_work_goes_to_the_current_stream() -> None:
    """The map is written late, on its own stream: another stream would read it too early."""
    case = PAPER[0]
    x = case.map(torch.float32, "cuda")
    weights = case.given(torch.float32, "cuda")
    expected = directional_mix(x, weights, path="cuda")
    late = torch.zeros_like(x)
    busy = torch.randn(4096, 4096, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(20):
            busy = busy @ busy / 64
        late.copy_(x)
        found = directional_mix(late, weights, path="cuda")
    stream.synchronize()
    assert torch.equal(found, expected)


def test_a_cuda_graph_replays_it_on_new_values() -> None:
    case = PAPER[2]
    x = case.map(torch.bfloat16, "cuda")
    logits = case.given(torch.bfloat16, "cuda")
    grad = case.gradient(torch.bfloat16, "cuda")
    x.requires_grad_()
    logits.requires_grad_()

    def step() -> tuple[Tensor, ...]:
        mixed = directional_mix_logits(x, logits, path="cuda")
        return mixed, *torch.autograd.grad(mixed, (x, logits), grad)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
        logits.copy_(torch.randn_like(logits))
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))


@pytest.mark.filterwarnings("default")  # Inductor uses what PyTorch has deprecated
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_it_compiles_without_a_break(backend: str) -> None:
    x = CASES[3].map(torch.float32, "cuda").requires_grad_()
    logits = CASES[3].given(torch.float32, "cuda").requires_grad_()

    def run(x: Tensor, logits: Tensor) -> Tensor:
        return (2 * directional_mix_logits(x, logits)).square().sum()

    expected = torch.autograd.grad(run(x, logits), (x, logits))
    found = torch.autograd.grad(
        torch.compile(run, fullgraph=True, backend=backend)(x, logits), (x, logits)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_autocast_leaves_the_map_its_dtype() -> None:
    x = CASES[3].map(torch.bfloat16, "cuda")
    logits = CASES[3].given(torch.bfloat16, "cuda").requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        mixed = directional_mix_logits(x, logits, path="cuda")
    assert mixed.dtype == torch.bfloat16
    mixed.float().sum().backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.float32


@pytest.mark.parametrize("masked", [True, False])
def test_fixed_weights_mix_as_given_ones(masked: bool) -> None:
    case = PAPER[1]
    x = case.map(torch.bfloat16, "cuda")
    weights = case.given(torch.bfloat16, "cuda")
    mixer = FixedMixer(weights.cpu(), torch.bfloat16, masked=masked).cuda()
    mixer.mixing = "cuda"
    assert torch.equal(mixer(x), directional_mix(x, weights, masked=masked, path="cuda"))


def test_addresses_past_two_to_the_31_are_right() -> None:
    batch = 1400
    channels = 512
    side = 28
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.randn(batch, 4, side, side, channels, device="cuda", dtype=torch.bfloat16).permute(
        0, 4, 1, 2, 3
    )
    weights = torch.randn(2, channels, 2, 4, device="cuda")
    mixed = directional_mix(x, weights, path="cuda")
    for clip in (0, batch // 2, batch - 1):
        torch.testing.assert_close(
            mixed[clip : clip + 1].float(),
            mix_by_einsum(x[clip : clip + 1].float(), weights),
            rtol=8e-3,
            atol=2e-2,
        )
