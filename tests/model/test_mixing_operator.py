"""The operator as PyTorch sees it on the CPU: opcheck, gradients, compile; which code runs."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model import CIDCUnit, directional_mix, directional_weights
from model.cidc import use_mixing
from model.mixing import FixedMixer, choice, directional_mix_logits, mixing_choice
from model.mixing.choice import forget_choices, self_test, use_kernel
from model.mixing.launch_plan import unsupported
from model.mixing.reference import weights_gradient
from tests.support.mixing_cases import CASES, Case, agree, reference

MAPPINGS = ("plain", "affine", "minmax")


@pytest.fixture(autouse=True)
def _fresh_choices() -> Iterator[None]:
    """No test sees what another one decided."""
    forget_choices()
    yield
    forget_choices()


@pytest.mark.slow
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize(
    "case", [CASES[2], CASES[3], CASES[8], CASES[11], CASES[20], CASES[23]], ids=str
)
def test_opcheck(case: Case, mapping: str) -> None:
    x = case.map(torch.float32).requires_grad_()
    given = case.given(torch.float32).requires_grad_()
    torch.library.opcheck(torch.ops.cidc.directional_mix.default, (x, given, mapping, True))
    arguments = (case.gradient(torch.float32), x.detach(), given.detach(), mapping, True)
    for needs_map, needs_given in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(
            torch.ops.cidc.directional_mix_backward.default, (*arguments, needs_map, needs_given)
        )


@pytest.mark.slow
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("memory", ["planar", "last"])
def test_gradcheck(memory: str, mapping: str, masked: bool) -> None:
    case = Case(2, 3, 4, 2, 2, 2, 2, memory)
    x = case.map(torch.float64).requires_grad_()
    given = case.given(torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, k: torch.ops.cidc.directional_mix(x, k, mapping, masked), (x, given)
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cpu_path_is_the_definition(case: Case, dtype: torch.dtype) -> None:
    for mapping, masked in (("affine", True), ("minmax", True), ("plain", True), ("plain", False)):
        out, x_grad, given_grad = reference(case, dtype, mapping, masked)
        x = case.map(dtype).requires_grad_()
        given = case.given(dtype).requires_grad_()
        if mapping == "plain":
            mixed = directional_mix(x, given, masked=masked)
        else:
            mixed = directional_mix_logits(x, given, normalisation=mapping, masked=masked)  # type: ignore[arg-type]
        mixed.backward(case.gradient(dtype))
        assert agree(mixed, out, dtype)
        assert x.grad is not None
        assert agree(x.grad, x_grad, dtype)
        assert given.grad is not None
        assert (given.grad - given_grad).abs().max() <= (
            1e-12 if dtype == torch.float64 else 3e-6
        ) * given_grad.abs().max() + 1e-30


@pytest.mark.parametrize("normalisation", ["affine", "minmax"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_closed_gradient_of_the_weights_is_autograds(
    normalisation: str, ties: bool, masked: bool
) -> None:
    logits = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    if ties:
        logits = logits.round().clamp(-1, 1)
        logits[0, 0] = 0.5
    logits.requires_grad_()
    grad = torch.randn_like(logits)
    weights = directional_weights(logits, normalisation=normalisation, masked=masked)  # type: ignore[arg-type]
    (expected,) = torch.autograd.grad(weights, logits, grad)
    found = weights_gradient(grad, logits.detach(), normalisation=normalisation, masked=masked)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("path", ["auto", "reference"])
def test_autocast_leaves_the_map_its_dtype(path: str) -> None:
    """Under autocast the map is bfloat16; the logits and their gradients stay float32."""
    unit = CIDCUnit(8, 4, 4)
    use_mixing(unit, path)  # type: ignore[arg-type]
    x = torch.randn(2, 8, 4, 3, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = directional_mix_logits(x.bfloat16(), unit.logits_DCTT, path=path)  # type: ignore[arg-type]
        assert mixed.dtype == torch.bfloat16
        assert unit(x.bfloat16()).dtype == torch.bfloat16
    mixed.float().sum().backward()
    assert unit.logits_DCTT.grad is not None
    assert unit.logits_DCTT.grad.dtype == torch.float32


def test_the_operator_compiles_without_a_break() -> None:
    x = CASES[3].map(torch.float32).requires_grad_()
    given = CASES[3].given(torch.float32).requires_grad_()

    def run(x: Tensor, given: Tensor) -> Tensor:
        mixed: Tensor = torch.ops.cidc.directional_mix(x, given, "affine", True)
        return (mixed * 2).square().sum()

    expected = torch.autograd.grad(run(x, given), (x, given))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x, given), (x, given))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_unit_compiles_without_a_break() -> None:
    """On the CPU what is traced is plain PyTorch, so that it can be exported."""
    unit = CIDCUnit(6, 4, 4).eval()
    x = torch.randn(1, 6, 4, 3, 3)
    compiled = torch.compile(unit, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), unit(x))
    assert "cidc" not in str(torch.export.export(unit, (x,)).graph)


def test_the_compiler_does_not_look_into_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the choice imports CuPy and runs a kernel: nothing that can be traced."""

    def untraceable(_: torch.device) -> str:
        torch._dynamo.graph_break()
        return ""

    monkeypatch.setattr(choice, "why_not", lambda: "")
    monkeypatch.setattr(choice, "self_test", untraceable)

    def run(x: Tensor) -> Tensor:
        return x + 1 if use_kernel("auto", "cuda", None) else x

    assert torch.compile(run, fullgraph=True, backend="eager")(torch.zeros(1)).item() == 1


