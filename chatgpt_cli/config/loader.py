"""From a YAML file and overrides to a validated configuration, every fault with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from chatgpt_cli.config.paths import builtin
from chatgpt_cli.config.schema import Config
from chatgpt_cli.config.yaml_source import Path_, YamlSource, parse_value, read_yaml
from chatgpt_cli.errors import ConfigError

DEFAULT_FILE = Path("chatgpt.yaml")
_SHOWN = 10


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, and in a few words where it came from."""

    config: Config
    source: str
    content: YamlSource
    # What --set gave, by its key.
    cited: Mapping[Path_, str]

    def place(self, path: Path_) -> str:
        """Where a setting stands: "file:line", or the --set that gave it."""
        return _override_of(path, "", self.cited) or self.content.place(path)


def load_config(path: Path | None, overrides: list[str]) -> LoadedConfig:
    """Read, override and validate.

    Args:
        path: a file, the name of a built-in configuration, or None for ./chatgpt.yaml
            and, where there is none, the built-in quickstart.
        overrides: "a.b=value" texts; the values are YAML.

    Raises:
        ConfigError: listing every fault with its line.
    """
    file, source = _choose(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the file cannot be read ({error.strerror})",
            place=str(file),
            remedy="Check its permissions.",
        ) from error
    content = read_yaml(source if source != "built-in quickstart" else file.name, data)
    values = _without_nulls(content.values)
    cited: dict[Path_, str] = {}
    for override in overrides:
        where = _override(values, override)
        cited[where] = f"--set {override}"
    try:
        return LoadedConfig(Config.model_validate(values), source, content, cited)
    except ValidationError as error:
        raise _explained(error, content, cited) from error


def dump_config(config: Config) -> str:
    """YAML that `load_config` reads back to the same configuration."""
    return dump_values(config.model_dump(mode="json", by_alias=True))


def dump_values(values: dict[str, Any]) -> str:
    """The same of a configuration's values as JSON has them."""
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=100)


def _choose(path: Path | None) -> tuple[Path, str]:
    configs = builtin("configs")
    if path is None:
        if DEFAULT_FILE.is_file():
            return DEFAULT_FILE, str(DEFAULT_FILE)
        return configs / "quickstart.yaml", "built-in quickstart"
    if path.is_file():
        return path, str(path)
    named = configs / f"{path.name}.yaml"
    if path.is_dir():
        raise ConfigError(
            "this is a folder, a YAML file is needed",
            place=str(path),
            remedy=f"Name the file in it, such as {path / 'chatgpt.yaml'}.",
        )
    if len(path.parts) == 1 and named.is_file():
        return named, f"built-in {path.name}"
    folder = path.parent if path.parent.is_dir() else Path()
    here = sorted(str(p) for p in [*folder.glob("*.yaml"), *folder.glob("*.yml")])
    near = difflib.get_close_matches(str(path), here, n=1)
    builtins = ", ".join(sorted(p.stem for p in configs.glob("*.yaml")))
    raise ConfigError(
        "there is no such configuration" + (f"; did you mean {near[0]}?" if near else ""),
        place=str(path),
        remedy=f"`chatgpt init` writes one. Built in are: {builtins}.",
    )


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """A section with nothing under it is a section of defaults."""
    return {
        key: {} if value is None and _is_section(key) else value for key, value in values.items()
    }


def _is_section(key: str) -> bool:
    field = Config.model_fields.get(key)
    return (
        field is not None
        and isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
    )


