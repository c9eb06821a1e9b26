"""`python -m model` measures costs, draws activation maps, imports weights and exports to ONNX."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from configs import (
    CheckpointError,
    MediaError,
    exit_status,
    print_table,
    program_name,
    readable,
)
from model.backbones.table import BACKBONES
from model.checkpoints.label_names import LABELS_HELP, read_labels
from model.checkpoints.shipped import WEIGHTS_HELP
from model.checkpoints.weights import load_model, save_model
from model.complexity import NOT_COMPARED, PAPER_NETWORKS, RIVALS, measure_paper
from model.complexity_table import COLUMNS, RIVAL_COLUMNS, cells, facts, rival_cells
from model.network import fold_for_inference
from model.runtime import pick_device

__all__ = ["main"]

_SHEETS = (".png", ".jpg")
_VIDEOS = (".mp4", ".mkv")
_SHOWN_NAMES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 2 for bad input."""
    return exit_status(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("model"), description="Networks: cost, activation maps, weights, export."
    )
    commands = parser.add_subparsers(title="commands", required=True)
    _add_complexity_arguments(
        commands.add_parser("complexity", help="compare FLOPs and parameters with the paper's")
    )
    _add_maps_arguments(commands.add_parser("maps", help="draw activation maps over a video"))
    _add_import_arguments(
        commands.add_parser("import", help="convert a public checkpoint to weights of this project")
    )
    _add_export_arguments(commands.add_parser("export", help="write weights as ONNX"))
    return parser


def _add_complexity_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="also write the numbers to this JSON file")
    parser.set_defaults(run=_complexity)


def _add_maps_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help=WEIGHTS_HELP)
    parser.add_argument("--video", type=Path, required=True, help="a video file")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        action="append",
        help=".png or .jpg: a sheet of one clip; .mp4 or .mkv: all clips; can be repeated",
    )
    parser.add_argument(
        "--start",
        type=float,
        metavar="SECONDS",
        help="draw only the clip that starts at this time; default: the sheet shows the best clip",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(run=_maps)


def _add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        help=(
            "a .pth, .pt, .pyth or .safetensors file from torchvision, timm, PyTorchVideo,"
            " PySlowFast, mmaction2, GluonCV, TRN-pytorch or bLVNet-TAM"
        ),
    )
    parser.add_argument("--out", type=Path, required=True, help="weights to write (safetensors)")
    parser.add_argument(
        "--backbone",
        choices=tuple(BACKBONES),
        help="backbone to build; 2D weights are inflated; default: the backbone in the file",
    )
    parser.add_argument("--labels", type=Path, help=LABELS_HELP)
    parser.add_argument("--name", help="name of the network in events; default: the file's name")
    parser.add_argument(
        "--partial",
        action="store_true",
        help="import even if tensors are missing or the file has tensors that are not used",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=224,
        help=(
            "side of the network's square input crop, in pixels; the frame's shorter side is first"
            " resized to 256/224 of this"
        ),
    )
    parser.set_defaults(run=_import)


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help=WEIGHTS_HELP)
    parser.add_argument("--out", type=Path, required=True, help="file to write (.onnx)")
    parser.set_defaults(run=_export)


def _complexity(options: argparse.Namespace) -> int:
    rows = [facts(row, cost, compared=True) for row, cost in measure_paper(PAPER_NETWORKS)]
    rows += [facts(row, cost, compared=False) for row, cost in measure_paper(NOT_COMPARED)]
    rivals = [facts(row, cost, compared=True) for row, cost in measure_paper(RIVALS)]
    print_table(
        COLUMNS,
        map(cells, rows),
        title="One 32 x 224 x 224 clip; FLOPs are twice the multiply-accumulates",
    )
    print_table(RIVAL_COLUMNS, map(rival_cells, rivals), title="Networks of others")
    if options.json is not None:
        options.json.write_text(json.dumps(rows + rivals, indent=2) + "\n", encoding="utf-8")
    return 0


