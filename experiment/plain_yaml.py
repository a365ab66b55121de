"""YAML as people write it: decimal numbers, true and false, null, and the rest is text.

YAML 1.1, which PyYAML reads by itself, takes 010 for 8, 12:30 for 750, 1_000 for 1000, 1e3 for text and `no` for false.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from experiment import reading
from experiment.errors import UserError

_ROOT = Path(__file__).resolve().parent.parent
_ENDINGS = (".yaml", ".yml")
_LARGEST_FILE, _MOST_VALUES, _DEEPEST = 2**14, 1_000, 20  # characters; PyYAML reads some thousand values a second


class _Loader(yaml.SafeLoader):
    """Stricter, too: bounded; a key stands once; no tags; no aliases, a few lines of which expand without bound."""

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
                _refuse(f"the key {key.value!r} stands twice", key)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _refuse(problem: str, where):
    raise yaml.constructor.ConstructorError(None, None, problem, where.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader`, or YAML 1.1, would read as something else."""


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


def parse(text: str, where: str) -> Any:
    """A YAML value; a UserError begins with `where`."""
    if len(text) > _LARGEST_FILE:
        raise UserError(f"{where} is longer than {_LARGEST_FILE:,} characters: no configuration is")
    try:
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # PyYAML fails in many ways, and Python at a number of thousands of digits
        raise UserError(f"{where} is not readable as YAML: {' '.join(str(error).split())[:300]}") from None


def read(path: Path, follow: bool = True) -> Any:
    """The value of a file; `follow` links, where it is the user's own. Raises UserError where it cannot be read."""
    return parse(reading.read_text(path, 4 * _LARGEST_FILE, follow), str(path))


def write(values: dict) -> str:
    """The YAML text that `parse` reads back to equal values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def find(name_or_path: str, folder: Path) -> Path:
    """The file in `folder`, or anywhere, that a user's `--config` means. Raises UserError listing those that exist."""
    endings = [""] if name_or_path.endswith(_ENDINGS) else ["", *_ENDINGS]
    for candidate in [path for end in endings for path in (Path(name_or_path + end), folder / (name_or_path + end))]:
        if is_file(candidate):
            return candidate
    existing = ", ".join(sorted(path.name for path in folder.glob("*.yaml"))) or "none"
    place = folder.relative_to(_ROOT)
    raise UserError(f"no configuration {name_or_path!r}, neither as a path nor in {place}/ (there: {existing})")


def name_of(name_or_path: str | Path) -> str:
    """What the runs of a file are called by: its name without the ending of YAML; other dots are part of it."""
    name = Path(name_or_path).name
    return next((name[: -len(end)] for end in _ENDINGS if name.endswith(end)), name) or name


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a directory that may not be entered
        return False
