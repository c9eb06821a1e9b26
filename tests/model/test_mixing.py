"""Directional mixing against float64 NumPy written from the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from configs import ShapeError
from model import CIDCUnit, directional_mask, directional_mix, directional_weights

SIZES = [(t_out, t_in) for t_out in range(1, 17) for t_in in range(1, 17)]


def numpy_weights(logits: np.ndarray, normalisation: str) -> np.ndarray:
    weights = np.zeros_like(logits)
    channels, t_out, t_in = logits.shape
    for c in range(channels):
        for row in range(t_out):
            seen = t_in if t_out == 1 else row * (t_in - 1) // (t_out - 1) + 1
            exponents = np.exp(logits[c, row, :seen] - logits[c, row, :seen].max())
            values = exponents / exponents.sum()
            if normalisation == "affine":
                values = 2 * values - 1
            else:
                span = values.max() - values.min()
                values = np.ones(seen) if span == 0 else 2 * (values - values.min()) / span - 1
            weights[c, row, :seen] = values
    return weights


def numpy_mix(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    halves = []
    for direction, rows in enumerate(weights):
        read = x[:, :, ::-1] if direction else x
        out = np.zeros((x.shape[0], x.shape[1], rows.shape[1], *x.shape[3:]))
        for t_out in range(rows.shape[1]):
            for t_in in range(x.shape[2]):
                out[:, :, t_out] += rows[None, :, t_out, t_in, None, None] * read[:, :, t_in]
        halves.append(out)
    return np.concatenate(halves, axis=2)


@pytest.mark.parametrize(("t_out", "t_in"), SIZES)
def test_the_mask_is_the_resized_upper_triangle(t_out: int, t_in: int) -> None:
    mask = directional_mask(t_out, t_in)
    assert mask.dtype == torch.bool
    if t_out == 1:
        assert not mask.any()
        return
    triangle = torch.triu(torch.ones(t_in, t_in, dtype=torch.float64), diagonal=1)[None, None]
    resized = functional.interpolate(triangle, (t_out, t_in), mode="bilinear", align_corners=True)[
        0, 0
    ]
    assert torch.equal(mask, resized > 1e-9)


@pytest.mark.parametrize("normalisation", ["affine", "minmax"])
@pytest.mark.parametrize(("t_out", "t_in"), SIZES[::5])
def test_weights_match_numpy(t_out: int, t_in: int, normalisation: str) -> None:
    logits = np.random.default_rng(t_out * 17 + t_in).normal(size=(3, t_out, t_in)) * 2
    weights = directional_weights(torch.from_numpy(logits), normalisation=normalisation)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights.numpy(), numpy_weights(logits, normalisation), atol=1e-12)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("t_out", "t_in"), SIZES[::7])
def test_the_mix_matches_numpy(t_out: int, t_in: int, directions: int) -> None:
    rng = np.random.default_rng(t_out * 31 + t_in)
    x = rng.normal(size=(2, 5, t_in, 3, 7))
    weights = rng.normal(size=(directions, 5, t_out, t_in))
    mixed = directional_mix(torch.from_numpy(x), torch.from_numpy(weights))
    np.testing.assert_allclose(mixed.numpy(), numpy_mix(x, weights), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["affine", "minmax"])
def test_gradients_are_those_of_finite_differences(normalisation: str) -> None:
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 3, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda k, v: directional_mix(v, directional_weights(k, normalisation=normalisation)),
        (logits, x),
    )  # type: ignore[arg-type]


def test_equal_logits_have_finite_gradients() -> None:
    logits = torch.zeros(2, 4, 4, requires_grad=True)
    directional_weights(logits, normalisation="minmax").sum().backward()
    directional_weights(logits, normalisation="affine").square().sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["affine", "minmax"])
@pytest.mark.parametrize("direction", ["none", "uni", "bi"])
@pytest.mark.parametrize("t_in", range(1, 17))
@torch.no_grad()
def test_a_unit_and_its_inference_twin_match_numpy_for_every_length(
    t_in: int, direction: str, normalisation: str
) -> None:
    """All T and T' from 1 to 16: weights, mixing, projection, norm and ReLU in float64 NumPy."""
    rng = np.random.default_rng(t_in)
    for rows in range(1, 17):
        t_out = 2 * rows if direction == "bi" else rows
        unit = CIDCUnit(3, t_in, t_out, direction, normalisation).double().eval()  # type: ignore[arg-type]
        norm = unit.project.norm
        norm.running_mean.copy_(torch.from_numpy(rng.normal(size=3)))  # type: ignore[operator, union-attr]
        norm.running_var.copy_(torch.from_numpy(rng.uniform(0.5, 2, 3)))  # type: ignore[operator, union-attr]
        x = rng.normal(size=(2, 3, t_in, 2, 3))
        logits = unit.logits_DCTT.detach().numpy()
        if direction == "none":
            weights = np.stack(
                [
                    np.stack(
                        [numpy_weights(k[:, [row]], normalisation)[:, 0] for row in range(rows)], 1
                    )
                    for k in logits
                ]
            )
        else:
            weights = np.stack([numpy_weights(k, normalisation) for k in logits])
        projected = np.einsum(
            "bcthw,oc->bothw",
            numpy_mix(x, weights),
            unit.project.conv.weight.numpy()[:, :, 0, 0, 0],
        )
        mean, variance = (
            v.numpy()[:, None, None, None] for v in (norm.running_mean, norm.running_var)
        )  # type: ignore[union-attr]
        expected = np.maximum((projected - mean) / np.sqrt(variance + 1e-5), 0)
        np.testing.assert_allclose(unit(torch.from_numpy(x)).numpy(), expected, atol=1e-9)
        twin = unit.folded(torch.float32)
        np.testing.assert_allclose(twin(torch.from_numpy(x).float()).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("direction", "t_in", "t_out"), [("none", 3, 2), ("uni", 3, 5), ("bi", 4, 4), ("bi", 2, 6)]
)
def test_a_unit_has_the_gradients_of_finite_differences(
    direction: str, t_in: int, t_out: int
) -> None:
    torch.manual_seed(0)
    unit = CIDCUnit(2, t_in, t_out, direction).double().eval()  # type: ignore[arg-type]
    x = torch.randn(1, 2, t_in, 2, 1, dtype=torch.float64, requires_grad=True)
    parameters = dict(unit.named_parameters())

    def run(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(
            unit, dict(zip(parameters, values, strict=True)), (x,)
        )
        return result

    assert torch.autograd.gradcheck(run, (x, *parameters.values()))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    t_in=st.integers(1, 16),
    rows=st.integers(1, 16),
    changed=st.integers(0, 15),
    normalisation=st.sampled_from(["affine", "minmax"]),
)
@torch.no_grad()
def test_causality_holds_for_every_length(
    t_in: int, rows: int, changed: int, normalisation: str
) -> None:
    """Changing one sub-clip changes no bit of a row that may not see it, in both directions."""
    changed %= t_in
    for build in (lambda unit: unit, lambda unit: unit.folded(torch.float32)):
        torch.manual_seed(t_in * 17 + rows)
        unit = build(CIDCUnit(4, t_in, 2 * rows, "bi", normalisation).eval())  # type: ignore[arg-type]
        x = torch.randn(1, 4, t_in, 2, 2)
        other = x.clone()
        other[:, :, changed] += 1.0
        moved = (unit(other) != unit(x)).flatten(3).any(dim=3).any(dim=1)[0]
        last_seen = [
            t_in - 1 if rows == 1 else row * (t_in - 1) // (rows - 1) for row in range(rows)
        ]
        for row, seen in enumerate(last_seen):
            assert not (moved[row] and changed > seen)
            assert not (moved[rows + row] and t_in - 1 - changed > seen)


@pytest.mark.parametrize("t_out", [2, 4, 8, 14])
def test_a_row_never_depends_on_sub_clips_it_may_not_see(t_out: int) -> None:
    torch.manual_seed(0)
    unit = CIDCUnit(6, 4, t_out).eval()
    mask = directional_mask(t_out // 2, 4)
    half = t_out // 2
    x = torch.randn(1, 6, 4, 3, 3)
    before = unit(x)
    for changed in range(4):
        other = x.clone()
        other[:, :, changed] += 1.0
        moved = (unit(other) - before).abs().amax(dim=(0, 1, 3, 4)) > 0
        assert not moved[:half][mask[:, changed]].any()
        assert not moved[half:][mask[:, 3 - changed]].any()
        assert moved.any()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: CIDCUnit(4, 4, 3), "must be even"),
        (lambda: CIDCUnit(0, 4, 4), "at least 1"),
        (lambda: directional_mask(0, 3), "at least 1"),
        (lambda: directional_mix(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4)), "disagree"),
        (lambda: directional_mix(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)), "takes a map"),
        (lambda: directional_weights(torch.zeros(3)), "needs logits"),
    ],
)
def test_wrong_shapes_are_named(build, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ShapeError, match=says):
        build()
