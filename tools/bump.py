"""Raise the version: pyproject.toml says it, and from there it goes into charts and changelog."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
CHARTS = ("charts/segviz-operator/Chart.yaml", "charts/segviz-site/Chart.yaml")
_PLAIN = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z][-.0-9A-Za-z]*)?")
_UNRELEASED = "## [Unreleased]\n"


class Unfit(Exception):
    """What is wrong with the version, for the person at the terminal."""


def version_of(top: Path = TOP) -> str:
    project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))
    version: str = project["project"]["version"]
    return version


def chart_versions(top: Path = TOP) -> dict[str, set[str]]:
    """Both versions that each chart says: its own, and that of the images."""
    found = {}
    for name in CHARTS:
        text = (top / name).read_text(encoding="utf-8")
        found[name] = set(re.findall(r"^(?:version|appVersion): (\S+)$", text, re.MULTILINE))
    return found


def bump(new: str, today: str, top: Path = TOP) -> list[Path]:
    """Write `new` wherever the version is said; the files that changed.

    Raises:
        Unfit: it is no version, is not above the present one, or the changelog has nothing to release.
    """
    old = version_of(top)
    if not _PLAIN.fullmatch(new):
        raise Unfit(f"{new!r} is not a version like 0.2.0 or 0.2.0-rc.1. Give one: make bump VERSION=0.2.0")
    if _order(new) <= _order(old):
        raise Unfit(f"{new} is not above {old}, which pyproject.toml has. Give a higher one.")
    changelog = top / "CHANGELOG.md"
    said = changelog.read_text(encoding="utf-8")
    if _UNRELEASED not in said:
        raise Unfit(f'{changelog}: it has no heading "{_UNRELEASED.strip()}". Add it, with what has changed.')
    changes = {
        top / "pyproject.toml": (rf'^version = "{re.escape(old)}"$', f'version = "{new}"'),
        **{top / name: (r"^(version|appVersion): \S+$", rf"\g<1>: {new}") for name in CHARTS},
        changelog: (re.escape(_UNRELEASED), f"{_UNRELEASED}\n## [{new}] – {today}\n"),
    }
    for path, (pattern, replacement) in changes.items():
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(pattern, replacement, text, flags=re.MULTILINE), encoding="utf-8")
    return list(changes)


def _order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """A candidate (-rc.1) comes before its release."""
    numbers, _, candidate = version.partition("-")
    return tuple(int(each) for each in numbers.split(".")), not candidate, candidate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the next one, such as 0.2.0")
    arguments = parser.parse_args()
    try:
        changed = bump(arguments.version, f"{datetime.now(UTC):%Y-%m-%d}")
    except Unfit as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{arguments.version}: {', '.join(str(path.relative_to(TOP)) for path in changed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