@pytest.mark.parametrize("memory", ["planar", "last"])
@pytest.mark.parametrize("masked", [True, False])
def test_fixed_weights_mix_as_given_ones(memory: str, masked: bool) -> None:
    case = Case(2, 16, 4, 2, 2, 3, 5, memory)
    x = case.map(torch.float32)
    weights = case.given(torch.float32)
    mixer = FixedMixer(weights, torch.float32, masked=masked)
    assert agree(mixer(x), reference(case, torch.float32, "plain", masked)[0], torch.float32)


def test_results_repeat_bit_for_bit() -> None:
    for case in (CASES[2], CASES[3]):
        runs = []
        for _ in range(3):
            x = case.map(torch.bfloat16).requires_grad_()
            given = case.given(torch.bfloat16).requires_grad_()
            mixed = directional_mix_logits(x, given)
            runs.append(
                (mixed, *torch.autograd.grad(mixed, (x, given), case.gradient(torch.bfloat16)))
            )
        for other in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_an_empty_batch_is_mixed() -> None:
    assert directional_mix(torch.zeros(0, 3, 4, 2, 2), torch.zeros(2, 3, 2, 4)).shape == (
        0,
        3,
        4,
        2,
        2,
    )


def test_map_and_weights_must_be_on_one_device() -> None:
    with pytest.raises(ShapeError, match="on one device, got cpu and meta"):
        directional_mix(torch.zeros(1, 3, 4, 2, 2), torch.zeros(2, 3, 2, 4, device="meta"))


def test_the_kernel_asked_for_by_name_is_an_error_where_it_cannot_run() -> None:
    unit = CIDCUnit(2, 4, 4)
    use_mixing(unit, "cuda")
    with pytest.raises(
        KernelError,
        match="'cuda' was asked for, but the network runs on the CPU; use 'auto' or 'reference'",
    ):
        unit(torch.zeros(1, 2, 4, 2, 2))


def test_the_reason_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "why_not", lambda: "CuPy is not installed")
    with pytest.raises(KernelError, match="but CuPy is not installed"):
        mixing_choice("cuda", torch.device("cuda"))


def test_the_choice_says_why() -> None:
    assert mixing_choice("auto", torch.device("cpu")) == (
        "reference",
        "the network runs on the CPU",
    )
    assert mixing_choice("reference", torch.device("cuda")) == ("reference", "asked for")


def test_a_fall_back_on_a_gpu_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "why_not", lambda: "CuPy is not installed")
    with caplog.at_level(logging.WARNING):
        assert [use_kernel("auto", "cuda", None) for _ in range(3)] == [False] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "directional mixing runs in plain PyTorch, not in its CUDA kernel: CuPy is not installed"
    ]
    forget_choices()
    monkeypatch.setattr(choice, "why_not", lambda: "")
    monkeypatch.setattr(choice, "self_test", lambda _: "")
    assert use_kernel("auto", "cuda", None)
    with pytest.raises(KernelError, match="does not take T above 32"):
        use_kernel("cuda", "cuda", unsupported(torch.zeros(1, 1, 33, 1, 1), 1))


def test_a_kernel_that_does_not_start_or_computes_wrongly_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> Tensor:
        raise KernelError("no kernel image")

    cpu = torch.device("cpu")  # the test itself knows no device
    for run, says in (
        (broken, "the kernel does not run here"),
        (lambda *_, **__: torch.tensor(0.4), "the kernel computes wrongly here"),
        (lambda *_, **__: torch.tensor(0.5), ""),
    ):
        forget_choices()
        monkeypatch.setattr(choice, "run_forward", run)
        assert self_test(cpu) == says


@pytest.mark.parametrize(
    ("x", "rows", "says"),
    [
        (torch.zeros(1, 1, 33, 1, 1), 1, "T above 32"),
        (torch.zeros(1, 1, 4, 1, 1), 65, "T' above 64"),
        (torch.zeros(1, 1, 4, 1, 1, dtype=torch.int32), 2, "dtype torch.int32"),
        (torch.zeros(1, 1, 1, 1, 1).expand(2**16, 1, 1, 2**8, 2**8), 1, "positions"),
        (torch.zeros(1, 1, 32, 1, 1), 64, None),
    ],
)
def test_what_the_kernel_does_not_take_is_named(x: Tensor, rows: int, says: str | None) -> None:
    found = unsupported(x, rows)
    assert found is None if says is None else says in str(found)


def test_other_shapes_are_errors() -> None:
    with pytest.raises(ShapeError, match="disagree on channels or time"):
        directional_mix_logits(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 3, 3, 3))
