"""Mutation tests of the pure core: how many small faults in it do its tests see?

    python tools/mutants.py            all of it (about an hour on two cores)
    python tools/mutants.py closing    the modules whose path ends so

mutmut makes the faults, and runs on each the tests that reach the function. It leaves out lines with text for
people and functions under a decorator. `tests/mutants.md` says why a fault that lives cannot be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
WORK = TOP / ".mutants"
KNOWN = TOP / "tests" / "mutants.md"
WANTED_PERCENT = 95.0
ROLES = ("exchange", "aggregator", "operator", "trainer")
MUTMUT = Path(sys.executable).parent / "mutmut"
# What mutmut writes beside a mutant that no test failed under, or that no test reaches.
SURVIVED, NO_TESTS = 0, 33


@dataclass(frozen=True)
class Room:
    modules: tuple[str, ...]
    """Files or folders of product code, from the top of the repository."""
    tests: tuple[str, ...]


ROOMS = {
    "contract": Room(
        (
            "exchange/segviz_exchange/contract/closing.py",
            "exchange/segviz_exchange/contract/sharing.py",
            "exchange/segviz_exchange/contract/keys.py",
        ),
        ("tests/unit/exchange",),
    ),
    "aggregator": Room(
        ("aggregator/segviz_aggregator/verify.py", "aggregator/segviz_aggregator/algorithms"),
        ("tests/unit/aggregator",),
    ),
    "plan": Room(("operator/segviz_operator/plan/decide.py",), ("tests/unit/operator/plan",)),
    "retention": Room(
        ("operator/segviz_operator/progress/retention.py",),
        ("tests/unit/operator/progress/test_retention.py",),
    ),
    "splits": Room(("trainer/segviz_trainer/data/splits.py",), ("tests/unit/trainer/data/test_splits.py",)),
    "privacy": Room(
        (
            "trainer/segviz_trainer/privacy/noise.py",
            "trainer/segviz_trainer/privacy/budget.py",
            "trainer/segviz_trainer/privacy/account.py",
        ),
        ("tests/unit/trainer/privacy",),
    ),
    "objectives": Room(("trainer/segviz_trainer/objectives",), ("tests/unit/trainer/objectives",)),
    "training": Room(
        ("trainer/segviz_trainer/training/learning_rate.py",),
        ("tests/unit/trainer/training/test_learning_rate.py",),
    ),
    "statistics": Room(
        ("trainer/segviz_trainer/study/statistics.py",), ("tests/unit/trainer/study/test_statistics.py",)
    ),
    "metrics": Room(("trainer/segviz_trainer/metrics",), ("tests/unit/trainer/metrics",)),
}

CONFIG = """\
[tool.mutmut]
source_paths = {packages}
only_mutate = {modules}
also_copy = ["crds/", "examples/"]
do_not_mutate_patterns = ['"[^"]* [^"]*"']
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--timeout=300"]
use_git_change_detection = false
track_dependencies = false

[tool.pytest.ini_options]
pythonpath = ["tests", "."]
"""


@dataclass(frozen=True)
class Outcome:
    module: str
    made: int
    survivors: tuple[str, ...]
    """Names of mutants."""


def modules_of(room: Room, only: str) -> list[str]:
    """Files as mutmut knows them: from their package on.

    Raises:
        SystemExit: a module is not where the table says.
    """
    found = []
    for module in room.modules:
        path = TOP / module
        if not path.exists():
            sys.exit(f"tools/mutants.py: {module} does not exist. Write in ROOMS where it is now.")
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        found += [file.relative_to(TOP / Path(module).parts[0]).as_posix() for file in files]
    return [each for each in found if each.removesuffix(".py").endswith(only)]


def prepare(folder: Path, room: Room, modules: list[str]) -> None:
    """A checkout in which every package lies at the top, as mutmut takes a module's name from its path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packages = [next(iter((TOP / role).glob("segviz_*"))) for role in ROLES]
    for source in [*packages, TOP / "tests", TOP / "crds", TOP / "examples"]:
        (folder / source.name).symlink_to(source)
    config = CONFIG.format(
        packages=json.dumps([each.name for each in packages]),
        modules=json.dumps(modules),
        tests=json.dumps(room.tests),
    )
    (folder / "pyproject.toml").write_text(config, encoding="utf-8")


def mutate(folder: Path, modules: list[str]) -> Iterator[Outcome]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(MUTMUT), "run", "--max-children", str(os.cpu_count() or 1)]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        ended = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log)
    if ended.returncode:
        sys.exit(f"tools/mutants.py: mutmut failed; {folder / 'log.txt'} says why.")
    for module in modules:
        meta = folder / "mutants" / f"{module}.meta"
        codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"] if meta.exists() else {}
        alive = tuple(name for name, code in codes.items() if code in (SURVIVED, NO_TESTS, None))
        if codes:
            yield Outcome(module, len(codes), alive)


def change_of(folder: Path, name: str) -> str:
    """The line of code that a mutant changes, before and after."""
    shown = subprocess.run([str(MUTMUT), "show", name], cwd=folder, capture_output=True, text=True).stdout
    lines = [each for each in shown.splitlines() if each[:1] in "+-" and each[:3] not in ("+++", "---")]
    removed, added = ([each[1:].strip() for each in lines if each[0] == sign] for sign in "-+")
    return f"`{' '.join(removed)}` → `{' '.join(added)}`".replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="?", default="", help="end of a module's path, such as closing")
    only = parser.parse_args().only
    known = KNOWN.read_text(encoding="utf-8")
    outcomes: list[Outcome] = []
    new: list[str] = []
    began = time.monotonic()
    for name, room in ROOMS.items():
        if not (modules := modules_of(room, only)):
            continue
        folder = WORK / name
        prepare(folder, room, modules)
        for outcome in mutate(folder, modules):
            outcomes.append(outcome)
            changes = [(survivor, change_of(folder, survivor)) for survivor in outcome.survivors]
            new += [f"| {survivor} | {change} |" for survivor, change in changes if change not in known]
            print(f"{outcome.module}: {outcome.made - len(changes)} of {outcome.made} die", flush=True)
    made = sum(each.made for each in outcomes)
    if not made:
        sys.exit(f'tools/mutants.py: no module ends in "{only}".')
    percent = 100 * (1 - sum(len(each.survivors) for each in outcomes) / made)
    print("\n| module | mutants | alive |", "|---|---|---|", sep="\n")
    print(*(f"| {each.module} | {each.made} | {len(each.survivors)} |" for each in outcomes), sep="\n")
    if new:
        print("\nAlive, and not in tests/mutants.md:", *new, sep="\n")
    print(f"\n{percent:.1f} % of {made} die, in {(time.monotonic() - began) / 60:.0f} minutes.")
    return 0 if percent >= WANTED_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