def _maps(options: argparse.Namespace) -> int:
    from model.activation import BestClip, analyse_video, write_overlay, write_sheet

    video = _checked_video(options)
    device = pick_device(options.device)
    network = load_model(options.checkpoint).to(device)
    spec = network.spec
    assert spec is not None
    folded = fold_for_inference(network, torch.float32)
    clips = BestClip(
        analyse_video(folded, options.video, start_seconds=options.start), spec.background
    )
    if video is not None:
        write_overlay(clips, video, fps=spec.fps)
    best = clips.finish()
    for out in options.out:
        if out != video:
            write_sheet(best, out)
        print(f"wrote {out}")
    print(
        f"{clips.count} clips; most probable action: {best.label} ({best.probability:.0%})"
        f" from {best.start_seconds:.1f} s"
    )
    if network.cidc is None:
        print("these weights have no CIDC network; only the backbone's map is drawn")
    return 0


def _checked_video(options: argparse.Namespace) -> Path | None:
    """Check the options; return the video among the output files, or None.

    Raises:
        MediaError: an output has an unknown file extension, there are two videos, or the start is
            negative.
    """
    for out in options.out:
        if out.suffix.lower() not in _SHEETS + _VIDEOS:
            raise MediaError(
                f"--out {out}: the ending must be one of {', '.join(_SHEETS + _VIDEOS)}"
            )
    videos: list[Path] = [out for out in options.out if out.suffix.lower() in _VIDEOS]
    if len(videos) > 1:
        raise MediaError(f"--out takes one video, got {', '.join(map(str, videos))}")
    if options.start is not None and not (math.isfinite(options.start) and options.start >= 0):
        raise MediaError(f"--start must be a number of seconds from 0, got {options.start:g}")
    return videos[0] if videos else None


def _import(options: argparse.Namespace) -> int:
    from model.checkpoints.importers import import_checkpoint, spec_for

    if not 32 <= options.size <= 1024:
        raise CheckpointError(f"--size must be from 32 to 1024, got {options.size}")
    imported = import_checkpoint(options.checkpoint, backbone=options.backbone)
    doubtful = imported.missing + imported.suspicious
    if doubtful and not options.partial:
        raise CheckpointError(
            f"{options.checkpoint} does not fit completely"
            f" ({len(doubtful)} tensors: {_first_names(doubtful)}); --partial imports the rest"
        )
    labels = None if options.labels is None else read_labels(options.labels)
    spec = spec_for(
        imported, name=options.name or options.checkpoint.stem, labels=labels, size=options.size
    )
    save_model(imported.network, options.out, spec=spec)
    config = imported.network.config
    network = f"{config.backbone}-{config.depth}{'-NL' if config.non_local else ''}"
    network += "" if config.head == "pool" else f" with head {config.head}"
    print(f"{imported.package} names; {network}, {config.num_classes} classes")
    print(f"     used: {len(imported.used)} tensors")
    for what, names in (
        ("inflated", imported.inflated),
        ("missing", imported.missing),
        ("left over", imported.left_over),
    ):
        shown = f": {_first_names(names)}" if names else ""
        print(f"{what:>9}: {len(names)} tensors{shown}")
    if labels is None:
        print("events name classes by numbers; --labels gives them names, such as kinetics400")
    print(f"wrote {options.out}")
    return 0


def _first_names(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_NAMES else ""
    return ", ".join(map(readable, names[:_SHOWN_NAMES])) + more


def _export(options: argparse.Namespace) -> int:
    from model.checkpoints.export import export_onnx, how_to_get_probabilities

    difference = export_onnx(network := load_model(options.checkpoint), options.out)
    print(
        f"wrote {options.out}; largest difference from ONNX Runtime's logits:"
        f" {difference:.1e} of the largest logit; probabilities are"
        f" {how_to_get_probabilities(network.spec)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
