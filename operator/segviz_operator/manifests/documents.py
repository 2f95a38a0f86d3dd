"""Reading YAML strictly: what kubectl would read, and nothing that it would read otherwise than it looks."""

import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from segviz_operator.manifests.problem import InvalidManifest, Problem

_MOST_ALIASES = 100
"""Aliases of aliases grow exponentially; no manifest needs this many."""


def read_documents(path: Path) -> list[Any]:
    """Every document of a file that holds something."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not text in UTF-8 (byte {error.start})"
        raise _invalid(path, what, "Give a YAML file, saved as UTF-8.") from error
    except OSError as error:
        raise _invalid(
            path, f"cannot be read ({error.strerror})", "Check the name and your rights."
        ) from error
    try:
        return [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, text, error) from error
    except yaml.reader.ReaderError as error:
        what = f"has a character that YAML does not allow (position {error.position})"
        raise _invalid(path, what, "Remove it.") from error
    except RecursionError as error:
        raise _invalid(path, "is nested too deeply", "Write it flatter.") from error


def _syntax_error(path: Path, text: str, error: yaml.MarkedYAMLError) -> InvalidManifest:
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return InvalidManifest([Problem(where, "", "a tab indents this line", "YAML indents with spaces.")])
    what = str(error.problem or error.context)
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        # They notice a mistake only after it, and speak of tokens.
        what = f"is not valid YAML, here or just above ({what})"
    note = str(getattr(error, "note", None) or "Check the indentation, the colons and the quotes.")
    return InvalidManifest([Problem(where, "", what, note)])


def _invalid(path: Path, what: str, fix: str) -> InvalidManifest:
    return InvalidManifest([Problem(str(path), "", what, fix)])


class _Loader(yaml.SafeLoader):
    """Plain data only. Scalars mean what they mean to kubectl: 1e-3 is a number, a date is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    yaml_constructors: ClassVar[dict[Any, Any]] = {}
    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _MOST_ALIASES:
                mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(problem="there are too many aliases", problem_mark=mark)
        return super().compose_node(parent, index)

    def mapping(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise _error(
                    key, f"the key {key.value} is read as {name!r}, which is not text", "Put it in quotes."
                )
            if name in seen:
                raise _error(key, f"the key {name} appears twice", "Keep one of the two.")
            seen.add(name)
        return self.construct_mapping(node, deep=True)

    def sequence(self, node: yaml.SequenceNode) -> list[Any]:
        return self.construct_sequence(node, deep=True)

    def text(self, node: yaml.ScalarNode) -> str:
        return self.construct_scalar(node)

    def boolean(self, node: yaml.ScalarNode) -> bool:
        return node.value.lower() in ("y", "yes", "true", "on")

    def integer(self, node: yaml.ScalarNode) -> int:
        return int(node.value.lower(), 0)

    def number(self, node: yaml.ScalarNode) -> float | int:
        if re.fullmatch(r"[-+]?0[0-9]+", node.value):
            raise _error(
                node,
                f"{node.value} starts with a zero, and kubectl would read it as an octal number",
                "Leave the zero out, or put it in quotes.",
            )
        value = float(node.value)
        if math.isinf(value):
            raise _error(node, f"{node.value} is too large for a number", "Write a smaller one.")
        # JSON has one kind of number, and Go writes 2.0 as 2: kubectl sends it so.
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    def odd(self, node: yaml.ScalarNode) -> None:
        raise _error(
            node,
            f"{node.value} is text as it looks, and kubectl would read it as a number",
            "Write it in digits alone, or put it in quotes.",
        )

    def null(self, node: yaml.ScalarNode) -> None:
        return None


def _error(node: yaml.Node, problem: str, note: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark, note=note)


_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0", _Loader.null),
    "bool": (r"(?i:y|yes|true|on|n|no|false|off)", "yYtToOnNfF", _Loader.boolean),
    "int": (r"[-+]?(?:0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0b[01]+|0o[0-7]+)", "-+0123456789", _Loader.integer),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", _Loader.number),
    # Go's numbers: underscores count for nothing, and a prefix may be in capitals.
    "odd": (
        r"[-+]?(?:[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?|[0-9]*\.[0-9]*_[0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?0[xX]_?[0-9a-fA-F]+_[0-9a-fA-F_]*|[-+]?0[xX]_[0-9a-fA-F_]+"
        r"|[-+]?0[bB][01_]*_[01_]*|[-+]?0[oO][0-7_]*_[0-7_]*|[-+]?0B[01]+|[-+]?0O[0-7]+",
        "-+.0123456789",
        _Loader.odd,
    ),
    "merge": (r"<<", "<", None),
}
for _name, (_pattern, _first, _construct) in _SCALARS.items():
    _tag = f"tag:yaml.org,2002:{_name}"
    _firsts = [*_first.replace("\0", ""), *([""] if "\0" in _first else [])]
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})\\Z"), _firsts)
    if _construct is not None:
        _Loader.add_constructor(_tag, _construct)
# Without this, PyYAML would drop tags that it does not know.
_Loader.yaml_constructors[None] = _Loader.construct_undefined
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.sequence)
