"""YAML read safely, with the line of every value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from chatgpt_cli.errors import ConfigError
from chatgpt_cli.full_width import Slip, slips_in_yaml

Path_ = tuple[str | int, ...]
_DEEPEST = 50
# With aliases a small file can stand for a huge one.
_MOST_VALUES = 100_000
_SHOWN = 10
_TEXT_IN_QUOTES = "If it belongs to a text, put the whole text into quotes."


class _Loader(yaml.SafeLoader):
    """Safe, and with YAML 1.2's floats: 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    key: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
    for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?:[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
# After int, so that 12 stays a whole number.
for _pairs in _Loader.yaml_implicit_resolvers.values():
    _pairs.sort(key=lambda pair: pair[0] == "tag:yaml.org,2002:float")


@dataclass(frozen=True)
class YamlSource:
    """The values of a file and the line of each key path, counted from 1."""

    name: str
    values: Mapping[str, Any]
    lines: Mapping[Path_, int]
    # Full-width characters at places for syntax.
    slips: tuple[Slip, ...] = ()

    def slips_at(self, path: Path_) -> list[Slip]:
        """Those in the lines of a value, which may be the cause of what is wrong with it."""
        if not path or path not in self.lines:
            return []
        first = self.lines[path]
        after = [
            line
            for other, line in self.lines.items()
            if line > first and other[: len(path)] != path
        ]
        end = min(after, default=None)
        return [one for one in self.slips if first <= one.line and (not end or one.line < end)]

    def place(self, path: Path_) -> str:
        """ "file:line" of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path in self.lines else self.name


# What PyYAML raises for a value that its own tag, such as !!bool, does not allow.
_UNREADABLE = (ValueError, KeyError, AttributeError, TypeError, OverflowError)


def parse_value(text: str) -> Any:
    """One YAML value, as written after `--set key=`.

    Raises:
        ValueError: if it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, *_UNREADABLE) as error:
        raise ValueError("the value is not YAML") from error


def read_yaml(name: str, data: bytes) -> YamlSource:
    """Parse a configuration file.

    Raises:
        ConfigError: with the line, if it is not UTF-8, not YAML, or not key: value pairs.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            "the file is not UTF-8", place=f"{name}:{line}", remedy="Save it as UTF-8."
        ) from error
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _not_yaml(name, text, error) from error
    finally:
        if loader is not None:
            loader.dispose()
    lines: dict[Path_, int] = {}
    values = _Builder(name, lines).build(node, ()) if node is not None else {}
    if values is None:
        values = {}
    slips = slips_in_yaml(text)
    if not isinstance(values, dict):
        if slips:
            raise _full_width(name, slips)
        raise ConfigError(
            "the file must hold `key: value` lines",
            place=f"{name}:1",
            remedy="`chatgpt init` writes an example.",
        )
    return YamlSource(name, values, lines, tuple(slips))


def _not_yaml(name: str, text: str, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    context = getattr(error, "context_mark", None)
    if slips := _slips_before(text, min(line, context.line + 1) if context else line, line):
        return _full_width(name, slips)
    shown = text.splitlines()[line - 1] if mark and line <= len(text.splitlines()) else ""
    what = getattr(error, "problem", None) or str(error).splitlines()[0]
    remedy = "Check the indentation, colons and quotes there."
    if shown[: len(shown) - len(shown.lstrip())].count("\t") or "'\\t'" in what:
        what, remedy = "a tab is used for indentation", "Indent with spaces."
    return ConfigError(f"this is not YAML: {what}", place=f"{name}:{line}", remedy=remedy)


def _slips_before(text: str, first: int, last: int) -> list[Slip]:
    """Those in these lines, and in the ones directly before: YAML notices a key a line late."""
    slips = slips_in_yaml(text)
    of_line = {one.line for one in slips}
    lines = text.splitlines()
    while first > 1 and (first - 1 in of_line or not lines[first - 2].strip()):
        first -= 1
    if not any(first <= one.line <= last for one in slips):
        return []
    # After a key, ： is none of a text's: the others need not be found one by one.
    return [one for one in slips if first <= one.line <= last or one.character == "："]


def _full_width(name: str, slips: list[Slip]) -> ConfigError:
    if len(slips) == 1:
        return ConfigError(str(slips[0]), place=f"{name}:{slips[0].line}", remedy=_TEXT_IN_QUOTES)
    return ConfigError(
        "full-width characters stand where YAML needs others:"
        + "".join(f"\n  {name}:{one.line}: {one}" for one in slips[:_SHOWN]),
        remedy=_TEXT_IN_QUOTES,
    )


class _Builder:
    """Python values from YAML nodes, noting lines and refusing what repeats or explodes."""

    def __init__(self, name: str, lines: dict[Path_, int]) -> None:
        self._name = name
        self._lines = lines
        self._count = 0
        self._scalars = _Loader("")

    def build(self, node: yaml.Node, path: Path_) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        self._count += 1
        if len(path) > _DEEPEST or self._count > _MOST_VALUES:
            raise ConfigError(
                "the file is nested too deeply or too large", place=f"{self._name}:{line}"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, *_UNREADABLE) as error:
            raise ConfigError(
                f"{node.value!r} cannot be read as a value", place=f"{self._name}:{line}"
            ) from error

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError("a key must be a word", place=f"{self._name}:{line}")
            key = str(key_node.value)
            if key in seen:
                raise ConfigError(
                    f"{key} stands here twice (first in line {seen[key]})",
                    place=f"{self._name}:{line}",
                    remedy="Keep one of the two.",
                )
            seen[key] = line
            self._lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result
