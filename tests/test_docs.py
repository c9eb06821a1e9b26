"""The documentation: generated pages are current, links and examples work, nothing is loaded."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

import model.__main__
import stream.__main__
import train.__main__
from scripts import generate_docs
from stream.config import StreamConfig
from train.config import DataConfig, TrainConfig

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ_ME_FIRST = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
every_page = pytest.mark.parametrize(
    "page", [*PAGES, *READ_ME_FIRST], ids=lambda page: str(page.relative_to(ROOT))
)
# Attributes with which a page makes a browser load something; <a href> is only followed by people.
_LOADING = {"src", "srcset", "poster", "data"}
_OUTSIDE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_CSS_LOADS = re.compile(
    r"(?:url\(\s*|@import\s+)['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE
)


class Loads(HTMLParser):
    """Collects what a page loads from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in _LOADING or (
                tag in ("link", "use", "image") and name in ("href", "xlink:href")
            )
            if loads and value and _OUTSIDE.match(value):
                self.found.append(value)
            if name == "style" and value:
                self.found += _CSS_LOADS.findall(value)


def outside_loads(text: str, suffix: str) -> list[str]:
    if suffix == ".css":
        return _CSS_LOADS.findall(text)
    parser = Loads()
    parser.feed(text)
    styles = re.findall(r"<style.*?</style>", text, re.DOTALL | re.IGNORECASE)
    return parser.found + [address for style in styles for address in _CSS_LOADS.findall(style)]


@pytest.mark.parametrize("page", generate_docs.pages(), ids=lambda page: page.name)
def test_generated_pages_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generate_docs.fill(text, generate_docs.BLOCKS) == text, (
        "run: python -m scripts.generate_docs"
    )


@pytest.mark.parametrize("file", generate_docs.FILES, ids=lambda file: file.name)
def test_generated_files_are_current(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == generate_docs.FILES[file](), (
        "run: python -m scripts.generate_docs"
    )


def test_every_block_is_on_exactly_one_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in generate_docs.pages())
    named = re.findall(r"<!-- generated: ([\w-]+) -->", text)
    assert sorted(named) == sorted(generate_docs.BLOCKS)


def test_a_page_that_is_not_current_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "metrics.md"
    old.write_text(
        "By hand.\n\n<!-- generated: metrics -->\nold\n<!-- end -->\n\nBelow.\n", encoding="utf-8"
    )
    monkeypatch.setattr(generate_docs, "REFERENCE", tmp_path)
    monkeypatch.setattr(generate_docs, "ROOT", tmp_path)
    assert generate_docs.main(["--check"]) == 1
    assert "metrics.md is not current" in capsys.readouterr().err
    assert "old" in old.read_text(encoding="utf-8")  # a check writes nothing

    assert generate_docs.main([]) == 0
    text = old.read_text(encoding="utf-8")
    assert text.startswith("By hand.\n")
    assert text.endswith("\nBelow.\n")
    assert "`cidc_frames_decoded_total`" in text
    assert generate_docs.main(["--check"]) == 0


def anchors(page: Path) -> set[str]:
    """The anchors of a page: those of its headings, as the site makes them, and those it names."""
    text = page.read_text(encoding="utf-8")
    found = set(re.findall(r'<a id="([\w.-]+)"></a>', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", plain))
    return found


@every_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")
    ):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"links to {target}, which does not exist"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), (
                f"links to {target}#{anchor}, and there is no such heading"
            )


