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
from model.checkpoints.weights import ModelSpec, load_model
from model.cidc import use_mixing
from model.clip_gather import ClipGather
from model.device_streams import DeviceStream
from model.mixing import mixing_choice
from model.network import fold_for_inference
from model.runtime import pick_device, pick_dtype
from stream.analysis.config import InferConfig, weights_path

__all__ = ["Recogniser"]

_log = logging.getLogger(__name__)


class Recogniser:
    """Runs the network on batches of raw clips.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
        ConfigError: the device that was asked for is not there.
        KernelError: the kernels that were asked for cannot run.

    Attributes:
        stream: the device's stream for the network; whoever calls `probabilities` enters it.
        mixing, mixing_reason: the path of the directional mixing, and why it is not the kernel
            (empty if it is).
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
        """Class probabilities `B K` of normalised clips, in float32 on the CPU."""
        return torch.softmax(self._network(clips_BCTHW), dim=1).cpu()

    def overlay(
        self, clip_BCTHW: Tensor, frame_HWC: NDArray[np.uint8], action: str, confidence: float
    ) -> NDArray[np.uint8]:
        """Paint what speaks for an action in a normalised clip over a frame, with its name."""
        strength_HW = newest_map(self._network, clip_BCTHW, self.spec.labels.index(action))
        painted = overlay_map(frame_HWC, strength_HW, self.spec.preprocess)
        return titled_frame(painted, f"{action} {confidence:.0%}")

    def warm_up(self, max_batch: int) -> None:
        """Run once at the smallest and the largest batch: the first camera must not wait for it."""
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
            # One clip first: weights are laid out for the first input, and few cameras give one.
            for size in (1, max_batch):
                self.probabilities(self.gather(ring_STHWC, [(0, 0)] * size))
