"""Measure Python packages: sizes, density, functions, import cycles, imports between folders.

    python scripts/measure_code.py configs model stream train
    python scripts/measure_code.py --root DIR --json PACKAGE ...

The length of a function is counted from its `def` (without decorators) to its last line, including
nested functions. Tokens come from Python's tokenizer, without comments, line ends and indentation.
Imports below `if TYPE_CHECKING:` count as type-only.
"""

from __future__ import annotations

import argparse
import ast
import collections
import dataclasses
import io
import json
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

_NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclasses.dataclass(frozen=True)
class Module:
    """One file: its dotted name, its lines, and the measured modules that it imports."""

    name: str
    folder: str
    lines: int
    tokens: int
    function_lines: tuple[int, ...]
    imports: frozenset[str]
    type_only: frozenset[str]


def read_modules(root: Path, packages: Sequence[str]) -> list[Module]:
    """Read every Python file of the packages below `root`."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    names = {_dotted(path.relative_to(root)): path for path in paths}
    return [_read(name, path, root, set(names)) for name, path in names.items()]


def measure(modules: Sequence[Module]) -> dict[str, object]:
    """Compute all values of the table."""
    functions = sorted(length for module in modules for length in module.function_lines)
    folders = collections.Counter(module.folder for module in modules)
    return {
        "files": len(modules),
        "lines": sum(module.lines for module in modules),
        "longest_files": [
            f"{module.name} {module.lines}"
            for module in sorted(modules, key=lambda module: -module.lines)[:5]
        ],
        "files_over_300": sum(module.lines > 300 for module in modules),
        "functions": len(functions),
        "function_lines_median": statistics.median(functions),
        "function_lines_p90": functions[int(0.9 * (len(functions) - 1))],
        "functions_over_50": sum(length > 50 for length in functions),
        "tokens_per_line": round(
            sum(module.tokens for module in modules) / sum(module.lines for module in modules),
            2,
        ),
        "folders": dict(sorted(folders.items())),
        "largest_folder": max(folders.values()),
        "cycles": [" ".join(sorted(part)) for part in _cycles(modules, type_only=False)],
        "cycles_with_types": [" ".join(sorted(part)) for part in _cycles(modules, type_only=True)],
        "folder_arrows": sorted(" -> ".join(arrow) for arrow in _arrows(modules)),
    }


def _read(name: str, path: Path, root: Path, known: set[str]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NOT_CODE
    ]
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    imports: dict[bool, set[str]] = {False: set(), True: set()}
    for node in ast.walk(tree):
        for target in _targets(node, name, known):
            imports[id(node) in typed].add(target)
    return Module(
        name=name,
        folder=str(path.parent.relative_to(root)),
        lines=text.count("\n"),
        tokens=len(tokens),
        function_lines=tuple(functions),
        imports=frozenset(imports[False] - {name}),
        type_only=frozenset(imports[True] - {name}),
    )


def _targets(node: ast.AST, importer: str, known: set[str]) -> Iterator[str]:
    """Yield the modules of the measured packages that a statement imports."""
    if isinstance(node, ast.Import):
        wanted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = importer.split(".")[: -node.level] if importer in known else []
            base = ".".join([*package, *([node.module] if node.module else [])])
        wanted = [f"{base}.{alias.name}" for alias in node.names]
        wanted = [name if name in known else base for name in wanted]
    else:
        return
    yield from (name for name in wanted if name in known)


def _cycles(modules: Sequence[Module], *, type_only: bool) -> list[set[str]]:
    """Return the groups of modules that import each other, found with Tarjan's algorithm (1972)."""
    edges = {
        module.name: module.imports | (module.type_only if type_only else frozenset())
        for module in modules
    }
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in edges[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            part = set(stack[at:])
            del stack[at:]
            if len(part) > 1:
                found.append(part)

    for name in edges:
        if name not in order:
            visit(name)
    return found


def _arrows(modules: Sequence[Module]) -> set[tuple[str, str]]:
    folder = {module.name: module.folder for module in modules}
    pairs = {(module.folder, folder[target]) for module in modules for target in module.imports}
    return {(source, target) for source, target in pairs if source != target}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measured values of the packages, one per line or as JSON."""
    parser = argparse.ArgumentParser(description="Measure the shape of Python packages.")
    parser.add_argument("packages", nargs="+", help="folders with Python files")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder that contains the packages"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    figures = measure(read_modules(options.root, options.packages))
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0
    for name, value in figures.items():
        shown = len(value) if isinstance(value, list) and name == "folder_arrows" else value
        print(f"{name:22} {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
