"""A strict YAML parser with the scalars of YAML 1.2: decimal numbers, true and false, null, and strings.

PyYAML's default is YAML 1.1, which reads 010 as 8, 12:30 as 750, 1_000 as 1000, 1e3 as a string and `no` as false.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from experiment import reading
from experiment.errors import UserError

_ROOT = Path(__file__).resolve().parent.parent
_ENDINGS = (".yaml", ".yml")
_LARGEST_FILE, _MOST_VALUES, _DEEPEST = 2**14, 1_000, 20  # characters; PyYAML parses a few thousand values a second


class _Loader(yaml.SafeLoader):
    """Limits size and depth; rejects duplicate keys, tags, and aliases (of which a few lines can expand endlessly)."""

    yaml_implicit_resolvers: ClassVar = {}
    _values = _depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        self._values += 1
        if self._values > _MOST_VALUES or self._depth > _DEEPEST:
            _refuse("too many values", event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            _refuse("aliases (*name) and tags (!name) are not allowed", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                _refuse(f"duplicate key {key.value!r}", key)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _refuse(problem: str, where):
    raise yaml.constructor.ConstructorError(None, None, problem, where.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that `_Loader` or a YAML 1.1 parser would read as another type."""


_SCALARS = (  # YAML 1.2's, without its octal and hexadecimal numbers: kind, pattern, first characters
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
)
for kind, pattern, first in _SCALARS:
    for each in (_Loader, _Dumper):
        each.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^({pattern})$"), list(first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def assignment(text: str) -> tuple[str, str]:
    """The key and the unparsed value of `key=value`, or a UserError."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{text!r}: write it as key=value or section.key=value")
    if " #" in value and value.lstrip()[:1] not in ("'", '"'):
        raise UserError(f"{text!r}: what follows ' #' would be a comment; write the value in double quotes")
    return key.strip(), value


def assigned(texts: Sequence[str]) -> dict[str, Any]:
    """The values of the arguments `--set key.subkey=value` by their dotted keys; of one key the last counts."""
    pairs = [(*assignment(each), f"--set {each!r}") for each in texts]
    return {key: parse(value, where) for key, value, where in pairs}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key as nested sections. Raises a UserError if a section is a value, too."""
    whole: dict[str, Any] = {}
    for dotted, value in values.items():
        *sections, key = dotted.split(".")
        section = whole
        for name in sections:
            if not isinstance(section.get(name, {}), dict):
                raise UserError(f"{dotted}: {name!r} is a value, not a section")
            section[name] = dict(section.get(name, {}))
            section = section[name]
        if isinstance(section.get(key), dict):
            if not isinstance(value, dict):
                raise UserError(f"{dotted}: it is a section with keys of its own, not a value")
            value = section[key] | value
        section[key] = value
    return whole


def text(value: Any) -> str:
    """A value as it is written after `key=`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def parse(text: str, where: str) -> Any:
    """Parses YAML. Raises a UserError that begins with `where` if it is invalid or too long."""
    if len(text) > _LARGEST_FILE:
        raise UserError(f"{where} is longer than {_LARGEST_FILE:,} characters, the limit for a configuration")
    try:
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML raises many types; Python raises ValueError for thousands of digits
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())[:300]}") from None


def read(path: Path, follow: bool = True) -> Any:
    """Parses a file; `follow` symbolic links only for the user's own files. Raises UserError if that fails."""
    return parse(reading.read_text(path, 4 * _LARGEST_FILE, follow), str(path))


def write(values: dict) -> str:
    """Values as YAML; `parse` reads it back to equal values. Raises a UserError for a value that YAML does not have."""
    try:
        return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
    except yaml.representer.RepresenterError as error:
        value = error.args[-1]
        raise UserError(f"{value!r:.100} cannot be written as YAML, which has no {type(value).__name__}") from None


def find(name_or_path: str, folder: Path, places: Sequence[Path] = ()) -> Path:
    """Resolves a path, or a name in `folder`, with or without its ending. Raises a UserError that lists the names.

    Args:
        places: where to look, in this order (default: the working directory, then `folder`).
    """
    endings = [""] if name_or_path.endswith(_ENDINGS) else ["", *_ENDINGS]
    for candidate in [place / (name_or_path + end) for end in endings for place in places or (Path(), folder)]:
        if is_file(candidate):
            return candidate
    existing = ", ".join(sorted(path.name for path in folder.glob("*.yaml"))) or "none"
    place = folder.relative_to(_ROOT)
    raise UserError(f"no configuration {name_or_path!r}, neither as a path nor in {place}/, which contains: {existing}")


def name_of(name_or_path: str | Path) -> str:
    """The file's name without .yaml or .yml, which names its runs; other dots are part of it."""
    name = Path(name_or_path).name
    return next((name[: -len(end)] for end in _ENDINGS if name.endswith(end)), name) or name


def is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (never raises)
