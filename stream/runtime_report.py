"""What the pipeline runs on, for the summary and the metrics."""

from __future__ import annotations

from model.checkpoints.weights import ModelSpec
from model.staging import HostUpload
from stream.analysis.recogniser import Recogniser

__all__ = ["describe_runtime"]


def describe_runtime(
    spec: ModelSpec, recogniser: Recogniser, upload: HostUpload | None
) -> dict[str, str]:
    """Return the labels of `cidc_runtime`.

    Args:
        upload: what copies frames to the GPU; None on the CPU.
    """
    memory = None if upload is None else upload.memory
    return {
        "device": str(recogniser.device),
        "engine": recogniser.engine.name,
        "dtype": str(recogniser.dtype).removeprefix("torch."),
        "model": spec.name,
        "preprocess": "dali-gpu" if recogniser.device.type == "cuda" else "dali-cpu",
        "mixing": recogniser.mixing,
        "mixing_reason": recogniser.mixing_reason,
        "staging": "none" if memory is None else memory.name,
        "staging_reason": "the network runs on the CPU" if memory is None else memory.reason,
    }
