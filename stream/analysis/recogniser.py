"""From raw clips to class probabilities on the device at hand.

Letters: B clips, T frames, H and W space, C channels, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.activation import newest_map, overlay_map, titled_frame
from model.calibration import probabilities_of
from model.checkpoints.weights import ModelSpec, load_model
from model.cidc import use_mixing
from model.clip_gather import ClipGather
from model.device_streams import DeviceStream
from model.inference import BatchRun, Engine
from model.mixing import mixing_choice
from model.network import fold_for_inference
from model.runtime import pick_device, pick_dtype
from stream.analysis.config import InferConfig, weights_path
from stream.analysis.engines import open_engine

__all__ = ["Recogniser"]

_log = logging.getLogger(__name__)


class Recogniser:
    """Runs the network on batches of raw clips.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
        ConfigError: the device or the engine that was asked for is not there.
        KernelError: the kernels that were asked for cannot run.

    Attributes:
        stream: the device's stream for the network; whoever calls `probabilities` enters it.
        mixing, mixing_reason: the path of the directional mixing, and why it is not the kernel
            (empty if it is).
        engine: what runs the network.
    """

    def __init__(self, config: InferConfig) -> None:
        self.device = pick_device(config.device)
        self.dtype = pick_dtype(config.precision, self.device)
        self.stream = DeviceStream(self.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        network = load_model(weights_path(config))
        assert isinstance(network.spec, ModelSpec)
        self.spec: ModelSpec = network.spec
        self.mixing, self.mixing_reason = mixing_choice(config.mixing, self.device)
        self._network = fold_for_inference(network, self.dtype).to(self.device)
        use_mixing(self._network, config.mixing)
        self.engine: Engine = open_engine(
            config, self._network, dtype=self.dtype, device=self.device
        )
        self._gather = ClipGather(
            self.spec.preprocess, dtype=self.dtype, device=self.device, path=config.mixing
        )
        if self.device.type == "cpu" and config.device == "auto":
            _log.info(
                "no CUDA device found: running on the CPU in %s",
                str(self.dtype).removeprefix("torch."),
            )

    @torch.inference_mode()
    def gather(self, ring_STHWC: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Gather clips of a ring into a normalised batch `B C T H W`; the ring may change then.

        Args:
            places: slot of each clip, and where in the slot its oldest frame lies.
        """
        return self._gather(ring_STHWC, places)

    @torch.inference_mode()
    def probabilities(self, clips_BCTHW: Tensor) -> Tensor:
        """Class probabilities `B K` of normalised clips, in float32 on the CPU.

        The temperature of the weights is applied.
        """
        return probabilities_of(self.engine(clips_BCTHW), self.spec.temperature).cpu()

    def plan(self, clips: int) -> BatchRun:
        """Return how a batch of this many clips runs."""
        return self.engine.plan(clips)

    def overlay(
        self, clip_BCTHW: Tensor, frame_HWC: NDArray[np.uint8], action: str, confidence: float
    ) -> NDArray[np.uint8]:
        """Paint what speaks for an action in a normalised clip over a frame, with its name."""
        strength_HW = newest_map(self._network, clip_BCTHW, self.spec.labels.index(action))
        painted = overlay_map(frame_HWC, strength_HW, self.spec.preprocess)
        return titled_frame(painted, f"{action} {confidence:.0%}")

    def warm_up(self, max_batch: int) -> None:
        """Prepare the engine, and run once at the smallest and the largest batch.

        Otherwise the first camera would wait for it.
        """
        framing = self.spec.preprocess
        ring_STHWC = torch.zeros(
            1,
            self.spec.model.frames,
            framing.height,
            framing.width,
            3,
            dtype=torch.uint8,
            device=self.device,
        )
        # On the network's stream, because PyTorch keeps freed memory for the stream that used it.
        with self.stream:
            self.engine.prepare(max_batch)
            # One clip first: weights are laid out for the first input, and few cameras give one.
            for size in (1, max_batch):
                self.probabilities(self.gather(ring_STHWC, [(0, 0)] * size))
