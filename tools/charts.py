"""Write what of the charts follows from other files: the copy of `crds/`, the tables of values in READMEs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segviz_operator.manifests.documents import read_documents

TOP = Path(__file__).resolve().parent.parent
CHARTS = TOP / "charts"
BEGIN, END = "<!-- values: written by tools/charts.py -->", "<!-- /values -->"
MARK = "# -- "


class Undocumented(Exception):
    """A value that no comment describes."""


@dataclass(frozen=True)
class Value:
    key: str
    default: Any
    description: str


def described_values(path: Path) -> list[Value]:
    """Every value that has a comment of the form `# -- …`; what lies below one needs none of its own.

    Raises:
        InvalidManifest: a value is there twice; Helm would take the later one without a word.
        Undocumented: a value has no comment.
    """
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise Undocumented(f"{path}: is no mapping")
    (values,) = read_documents(path)
    return list(_walk(root, values, text.splitlines(), path, ()))


def _walk(
    node: yaml.MappingNode, values: Mapping[str, Any], lines: list[str], path: Path, above: tuple[str, ...]
) -> Iterator[Value]:
    for key_node, value_node in node.value:
        keys = (*above, key_node.value)
        default = values[key_node.value]
        description = _comment_above(lines, key_node.start_mark.line)
        if description is not None:
            yield Value(".".join(keys), default, description)
        elif isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _walk(value_node, default, lines, path, keys)
        else:
            raise Undocumented(
                f"{path}:{key_node.start_mark.line + 1}: {'.'.join(keys)} has no comment. "
                f"Write `{MARK}…` above it."
            )


def _comment_above(lines: list[str], line: int) -> str | None:
    found: list[str] = []
    while line > 0 and (text := lines[line - 1].strip()).startswith("#"):
        line -= 1
        if text.startswith(MARK):
            return " ".join([text.removeprefix(MARK), *found])
        found.insert(0, text.removeprefix("#").strip())
    return None


def table(values: list[Value]) -> str:
    rows = [f"| `{each.key}` | `{json.dumps(each.default)}` | {_cell(each.description)} |" for each in values]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def defaults(chart: Path) -> str:
    """A template that gives back what `key:` or `--set key=null` takes away.

    Helm deletes such a key from the values before any template sees them, and tells nobody.
    """
    (values,) = read_documents(chart / "values.yaml")
    return (
        "{{- /* Written by tools/charts.py from values.yaml: what is null counts as left out. */ -}}\n"
        f'{{{{- define "{chart.name}.defaults" -}}}}\n{json.dumps(values, indent=2)}\n{{{{- end }}}}\n\n'
        f'{{{{- define "{chart.name}.complete" -}}}}\n'
        f'{{{{- $defaults := include "{chart.name}.defaults" . | fromJson -}}}}\n'
        f'{{{{- include "{chart.name}.fill" (dict "into" .Values "from" $defaults) -}}}}\n'
        "{{- end }}\n\n"
        "{{- /* Resources and labels are the user's own maps: a key of those may be taken away. */ -}}\n"
        f'{{{{- define "{chart.name}.fill" -}}}}\n'
        "{{- $into := .into -}}\n"
        "{{- range $key, $default := .from -}}\n"
        '{{- if or (not (hasKey $into $key)) (kindIs "invalid" (get $into $key)) -}}\n'
        "{{- $_ := set $into $key $default -}}\n"
        '{{- else if and (kindIs "map" $default) (not (has $key (list "resources" "labels"))) -}}\n'
        f'{{{{- include "{chart.name}.fill" (dict "into" (get $into $key) "from" $default) -}}}}\n'
        "{{- end -}}\n{{- end -}}\n{{- end }}\n"
    )


def wanted_files() -> dict[Path, str]:
    wanted = {
        CHARTS / "segviz-operator" / "crds" / path.name: path.read_text(encoding="utf-8")
        for path in sorted((TOP / "crds").glob("*.yaml"))
    }
    for chart in sorted(path.parent for path in CHARTS.glob("*/Chart.yaml")):
        readme = chart / "README.md"
        before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        values = table(described_values(chart / "values.yaml"))
        wanted[readme] = f"{before}{BEGIN}\n{values}\n{END}{after}"
        wanted[chart / "templates" / "_defaults.tpl"] = defaults(chart)
    return wanted


def stale_files() -> list[Path]:
    """What would change, and copies of CRDs that are gone."""
    wanted = wanted_files()
    changed = [
        path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    return changed + [path for path in (CHARTS / "segviz-operator" / "crds").glob("*") if path not in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if something is stale"
    )
    arguments = parser.parse_args()
    stale, wanted = stale_files(), wanted_files()
    for path in stale:
        if arguments.check:
            print(f"{path.relative_to(TOP)} is out of date: run `make charts`")
        elif path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
