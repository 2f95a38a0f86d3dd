"""`make simulate`: as many schedules as time allows. A seed that breaks a rule is told, and repeats it."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from multiprocessing import get_context

import click

from simulator.schedule import draw
from simulator.simulation import Result, simulate

_TELLS_EVERY_SECONDS = 30.0


@click.command()
@click.option("--seed", type=int, help="One schedule alone, with what happened in it.")
@click.option("--minutes", default=30.0, show_default=True, help="How long to go on.")
@click.option("--most", type=int, help="How many schedules at most.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--workers", default=os.cpu_count() or 1, help="Processes; a core each, if left out.")
def main(seed: int | None, minutes: float, most: int | None, first: int, workers: int) -> None:
    """Simulate whole federations, each under what its seed says."""
    if seed is not None:
        _show(simulate(draw(seed)))
        return
    began, until = time.monotonic(), time.monotonic() + 60.0 * minutes
    faults: Counter[str] = Counter()
    made: dict[bytes, tuple[int, tuple[str, ...]]] = {}
    done, calls, told = 0, 0, began
    with get_context("spawn").Pool(workers) as pool:
        for result in pool.imap_unordered(_one, _seeds(first, most, until), chunksize=4):
            done, calls = done + 1, calls + result.calls
            faults.update(result.faults)
            if wrong := (*result.wrong, *differs(result, made)):
                pool.terminate()
                _fail(result, wrong)
            if time.monotonic() - told > _TELLS_EVERY_SECONDS:
                told = time.monotonic()
                click.echo(f"{done} schedules, {done / (told - began):.1f} a second")
    seconds = time.monotonic() - began
    click.echo(f"{done} schedules in {seconds:.0f} s, {done / seconds:.1f} a second on {workers} cores;")
    click.echo(f"{calls} calls to the store; {len(made)} kinds of federation, alike in every schedule.")
    for kind, times in sorted(faults.items()):
        click.echo(f"{kind:>24} {times:8d}")


def differs(result: Result, made: dict[bytes, tuple[int, tuple[str, ...]]]) -> Iterator[str]:
    """Where every site was in every round, the same manifests and data give the same bytes."""
    if not result.whole:
        return
    seed, before = made.setdefault(result.schedule.world, (result.schedule.seed, result.made))
    if before != result.made:
        yield f"other models and releases than with seed {seed}, where the same sites were in the same rounds"


def _seeds(first: int, most: int | None, until: float) -> Iterator[int]:
    for seed in count(first):
        if time.monotonic() > until or (most is not None and seed >= first + most):
            return
        yield seed


def _one(seed: int) -> Result:
    return simulate(draw(seed))


def _show(result: Result) -> None:
    click.echo("\n".join(result.last))
    click.echo(f"{result.calls} calls, {result.seconds:.0f} s of its clock; faults: {dict(result.faults)}")
    click.echo(f"history {result.digest[:16]}")
    if result.wrong:
        _fail(result, result.wrong)


def _fail(result: Result, wrong: tuple[str, ...] | list[str]) -> None:
    click.echo("\n".join(result.last[-20:]), err=True)
    for each in wrong:
        click.echo(f"seed {result.schedule.seed}: {each}", err=True)
    click.echo(f"Repeat it with: make simulate SEED={result.schedule.seed}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