def _override(values: dict[str, Any], text: str) -> Path_:
    """Put one `a.b=value` into the values; the path it names."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            "an override must be KEY=VALUE",
            place=f"--set {text}",
            remedy="Write it as in --set pretrain.learning_rate=3e-4.",
        )
    try:
        parsed = parse_value(value)
    except ValueError as error:
        raise ConfigError(
            str(error), place=f"--set {text}", remedy="The value is read as YAML; quote it."
        ) from error
    target: Any = values
    path: Path_ = ()
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        step: str | int = part
        if isinstance(target, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(target):
                raise ConfigError(
                    f"{'.'.join(map(str, path))} is a list of {len(target)}; {part!r} is not in it",
                    place=f"--set {text}",
                    remedy=f"They are numbered from 0 to {len(target) - 1}.",
                )
            step = int(part)
        elif not isinstance(target, dict):
            raise ConfigError(
                f"{'.'.join(map(str, path))} is a value, it has no {part!r}",
                place=f"--set {text}",
                remedy="`chatgpt config` shows every setting by its name.",
            )
        path = (*path, step)
        if last:
            target[step] = parsed
        elif isinstance(target, dict):
            target = target.setdefault(part, {})
        else:
            target = target[step]
    return path


# --------------------------------------------------------------- pydantic's errors


def _explained(error: ValidationError, content: YamlSource, cited: dict[Path_, str]) -> ConfigError:
    problems = []
    for path, sentence in _sentences(error):
        override = _override_of(path, sentence, cited)
        if override is None and (slips := content.slips_at(path)):
            problems += [f"{content.name}:{one.line}: {one}" for one in slips]
            continue
        problems.append(f"{override or _line_of(path, sentence, content)}: {sentence}")
    problems = list(dict.fromkeys(problems))
    more = len(problems) - _SHOWN
    listed = "\n  ".join(problems[:_SHOWN]) + (f"\n  … and {more} more" if more > 0 else "")
    if len(problems) == 1:
        place, _, fact = problems[0].partition(": ")
        return ConfigError(
            fact, place=place, remedy="`chatgpt config --schema` lists all settings."
        )
    return ConfigError(
        f"{len(problems)} settings are wrong:\n  {listed}",
        remedy="`chatgpt config --schema` lists all settings.",
    )


def _override_of(path: Path_, sentence: str, cited: Mapping[Path_, str]) -> str | None:
    """The --set that a fault comes from; between sections, the one whose key it names."""
    if sentence.endswith(" is missing"):
        path = path[:-1] or path
    for where, text in cited.items():
        if _touches(where, path) or (not path and ".".join(map(str, where)) in sentence):
            return text
    return None


def _touches(override: Path_, path: Path_) -> bool:
    """Whether an override set the value at `path`, or something around or inside it."""
    common = min(len(override), len(path))
    return common > 0 and override[:common] == path[:common]


def _line_of(path: Path_, sentence: str, content: YamlSource) -> str:
    """The line of a fault; for one between settings, of the first setting it names."""
    if path in content.lines and path:
        return content.place(path)
    for name in re.findall(r"[a-z_]+(?:\.[a-z_]+)*", sentence):
        inside = (*path, *name.split("."))
        if inside in content.lines:
            return content.place(inside)
        leaves = [known for known in content.lines if known and known[-1] == name and "_" in name]
        if leaves:
            return content.place(leaves[0])
    return content.place(path)


def _sentences(error: ValidationError) -> list[tuple[Path_, str]]:
    """For every faulty key its path and what is wrong; alternatives of a type are joined."""
    found: dict[Path_, str] = {}
    expected: dict[Path_, list[str]] = {}
    for one in error.errors():
        path = _real_path(one["loc"])
        name = ".".join(str(part) for part in path)
        kind = one["type"]
        if one["loc"][-1:] == ("str",) and isinstance(one["input"], dict):
            # Meant as a section, whose own faults are told.
            continue
        if kind == "extra_forbidden":
            found[path] = _unknown(path)
        elif kind == "missing":
            found[path] = f"{name} is missing"
        elif kind == "value_error":
            found[path] = (f"{name}: " if name else "") + str(one["ctx"]["error"])
        else:
            expected.setdefault(path, []).append(_expected(dict(one)))
            choices = " or ".join(dict.fromkeys(expected[path]))
            found[path] = f"{name} must be {choices}, it is {_written(one['input'])}"
    return list(found.items())


def _written(value: Any) -> str:
    """A value as YAML has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _expected(error: dict[str, Any]) -> str:
    """What a value should have been."""
    context = error.get("ctx", {})
    choices = str(context.get("expected", "")).replace("'", "")
    return {
        "literal_error": f"one of {choices}" if " " in choices else choices,
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "string_type": "text",
        "list_type": "a list",
        "model_type": "a section with keys of its own",
        "greater_than": f"a number above {context.get('gt')}",
        "greater_than_equal": f"a number of at least {context.get('ge')}",
        "less_than": f"a number below {context.get('lt')}",
        "less_than_equal": f"a number of at most {context.get('le')}",
        "too_short": f"at least {context.get('min_length')} entries",
    }.get(error["type"], str(error["msg"]))


def _real_path(location: tuple[str | int, ...]) -> Path_:
    """pydantic's location without the names of the alternatives of a union."""
    model: Any = Config
    path: Path_ = ()
    for part in location:
        fields = _fields(model) if model is not None else None
        if isinstance(part, int):
            path = (*path, part)
        elif fields is not None and part in fields:
            path, model = (*path, part), _section_of(fields[part].annotation)
        elif fields and path and isinstance(path[-1], int) and part in ("str", model.__name__):
            # An item that may be a text or a section.
            continue
        elif fields is not None:
            path, model = (*path, part), None
    return path


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of a section by the names they have in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _section_of(annotation: Any) -> Any:
    """The section a field holds, itself or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if (found := _section_of(inner)) is not None:
            return found
    return None


def _unknown(path: Path_) -> str:
    """An unknown key, with the nearest known one, or the section where it belongs."""
    model: Any = Config
    for part in path[:-1]:
        if isinstance(part, str) and model is not None:
            model = _section_of(_fields(model)[part].annotation)
    key, name = str(path[-1]), ".".join(str(part) for part in path)
    near = difflib.get_close_matches(key, list(_fields(model)), n=1) if model else []
    if near:
        return f"{name} is not a setting. Did you mean {near[0]}?"
    owners = [
        section
        for section, field in Config.model_fields.items()
        if (inside := _section_of(field.annotation)) is not None and key in _fields(inside)
    ]
    if owners:
        return f"{name} is not a setting here. It belongs under {' or '.join(owners)}"
    known = ", ".join(_fields(model)) if model else ""
    return f"{name} is not a setting. Known here are {known}"
