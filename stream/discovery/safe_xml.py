"""Read XML that devices send: no document types, so no entities; nothing else is loaded."""

from __future__ import annotations

import xml.etree.ElementTree as ET

__all__ = ["UnsafeXmlError", "parse"]

_MAX_DEPTH = 64


class UnsafeXmlError(ValueError):
    """It is not XML, is nested too deeply, or has a document type."""


class _Builder:
    """Builds a tree; refuses what a device has no need to send."""

    def __init__(self) -> None:
        self._tree = ET.TreeBuilder()
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsafeXmlError("it is nested too deeply")
        self._tree.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._tree.end(tag)

    def data(self, text: str) -> None:
        self._tree.data(text)

    def doctype(self, name: str, public_id: str | None, system: str | None) -> None:
        raise UnsafeXmlError("it has a document type")

    def close(self) -> ET.Element:
        return self._tree.close()


def parse(data: bytes) -> ET.Element:
    """Return the root of a document; the caller bounds its size.

    Raises:
        UnsafeXmlError: it cannot be read, or is refused.
    """
    parser = ET.XMLParser(target=_Builder())
    try:
        parser.feed(data)
        root = parser.close()
    except UnsafeXmlError:
        raise
    except (ET.ParseError, ValueError, LookupError, AssertionError) as error:
        raise UnsafeXmlError("it is not XML") from error
    assert isinstance(root, ET.Element)
    return root
