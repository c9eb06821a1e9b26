"""Reads public data sets, or folders with one class each, and writes manifests for training."""

from train.data.datasets.dataset import Dataset, ListedVideo
from train.data.datasets.mirroring import mirrored_labels, swap_sides
from train.data.datasets.reading import DATASETS, DatasetName, read_dataset, write_manifests

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetName",
    "ListedVideo",
    "mirrored_labels",
    "read_dataset",
    "swap_sides",
    "write_manifests",
]
