"""Imports DALI, which is published for Linux only."""

from __future__ import annotations

from types import ModuleType

from configs import ConfigError

__all__ = ["load_dali_graphs"]


def load_dali_graphs() -> ModuleType:
    """Return the module of the DALI graphs.

    DALI is imported here and not earlier, so that the network, its kernels and readers of events
    also run without it.

    Raises:
        ConfigError: DALI is not installed, or cannot be loaded.
    """
    try:
        from model.media import dali_graph
    except ImportError as error:
        raise ConfigError(
            f"frames are prepared by NVIDIA DALI, which cannot be imported ({error}); it is"
            " published for Linux on x86_64 and aarch64: run this command there, after"
            " pip install cidc-stream"
        ) from None
    return dali_graph
