"""The CUDA source on the CPU: AddressSanitizer checks every address, float64 every result."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch

from model.kernels import Launch
from model.mixing.cpu import is_channels_last
from model.mixing.cuda import run_backward, run_forward
from tests.support.mixing_cases import CASES, Case, agree, reference
from tests.support.shim import ORDERS, Shim

pytestmark = pytest.mark.slow

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# How weights come about rotates with the cases; each kernel takes it as an argument.
WAYS = (("affine", True), ("plain", False), ("minmax", True), ("plain", True), ("affine", False))
RUNS = [(case, DTYPES[0], *WAYS[i % 5]) for i, case in enumerate(CASES)]
RUNS += [(case, DTYPES[1 + i % 3], *WAYS[(i + 1 + i // 5) % 5]) for i, case in enumerate(CASES)]


def backward_runs(run, case: Case, dtype: torch.dtype, mapping: str, masked: bool):  # type: ignore[no-untyped-def]
    return partial(
        run_backward,
        run,
        case.gradient(dtype),
        case.map(dtype),
        case.given(dtype),
        mapping=mapping,
        masked=masked,
    )


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """Programs with all kernels that the cases need: starting a compiler is what takes time."""
    wanted: list[str] = []

    def note(launch: Launch) -> None:
        wanted.append(launch.kernel)

    for case, dtype, mapping, masked in RUNS:
        run_forward(note, case.map(dtype), case.given(dtype), mapping=mapping, masked=masked)  # type: ignore[arg-type]
        for needs_map, needs_given in ((True, True), (True, False), (False, True)):
            backward_runs(note, case, dtype, mapping, masked)(
                needs_map=needs_map, needs_given=needs_given
            )
    built = Shim(tmp_path_factory.mktemp("shim"))
    built.build(wanted)
    return built


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """Fresh memory is full of NaN: what a kernel leaves unwritten shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


def name(value: object) -> str:
    return str(value).removeprefix("torch.")


@pytest.mark.parametrize(("case", "dtype", "mapping", "masked"), RUNS, ids=name)
def test_the_source_is_right_on_shapes_that_break_kernels(
    shim: Shim, case: Case, dtype: torch.dtype, mapping: str, masked: bool
) -> None:
    out, x_grad, given_grad = reference(case, dtype, mapping, masked)
    mixed = run_forward(
        shim.run, case.map(dtype), case.given(dtype), mapping=mapping, masked=masked
    )  # type: ignore[arg-type]
    assert agree(mixed, out, dtype)
    assert is_channels_last(mixed) == is_channels_last(case.map(dtype))
    run = backward_runs(shim.run, case, dtype, mapping, masked)
    (both_x, both_given), (only_x, _), (_, only_given) = (
        run(needs_map=True, needs_given=True),
        run(needs_map=True, needs_given=False),
        run(needs_map=False, needs_given=True),
    )
    for found in (both_x, only_x):
        assert agree(found, x_grad, dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for found in (both_given, only_given):
        # Sums over positions of products of exact values: float32 whatever the map's dtype.
        assert torch.isfinite(found).all()
        torch.testing.assert_close(
            found.double(),
            given_grad,
            rtol=0,
            atol=(1e-12 if wide == torch.float64 else 2e-6) * float(given_grad.abs().max()) + 1e-30,
        )


@pytest.mark.parametrize("case", [CASES[3], CASES[4], CASES[11], CASES[16]], ids=name)
def test_the_order_of_threads_changes_nothing(shim: Shim, case: Case) -> None:
    """A barrier too few would let one order read what another has not written yet."""
    found = []
    for order in ORDERS:
        shim.order = order
        mixed = run_forward(
            shim.run,
            case.map(torch.float32),
            case.given(torch.float32),
            mapping="affine",
            masked=True,
        )
        gradients = backward_runs(shim.run, case, torch.float32, "affine", True)(
            needs_map=True, needs_given=True
        )
        found.append((mixed, *gradients))
    shim.order = ORDERS[0]
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_masked_entries_are_never_read(shim: Shim) -> None:
    """NaN in the weights a row may not use, and in the frames it may not see, reaches nothing."""
    case = CASES[3]
    weights = case.given(torch.float32)
    x = case.map(torch.float32)
    weights[:, :, 0, 1:] = torch.nan
    x[:, :, 1:3] = torch.nan
    mixed = run_forward(shim.run, x, weights, mapping="plain", masked=True)
    # the first row of each direction sees one frame, the first or the last
    assert torch.isfinite(mixed[:, :, [0, 2]]).all()


@pytest.mark.parametrize("mapping", ["affine", "minmax"])
def test_a_logit_that_is_not_a_number_is_not_hidden(shim: Shim, mapping: str) -> None:
    case = CASES[3]
    logits = case.given(torch.float32)
    logits[0, 5, 1, 2] = torch.nan
    mixed = run_forward(shim.run, case.map(torch.float32), logits, mapping=mapping, masked=True)  # type: ignore[arg-type]
    assert mixed[:, 5, 1].isnan().all()
    assert torch.isfinite(mixed[:, 6:]).all()


def test_no_values_launch_nothing() -> None:
    def never(launch: Launch) -> None:
        raise AssertionError(launch)

    x = torch.zeros(0, 3, 4, 2, 2)
    weights = torch.zeros(2, 3, 2, 4)
    assert run_forward(never, x, weights, mapping="plain", masked=False).shape == (0, 3, 4, 2, 2)
    without_time = run_forward(
        never, torch.zeros(1, 3, 0, 2, 2), torch.zeros(2, 3, 2, 0), mapping="plain", masked=False
    )
    assert torch.equal(without_time, torch.zeros(1, 3, 4, 2, 2))
    grad_x, grad_given = run_backward(
        never,
        torch.zeros(0, 3, 4, 2, 2),
        x,
        weights,
        mapping="plain",
        masked=False,
        needs_map=True,
        needs_given=True,
    )
    assert grad_x is not None
    assert grad_x.shape == x.shape
    assert grad_given is not None
    assert torch.equal(grad_given, torch.zeros_like(weights))


def test_the_shim_sees_an_access_outside_its_buffer(shim: Shim) -> None:
    """The check must be able to fail: a map one element shorter than the launch says."""
    case = CASES[2]
    launches: list[Launch] = []
    run_forward(
        launches.append,
        case.map(torch.float32),
        case.given(torch.float32),
        mapping="plain",
        masked=False,
    )
    x = launches[0].arguments[0]
    assert isinstance(x, torch.Tensor)
    short = torch.zeros(x.numel() - 1)
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        shim.run(
            Launch(
                launches[0].kernel,
                launches[0].grid,
                launches[0].block,
                launches[0].shared_bytes,
                (short, *launches[0].arguments[1:]),
            )
        )