def nav_files(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from nav_files(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from nav_files(value)


def test_the_navigation_names_every_page_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(nav_files(config["nav"])) == sorted(str(page.relative_to(DOCS)) for page in PAGES)
    assert config["strict"] is True


def keys_of(settings: type[BaseModel]) -> set[str]:
    """Every `section.key` and `section` of a configuration, one level deep."""
    found = set()
    for name, field in settings.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= {name, *(f"{name}.{key}" for key in inner.model_fields)}
    return found


@every_page
def test_settings_named_on_a_page_exist(page: Path) -> None:
    known = keys_of(StreamConfig) | keys_of(TrainConfig)
    sections = {key for key in known if "." not in key}
    # What looks like a setting: files, and public names of the package `model`.
    known |= {"data.yaml", "log.txt", "model.safetensors", "outbox.db"}
    known |= {f"model.{name}" for name in model.__all__}
    for name in re.findall(r"`([a-z_]+\.[a-z_]+)(?:: [^`]*)?`", page.read_text(encoding="utf-8")):
        if name.partition(".")[0] in sections:
            assert name in known, f"{name} is not a setting"


@every_page
def test_configurations_on_a_page_can_be_used(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"/run/secrets/(\S+)", text):
        (tmp_path / name).write_text("a-secret")
    text = text.replace("/run/secrets", str(tmp_path))
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        tree = yaml.safe_load(block)
        if "groups" in tree:  # alert rules of Prometheus
            metrics = (DOCS / "reference/metrics.md").read_text(encoding="utf-8")
            assert set(re.findall(r"cidc_\w+", block)) <= set(re.findall(r"cidc_\w+", metrics))
            continue
        if "cameras" in tree or set(tree) <= set(StreamConfig.model_fields):
            cameras = [] if "cameras_from" in tree else [{"id": "a", "url": "a.mp4"}]
            StreamConfig.model_validate({"cameras": cameras} | tree)
        else:
            assert set(tree) <= set(TrainConfig.model_fields), block
            assert set(tree["data"]) <= set(DataConfig.model_fields), block


def commands(page: Path) -> list[tuple[str, str]]:
    """Package and arguments of every command line of this project on a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ *\$ \S*\.venv/bin/\S+ (?:.*?)-m (\w+) (.*)$", text, re.M)
    return [(package, re.split(r" +[#|>]", rest)[0]) for package, rest in lines]


@every_page
def test_commands_on_a_page_are_understood(page: Path) -> None:
    parsers = {"stream": stream.__main__, "train": train.__main__, "model": model.__main__}
    for package, arguments in commands(page):
        parsers[package]._parser().parse_args(shlex.split(arguments))


def test_commands_are_found() -> None:
    assert ("stream", "run --config cameras.yaml --summary summary.json") in commands(
        DOCS / "how-to" / "cameras.md"
    )
    assert len(commands(ROOT / "README.md")) >= 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_the_schema(site: Path) -> None:
    for page in PAGES:
        folder = page.relative_to(DOCS).with_suffix("")
        assert (site / ("" if folder.name == "index" else folder) / "index.html").is_file()
    assert (site / "action-event.schema.json").read_bytes() == (
        DOCS / "action-event.schema.json"
    ).read_bytes()


def test_the_site_loads_nothing_from_outside(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert len(files) > len(PAGES)
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert outside_loads(text, path.suffix) == [], path.relative_to(site)
        # The theme's script would fetch a library for each of these.
        assert not re.search(r'class="[^"]*\b(mermaid|arithmatex)\b', text), path.relative_to(site)


@pytest.mark.parametrize(
    ("text", "suffix", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ".html", ["https://cdn.example/x.js"]),
        ('<img src="//cdn.example/x.png">', ".html", ["//cdn.example/x.png"]),
        (
            '<link rel="stylesheet" href="https://fonts.example/css">',
            ".html",
            ["https://fonts.example/css"],
        ),
        (
            "<style>@import 'https://fonts.example/css';</style>",
            ".html",
            ["https://fonts.example/css"],
        ),
        (
            "@font-face { src: url(https://fonts.example/a.woff2) }",
            ".css",
            ["https://fonts.example/a.woff2"],
        ),
        ('<a href="https://example.org">read on</a><img src="images/live.svg">', ".html", []),
    ],
)
def test_loads_from_outside_are_seen(text: str, suffix: str, found: list[str]) -> None:
    assert outside_loads(text, suffix) == found


def test_a_broken_link_fails_the_strict_build(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs" / "index.md"
    page.write_text(
        page.read_text(encoding="utf-8") + "\n[gone](no-such-page.md)\n", encoding="utf-8"
    )
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr
