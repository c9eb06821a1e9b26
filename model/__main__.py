"""`python -m model`: what networks cost, what they look at, weights from elsewhere, ONNX."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from configs import CidcError, MediaError
from model.network import fold_for_inference
from model.resnet import BACKBONES
from model.weights import load_model, save_model

__all__ = ["main"]

_SHEETS, _VIDEOS = (".png", ".jpg"), (".mp4", ".mkv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except CidcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}; check the path and the free space", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description="Networks: cost, activation maps, weights, export.")
    commands = parser.add_subparsers(title="commands", required=True)
    _add_complexity(commands.add_parser("complexity", help="FLOPs and parameters beside the paper's"))
    _add_maps(commands.add_parser("maps", help="draw what a network looks at over the frames of a video"))
    _add_import(commands.add_parser("import", help="turn a public checkpoint into weights of this project"))
    _add_export(commands.add_parser("export", help="write weights as ONNX"))
    return parser


def _add_complexity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.set_defaults(run=_complexity)


def _add_maps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument("--video", type=Path, required=True, help="a video file")
    parser.add_argument(
        "--out", type=Path, required=True, action="append", help=".png or .jpg: a sheet of one clip; .mp4 or .mkv: all; repeatable"
    )
    parser.add_argument(
        "--start", type=float, metavar="SECONDS", help="only the clip that starts there; else the sheet shows the surest action"
    )
    parser.set_defaults(run=_maps)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="a .pth, .pt, .pyth or .safetensors of torchvision, timm, PyTorchVideo, PySlowFast, mmaction2, GluonCV",
    )
    parser.add_argument("--out", type=Path, required=True, help="weights to write (safetensors)")
    parser.add_argument("--backbone", choices=tuple(BACKBONES), help="what to build; 2D weights are inflated; default: what the file holds")
    parser.add_argument("--labels", type=Path, help="class names, one a line, in the order of the logits")
    parser.add_argument("--name", help="name of the network in events; default: the file's")
    parser.add_argument(
        "--size", type=int, default=224, help="side of the square picture the network sees, from a shorter side of 256/224 of it"
    )
    parser.set_defaults(run=_import)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.onnx)")
    parser.set_defaults(run=_export)


def _complexity(options: argparse.Namespace) -> int:
    from model.complexity import NOT_COMPARED, PAPER_ROWS, measure_paper

    compared, others = measure_paper(PAPER_ROWS), measure_paper(NOT_COMPARED)
    table = Table(
        "network", "tables", "GFLOPs", "paper", "differs", "M params", "paper", "of them CIDC", "why the parameters differ",
        title="One 32 x 224 x 224 clip; FLOPs are twice the multiply-accumulates",
    )  # fmt: skip
    facts = []
    for row, cost in [*compared, *others]:
        gflops, mparameters = cost.flops / 1e9, cost.parameters / 1e6
        share = gflops / row.gflops - 1 if (row, cost) in compared else None
        table.add_row(
            row.name, row.tables, f"{gflops:.1f}", _number(row.gflops), "" if share is None else f"{share:+.1%}",
            f"{mparameters:.1f}", _number(row.mparameters), f"{cost.cidc_parameters / 1e6:.1f}" if cost.cidc_parameters else "", row.note,
        )  # fmt: skip
        facts.append(_row_facts(row, cost, share))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


def _maps(options: argparse.Namespace) -> int:
    from model.activation import analyse_video, write_overlay, write_sheet

    for out in options.out:
        if out.suffix.lower() not in _SHEETS + _VIDEOS:
            raise MediaError(f"--out {out}: the ending must be one of {', '.join(_SHEETS + _VIDEOS)}")
    if options.start is not None and options.start < 0:
        raise MediaError(f"--start must not be below 0, got {options.start:g}")
    network = load_model(options.checkpoint)
    spec = network.spec
    assert spec is not None
    network = fold_for_inference(network, torch.float32)
    try:
        clips = analyse_video(network, options.video, start_seconds=options.start)
    except MediaError as error:
        raise MediaError(f"{options.video}: {error}") from None
    best = max(clips, key=lambda clip: (clip.label != spec.background, clip.probability))
    for out in options.out:
        if out.suffix.lower() in _SHEETS:
            write_sheet(best, out)
        else:
            write_overlay(clips, out, fps=spec.fps)
        print(f"wrote {out}")
    print(f"{len(clips)} clips; the surest action: {best.label} ({best.probability:.0%}) from {best.start_seconds:.1f} s")
    if network.cidc is None:
        print("these weights have no CIDC network; only the backbone's map is drawn")
    return 0


def _import(options: argparse.Namespace) -> int:
    from model.importers import import_checkpoint, spec_for

    imported = import_checkpoint(options.checkpoint, backbone=options.backbone)
    labels = None
    if options.labels is not None:
        labels = tuple(line.strip() for line in options.labels.read_text(encoding="utf-8").splitlines() if line.strip())
    spec = spec_for(imported, name=options.name or options.checkpoint.stem, labels=labels, size=options.size)
    save_model(imported.network, options.out, spec=spec)
    config = imported.network.config
    print(f"{imported.layout} names; {config.backbone}-{config.depth}{'-NL' if config.non_local else ''}, {config.num_classes} classes")
    for what, names in (
        ("used", imported.used),
        ("inflated", imported.inflated),
        ("missing", imported.missing),
        ("left over", imported.left_over),
    ):
        shown = "" if what == "used" or not names else ": " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        print(f"{what:>9}: {len(names)} tensors{shown}")
    print(f"wrote {options.out}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from model.export import export_onnx, onnx_difference

    network = load_model(options.checkpoint)
    export_onnx(network, options.out)
    print(f"wrote {options.out}; largest difference of a logit from ONNX Runtime's: {onnx_difference(network, options.out):.1e}")
    return 0


def _row_facts(row: Any, cost: Any, share: float | None) -> dict[str, Any]:
    return {
        "network": row.name, "tables": row.tables, "flops": cost.flops, "parameters": cost.parameters,
        "cidc_parameters": cost.cidc_parameters,
        "paper_flops": None if math.isnan(row.gflops) else int(row.gflops * 1e9),
        "paper_parameters": None if row.mparameters is None else int(row.mparameters * 1e6),
        "flops_difference": share, "compared": share is not None, "note": row.note, "model": row.model.model_dump(),
    }  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
