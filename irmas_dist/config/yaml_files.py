"""YAML as people write it: recipes, spaces and values on the command line.

Read by the core schema of YAML 1.2, whose ``no``, ``1:30`` and ``2024-05-01`` are text and whose
``010`` is ten. A key that stands twice is an error, and all text is in Unicode NFC, as instrument
codes are everywhere.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from irmas_dist.errors import IrmasError

Keys = tuple[str | int, ...]
"""Names and indices that lead to a value."""

TEXT_TAG = "tag:yaml.org,2002:str"
DATE_TAG = "tag:yaml.org,2002:timestamp"

_PLAIN_TEXT = re.compile(r"[^\W\d][\w ./()-]*")
_YAML_1_1_WORDS = frozenset({"y", "n", "yes", "no", "on", "off"})


@dataclass(frozen=True)
class YamlFile:
    """The content of a YAML file, and where in it each value stands.

    Attributes:
        path: The file, as errors name it.
        content: Nested values by name.
        lines: Line of each value, from 1.
    """

    path: str
    content: dict[str, Any]
    lines: dict[Keys, int]

    def where(self, *keys: str | int) -> str:
        """Return the file, with the line of the innermost of ``keys`` that it has."""
        for count in range(len(keys), 0, -1):
            if line := self.lines.get(keys[:count]):
                return f"{self.path}, line {line}"
        return self.path


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file of nested settings; an empty one has none.

    Raises:
        IrmasError: It cannot be read, is not YAML, has a key twice or one that is not text, or
            holds something else than settings by name.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tree = _yaml().compose(text)
        lines = dict(_lines(tree, (), path, set())) if tree else {}
        content = _yaml().load(text)
    except OSError as error:
        raise IrmasError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise IrmasError(f"{path} is not YAML: it is not UTF-8 (byte {error.start})") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = str(error.problem or error.context).partition(" with value ")[0]
        raise IrmasError(f"{path} is not YAML: {where}{problem.splitlines()[0]}") from error
    except (YAMLError, LookupError) as error:  # the latter of a version that is not known
        raise IrmasError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise IrmasError(f"{path}: lists or mappings are nested too deeply") from error
    if content is None:
        return YamlFile(str(path), {}, {})
    if not isinstance(content, dict):
        raise IrmasError(f"{path} must hold settings by name, not {content!r}")
    return YamlFile(str(path), _in_nfc(content), lines)


def parse_value(text: str) -> Any:
    """Return the value that a text on the command line stands for; the text if it is not YAML.

    There are no comments: what has one, such as ``run #3``, is text as a whole.
    """
    try:
        tree = _yaml().compose(text)
        if "#" not in text[_end(tree) :]:
            return _in_nfc(_yaml().load(text))
    except (YAMLError, RecursionError, LookupError):
        pass
    return _in_nfc(text)


def dump_yaml(value: Any, *, flow: bool = False) -> str:
    """Return a value as YAML, its keys in their order, or in one line."""
    yaml = _yaml()
    yaml.Representer = _Representer
    yaml.default_flow_style = flow
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 4_096 if flow else 100
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    """Writes what YAML 1.1 reads alike: 1e-05 as 1.0e-05, and odd text in quotes."""

    def represent_str(self, data: str) -> ScalarNode:
        plain = _PLAIN_TEXT.fullmatch(data) and data.lower() not in _YAML_1_1_WORDS
        return self.represent_scalar(TEXT_TAG, data, style=None if plain else '"')

    def represent_float(self, data: float) -> ScalarNode:
        node: ScalarNode = super().represent_float(data)
        if "." not in node.value and "e" in node.value:
            node.value = node.value.replace("e", ".0e")
        return node


_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(str, _Representer.represent_str)


class _Constructor(SafeConstructor):
    """Refuses, with its place, a scalar that is none of what it resolves to, such as ``0x_``."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            kind = str(node.tag).rpartition(":")[2]
            text = f"{str(node.value)[:40]} cannot be read as {kind}"
            raise ConstructorError(None, None, text, node.start_mark) from error


class _Resolver(VersionedResolver):
    """Takes dates as text: the core schema of YAML 1.2 has none."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Tag:
        tag: Tag = super().resolve(kind, value, implicit)
        return self.DEFAULT_SCALAR_TAG if str(tag) == DATE_TAG else tag


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor, yaml.Resolver = _Constructor, _Resolver
    return yaml


def _lines(node: Node, keys: Keys, path: Path, seen: set[int]) -> Iterator[tuple[Keys, int]]:
    """Yield the line of each value below a node; refuse keys that are not text, and aliases.

    A few lines of nested aliases can stand for more values than fit in memory.
    """
    if id(node) in seen:
        line = node.start_mark.line + 1
        raise IrmasError(f"{path}, line {line}: aliases are not supported: write the value out")
    seen.add(id(node))
    if isinstance(node, MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != TEXT_TAG:
                found = key.value if isinstance(key.value, str) else "a list or mapping"
                raise IrmasError(f"{path}, line {line}: {found} is no name; quote it if it is one")
            inner = (*keys, unicodedata.normalize("NFC", key.value))
            yield inner, line
            yield from _lines(value, inner, path, seen)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield (*keys, index), item.start_mark.line + 1
            yield from _lines(item, (*keys, index), path, seen)


def _end(node: Node | None) -> int:
    """Return where the last scalar below a node ends; only brackets or a comment can follow."""
    if isinstance(node, ScalarNode):
        return int(node.end_mark.index)
    if isinstance(node, MappingNode):
        return max((_end(part) for pair in node.value for part in pair), default=0)
    return max(map(_end, node.value), default=0) if node else 0


def _in_nfc(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_in_nfc(key): _in_nfc(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_nfc(item) for item in value]
    return value
