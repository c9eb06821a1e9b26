"""Write the Python reference as Markdown: public names with signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from pydantic import BaseModel

import model
import stream
import stream.reader
from scripts.docs_tables import table

__all__ = ["model_names", "reader_names", "stream_names"]

_WIDTH = 88
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$")


def model_names() -> str:
    """Return the public names of `model`."""
    return _module(model)


def stream_names() -> str:
    """Return the public names of `stream`."""
    return _module(stream)


def reader_names() -> str:
    """Return the public names of `stream.reader`."""
    return _module(stream.reader)


def _module(module: ModuleType) -> str:
    parts = [_entry(f"{module.__name__}.{name}", getattr(module, name)) for name in module.__all__]
    return "\n\n".join(parts)


def _entry(name: str, value: Any) -> str:
    parts = [f"### `{name}`"]
    if not (inspect.isclass(value) and issubclass(value, BaseModel)):
        parts.append(_fenced(_signature(name.rpartition(".")[2], value)))
    parts.append(_described(inspect.getdoc(value) or ""))
    if inspect.isclass(value):
        parts += list(_members(value))
    return "\n\n".join(part for part in parts if part)


def _members(value: type) -> Iterator[str]:
    """Yield a settings class's fields, then the public members that the class defines.

    Members of a base class from the same package count as its own, unless it holds settings.
    """
    if issubclass(value, BaseModel):
        rows = [
            (f"`{name}`", field.description or "") for name, field in value.model_fields.items()
        ]
        yield table(("field", "meaning"), rows)
    package = value.__module__.partition(".")[0]
    bases = [
        base
        for base in value.__bases__
        if base.__module__.startswith(f"{package}.") and not issubclass(base, BaseModel)
    ]
    for name, member in (item for owner in (value, *bases) for item in vars(owner).items()):
        if name.startswith("_") or name in ("model_config", "model_post_init"):
            continue
        if isinstance(member, property):
            yield f"**`{name}`** (property): {_described(inspect.getdoc(member) or '')}"
        elif isinstance(member, (classmethod, staticmethod)) or inspect.isfunction(member):
            yield _method(name, member)


def _method(name: str, member: Any) -> str:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    signature = _fenced(_signature(name, function, is_method=True))
    return f"{signature}\n\n{_described(inspect.getdoc(function) or '')}"


def _fenced(signature: str) -> str:
    return f"```python\n{signature}\n```"


def _signature(name: str, value: Callable[..., Any], *, is_method: bool = False) -> str:
    signature = inspect.signature(value)
    parameters = list(signature.parameters.values())
    if is_method and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    shown = list(_parameters(parameters))
    returns = "" if inspect.isclass(value) else _returned(signature)
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) <= _WIDTH:
        return line
    inner = "".join(f"    {part},\n" for part in shown)
    return f"{name}(\n{inner}){returns}"


def _returned(signature: inspect.Signature) -> str:
    annotation = signature.return_annotation
    return "" if annotation is inspect.Signature.empty else f" -> {_annotation(annotation)}"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    keyword_only = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            keyword_only = True
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "*"
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
        yield stars + _parameter(parameter)


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {_default(parameter.default)}"
    return text


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: object) -> str:
    """Return a default value as text; leave out memory addresses, which differ between runs."""
    return "..." if callable(value) or " at 0x" in repr(value) else repr(value)


def _described(docstring: str) -> str:
    """Return a docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    in_section = False
    for line in inspect.cleandoc(docstring).splitlines():
        heading = _SECTION.match(line)
        if heading:
            in_section = True
            lines += [f"*{heading[1]}*", ""]
        elif in_section and line.startswith("    "):
            lines.append(_item(line[4:]))
        else:
            in_section = False if line else in_section
            lines.append(line)
    return "\n".join(lines).strip()


def _item(line: str) -> str:
    """Convert one line of a section to a new list item, or to the rest of the previous item."""
    named = re.match(r"^([\w., ]+): (.*)$", line)
    if line.startswith(" ") or named is None:
        return f"  {line.strip()}" if line.startswith(" ") else f"- {line}"
    return f"- `{named[1]}`: {named[2]}"
