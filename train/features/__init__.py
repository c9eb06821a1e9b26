"""Training on a frozen backbone, whose maps are computed once and kept on disk."""

from train.features.config import FeaturesConfig

__all__ = ["FeaturesConfig"]
