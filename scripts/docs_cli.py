"""Write the command line reference as Markdown, from the argparse parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import model.__main__
import stream.__main__
import train.__main__
from scripts.docs_tables import table

__all__ = ["model_commands", "stream_commands", "train_commands"]

_HIDDEN = (argparse._HelpAction, argparse._SubParsersAction)


def stream_commands() -> str:
    """Return every command of `python -m stream`."""
    return _program(stream.__main__._parser())


def train_commands() -> str:
    """Return every command of `python -m train`."""
    return _program(train.__main__._parser())


def model_commands() -> str:
    """Return every command of `python -m model`."""
    return _program(model.__main__._parser())


def _program(parser: argparse.ArgumentParser) -> str:
    parts = [parser.description or ""]
    if any(not isinstance(action, _HIDDEN) for action in parser._actions):
        parts.append(_command(parser.prog, "", parser))
    parts += [_command(command.prog, summary, command) for command, summary in _commands(parser)]
    return "\n\n".join(part for part in parts if part)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield each command with its summary; instead of one that has commands of its own, those."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                nested = list(_commands(command))
                yield from nested or [(command, summaries.get(name, ""))]


def _command(title: str, summary: str, parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if not isinstance(action, _HIDDEN)]
    rows = [(_name(action), _default(action), _help(parser, action)) for action in actions]
    parts = [f"### `{title}`", _sentence(summary), table(("option", "default", "meaning"), rows)]
    return "\n\n".join(part for part in parts if part)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_value(action)}`"
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return f"`{', '.join(action.option_strings)}{value}`"


def _value(action: argparse.Action) -> str:
    more = " ..." if action.nargs == "+" else ""
    if action.choices:
        return "{" + ", ".join(map(str, action.choices)) + "}" + more
    if isinstance(action.metavar, str):
        return action.metavar + more
    return (
        action.dest.upper().replace("_", "-") if action.option_strings else action.dest.upper()
    ) + more


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    value = action.default
    if value is None or value is False or value == [] or value == argparse.SUPPRESS:
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, list) else value}`"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    repeatable = isinstance(action, argparse._AppendAction)
    text = (action.help or "") % {"prog": parser.prog, "default": action.default}
    return text if not repeatable or "repeatable" in text else f"{text}; repeatable".lstrip("; ")
