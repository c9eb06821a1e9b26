"""Write the generated parts of docs/: `python -m scripts.generate_docs`.

A reference page is a Markdown file in which this script writes the generated blocks. Each block
starts with the line `<!-- generated: NAME -->` and ends with `<!-- end -->`. The text around the
blocks is written by hand. A few files are generated as a whole.

With `--check`, no file is written. The script prints each page that is out of date and exits with
status 1 if there is one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts import (
    docs_asyncapi,
    docs_cli,
    docs_config,
    docs_http,
    docs_python,
    docs_schema,
    docs_tables,
)

__all__ = ["BLOCKS", "FILES", "fill", "main", "outdated", "pages"]

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
_BLOCK = re.compile(r"<!-- generated: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)

# Name of each block -> the function that returns its Markdown.
BLOCKS: dict[str, Callable[[], str]] = {
    "cli-model": docs_cli.model_commands,
    "cli-stream": docs_cli.stream_commands,
    "cli-train": docs_cli.train_commands,
    "configuration-ablations": docs_config.ablations,
    "configuration-renamed": docs_config.renamed,
    "configuration-results": docs_config.results,
    "configuration-stream": docs_config.stream,
    "configuration-train": docs_config.train,
    "event-fields": docs_tables.event_fields,
    "http-paths": docs_http.paths,
    "http-schemas": docs_http.schemas,
    "metrics": docs_tables.metrics,
    "python-model": docs_python.model_names,
    "python-stream": docs_python.stream_names,
    "python-stream-reader": docs_python.reader_names,
}

# Files that are generated as a whole -> the function that returns their text.
FILES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "asyncapi.yaml": docs_asyncapi.asyncapi_document,
    ROOT / "docs" / "camera.schema.json": docs_schema.camera_schema,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; return the exit status: 1 if `--check` finds an old page."""
    parser = argparse.ArgumentParser(prog="python -m scripts.generate_docs")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write no files; exit with status 1 if a page is out of date",
    )
    options = parser.parse_args(arguments)
    found = outdated()
    for page, text in found.items():
        name = page.relative_to(ROOT)
        if options.check:
            print(f"{name} is not current; run: python -m scripts.generate_docs", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if options.check and found else 0


def outdated() -> dict[Path, str]:
    """Map each page or file that is out of date to its new text."""
    found = {}
    for file, make in FILES.items():
        current = make()
        if not file.exists() or file.read_text(encoding="utf-8") != current:
            found[file] = current
    for page in pages():
        text = page.read_text(encoding="utf-8")
        current = fill(text, BLOCKS)
        if current != text:
            found[page] = current
    return found


def pages() -> list[Path]:
    """Return the pages that have generated blocks."""
    return [
        page
        for page in sorted(REFERENCE.glob("*.md"))
        if _BLOCK.search(page.read_text(encoding="utf-8"))
    ]


def fill(text: str, blocks: dict[str, Callable[[], str]]) -> str:
    """Return `text` with new content in every generated block.

    Raises:
        KeyError: the text names a block that `blocks` does not have.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n\n{blocks[name]().strip()}\n\n<!-- end -->"

    return _BLOCK.sub(block, text)


if __name__ == "__main__":
    sys.exit(main())
