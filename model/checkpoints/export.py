"""Export networks to ONNX.

The graph maps normalised clips `B 3 T H W` to `logits_BK` and uses standard ONNX operators only.
The batch size is free. The number of frames, the height and the width are fixed by the description
of the weights. The file stores this description in its metadata under the key `cidc`, as weights
files do. The logits are not divided by the temperature in it: probabilities are
`softmax(logits_BK / temperature)`, with a temperature of 1 if the description has none.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from configs import CheckpointError, CidcError, replaced_file
from model.network import ActionNetwork
from model.spec import ModelSpec

__all__ = [
    "INPUT_NAME",
    "OUTPUT_NAME",
    "export_onnx",
    "how_to_get_probabilities",
    "onnx_difference",
    "onnx_of_folded",
]

INPUT_NAME = "clips_BCTHW"
OUTPUT_NAME = "logits_BK"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# The first version of ONNX's operators with convolutions and pooling in bfloat16.
_BFLOAT16_OPSET = 22
# Largest allowed difference, as a fraction of the largest logit. ONNX Runtime adds float32 values
# in another order, and attention increases the difference.
_TOLERANCE = 1e-2


def export_onnx(network: ActionNetwork, path: str | Path) -> float:
    """Write a loaded network as an ONNX file and compare its logits in ONNX Runtime.

    The file is kept only if the logits are the same up to rounding.

    Returns:
        The difference between the logits; see `onnx_difference`.

    Raises:
        CidcError: the packages of the extra `onnx` are not installed.
        CheckpointError: the network has no description, ONNX Runtime computes other logits, or the
            file cannot be written.
    """
    path = Path(path)
    if str(path) != str(path).encode(errors="replace").decode():
        raise CheckpointError(f"cannot write {path}: ONNX Runtime needs a name in UTF-8")
    for name in _NEEDED:
        _need(name)
    spec = network.spec
    if spec is None:
        raise CheckpointError(
            "only a network with a description can be exported; load it with load_model"
        )
    program = _exported(network, spec)
    program.model.metadata_props["cidc"] = spec.to_json()
    try:
        with replaced_file(path) as partial:
            program.save(str(partial))
            difference = onnx_difference(network, partial)
            if not difference <= _TOLERANCE:
                raise CheckpointError(
                    f"{path} is not written: ONNX Runtime's logits differ by {difference:.1e} of"
                    " the largest one"
                )
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from error
    return difference


def how_to_get_probabilities(spec: ModelSpec | None) -> str:
    """Return how to turn the logits of an exported network into probabilities, as a formula."""
    temperature = 1.0 if spec is None else spec.temperature
    divided = OUTPUT_NAME if temperature == 1 else f"{OUTPUT_NAME} / {temperature:g}"
    return f"softmax({divided})"


def onnx_of_folded(network: ActionNetwork, dtype: torch.dtype) -> bytes:
    """Return the ONNX file of a folded network on the CPU, with clips and convolutions in `dtype`.

    TensorRT takes its number formats from this graph. The batch size is free; logits are float32.
    The result is not compared with the network's.

    Args:
        network: a network from `load_model` and `fold_for_inference`.
        dtype: the data type that it was folded into.

    Raises:
        CidcError: the packages of the extra `onnx` are not installed.
    """
    for name in _NEEDED[:2]:
        _need(name)
    opset = _BFLOAT16_OPSET if dtype == torch.bfloat16 else None
    program = _exported(network, cast("ModelSpec", network.spec), dtype=dtype, opset=opset)
    data: bytes = program.model_proto.SerializeToString()
    return data


def _exported(
    network: ActionNetwork,
    spec: ModelSpec,
    *,
    dtype: torch.dtype = torch.float32,
    opset: int | None = None,
) -> Any:
    clips = torch.zeros(
        2, 3, spec.model.frames, spec.preprocess.height, spec.preprocess.width, dtype=dtype
    )
    # The exporter logs each of its steps and warns about its own deprecated functions.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            network.eval(),
            (clips,),
            dynamo=True,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=opset,
            dynamic_shapes={INPUT_NAME: {0: torch.export.Dim("batch")}},
            verbose=False,
        )


def onnx_difference(
    network: ActionNetwork, path: str | Path, *, batches: tuple[int, ...] = (1, 3)
) -> float:
    """Compare the logits of a network with the logits of its ONNX file, on random clips.

    Returns:
        The largest difference, divided by the largest logit; infinite if a logit is not finite.

    Raises:
        CidcError: ONNX Runtime is not installed.
    """
    runtime = _need("onnxruntime")
    spec = cast("ModelSpec", network.spec)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch in batches:
        shape = (batch, 3, spec.model.frames, spec.preprocess.height, spec.preprocess.width)
        clips: Tensor = torch.randn(shape, generator=generator)
        with torch.no_grad():
            expected = network(clips)
        (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: clips.numpy()})
        largest = expected.abs().max().clamp(min=1e-6)
        difference = (torch.from_numpy(found) - expected).abs().max() / largest
        differences.append(float(difference) if torch.isfinite(difference) else float("inf"))
    return max(differences)


def _need(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise CidcError(
            f"export needs the package {name}; install the extra: pip install 'cidc-stream[onnx]'"
        ) from None
