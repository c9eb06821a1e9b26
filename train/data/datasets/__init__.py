"""Data sets as they are distributed, read into manifests: public ones, and a folder per class."""

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
