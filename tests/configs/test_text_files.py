"""Text files in any usual encoding, and names that are not UTF-8."""

import codecs
import io
import os
import sys
import unicodedata
from pathlib import Path

import pytest

from configs import (
    CheckpointError,
    DataError,
    clean_label,
    has_controls,
    lines_of,
    no_controls,
    quoted,
    read_text,
    readable,
)
from configs.text_files import MAX_TEXT_BYTES, print_any_name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("größer\r\n気\n".encode(encoding))
    assert read_text(path, "list", DataError) == "größer\r\n気\n"
    path.write_bytes(codecs.BOM_UTF16_BE + "é".encode("utf-16-be"))
    assert read_text(path, "list", DataError) == "é"


def test_other_encodings_are_named_with_line_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("walk\r\nrun\r\ncafé\r\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"--labels .*a\.txt, line 3: not UTF-8 .*`iconv"):
        read_text(path, "--labels", CheckpointError)
    path.write_bytes(codecs.BOM_UTF8 + b"a\n\xff\n")
    with pytest.raises(DataError, match=r"line 2: not UTF-8"):
        read_text(path, "list", DataError)
    path.write_bytes("walk\nrun\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"line 1: it contains a zero byte.* UTF-16"):
        read_text(path, "list", DataError)
    path.write_bytes(codecs.BOM_UTF16_LE + b"a")
    with pytest.raises(DataError, match="not UTF-16 text"):
        read_text(path, "list", DataError)
    with pytest.raises(DataError, match="list not found"):
        read_text(tmp_path / "none", "list", DataError)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_text(tmp_path, "list", DataError)


def test_what_never_ends_and_what_is_huge_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read"))
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        with pytest.raises(DataError, match=r"list .* is a pipe, socket or device; write its"):
            read_text(path, "list", DataError)
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)
    with pytest.raises(DataError, match=r"huge\.csv is larger than 256 MB; divide it"):
        read_text(huge, "list", DataError)


def test_values_are_quoted_without_escapes_and_in_part() -> None:
    assert quoted("a\x1b[31m\n'") == '"a\\x1b[31m\\n\'"'
    assert quoted(os.fsdecode(b"caf\xe9")) == r"'caf\xe9'"
    assert quoted({"a": "\x1b", "b": 1}) == r"{'a': '\x1b', 'b': 1}"
    assert quoted("a" * 10**6) == f"'{'a' * 200}'..."
    assert len(quoted(["a"] * 10**5)) == 203


def test_only_line_ends_end_lines() -> None:
    assert lines_of("a\r\nb\rc\nd\x0b\x85\u2028e") == ["a", "b", "c", "d\x0b\x85\u2028e"]


def test_labels_are_cleaned() -> None:
    assert clean_label(" hand\nshaking\t ") == "hand shaking"
    assert clean_label("\ufeffwave\u00a0") == "wave"
    assert clean_label(unicodedata.normalize("NFD", "größer")) == "größer"
    assert clean_label(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert clean_label("\ud800") == "\\ud800"
    assert clean_label('a, "b"; c') == 'a, "b"; c'
    assert clean_label("a\u202eb\u2028c") == "a b c"


def test_every_name_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"caf\xe9 \xe6\xb0\x97.mp4")
    assert readable(Path(name)) == "caf\\xe9 気.mp4"
    for encoding, shown in (
        ("utf-8", "caf\\xe9 気.mp4"),
        ("ascii", "caf\\xe9 \\u6c17.mp4"),
    ):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        print_any_name()
        print(name, end="", flush=True)
        assert out.buffer.getvalue().decode(encoding) == shown  # type: ignore[attr-defined]


def test_printed_names_hold_no_control_characters_and_keep_all_others() -> None:
    assert readable("a\r\nb\x1b[31m\x7f\x9b\u2028\u202ec") == (
        "a\\r\\nb\\x1b[31m\\x7f\\x9b\\u2028\\u202ec"
    )
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        is_text = unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        reverses = unicodedata.bidirectional(char) in (
            *("LRE", "RLE", "PDF", "LRO", "RLO"),
            *("LRI", "RLI", "FSI", "PDI"),
        )
        assert (readable(char) == char) == (is_text and not reverses), hex(code)


def test_settings_hold_no_control_characters() -> None:
    assert no_controls("Händeschütteln 握手 🤝") == "Händeschütteln 握手 🤝"
    assert not has_controls(os.fsdecode(b"caf\xe9"))
    with pytest.raises(ValueError, match=r"^'a\\x1bb' contains a control character; remove it$"):
        no_controls("a\x1bb")
