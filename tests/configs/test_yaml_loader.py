"""YAML that is small and stands for much, or is much: one short error, before it costs anything."""

from pathlib import Path

import pytest

from configs import ConfigError, StrictModel, load_config, parse_config


class Settings(StrictModel):
    """Settings with one number and one table."""

    seed: int = 0
    names: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it


def laughs(open_: str, close: str) -> str:
    """Return ten levels of aliases; each level repeats the one before ten times."""
    lines = [f"a0: &a0 {open_}x: 1{close}" if open_ == "{" else f"a0: &a0 {open_}1{close}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


HOSTILE = {
    "aliases of lists": (laughs("[", "]"), "repeats itself too often"),
    "aliases of mappings": (laughs("{", "}"), "repeats itself too often"),
    "merge keys": ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n", "not valid YAML"),
    "a list in itself": ("a: &a [*a]\n", "nested too deeply"),
    "a mapping in itself": ("&a {names: *a}", "nested too deeply"),
    "deep lists": ("[" * 100_000, "nested too deeply"),
    "deep mappings": ("{a: " * 100_000, "nested too deeply"),
    "a list as key": ("? [a, b]\n: 1\n", "must be a plain word"),
    "a set as key": ("? !!set {a}\n: 1\n", "must be a plain word"),
    "code": ("seed: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    "a huge number": ("seed: 0x" + "f" * 100_000, "more than 64 bits"),
    "a huge number of digits": ("seed: " + "9" * 100_000, "malformed value"),
    "a number to the base of sixty": ("seed: 1" + ":59" * 20_000, "more than 64 bits"),
    "a huge text": ("seed: '" + "x" * 1_000_000 + "'", "seed: "),
    "unknown keys": ("\n".join(f"k{n}: 1" for n in range(2000)), "and 1980 more problems"),
    "wrong values": ("names: {" + ", ".join(f"k{n}: x" for n in range(2000)) + "}", "1980 more"),
    "a huge key": ("? " + "x" * 100_000 + "\n: 1\n", "xxx"),
    "a huge key twice": (("? " + "x" * 100_000 + "\n: 1\n") * 2, "xxx'... is given twice"),
    "zero bytes": ("seed: \0", "not valid YAML"),
    "an impossible day": ("seed: 2001-99-99", "malformed value"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_yaml_is_one_short_error(kind: str) -> None:
    text, says = HOSTILE[kind]
    with pytest.raises(ConfigError, match=says) as raised:
        parse_config(text, Settings, name="a.yaml")
    assert str(raised.value).startswith("a.yaml")
    assert len(str(raised.value)) < 5000


def test_a_file_that_is_too_long_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yaml.load", lambda *_, **__: pytest.fail("it is parsed"))
    path = tmp_path / "a.yaml"
    path.write_text("# long\n" * 700_000)
    for each in (path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="has more than 4 million characters; is it a YAML"):
            load_config(each, Settings)
