"""What watching costs: a scrape of the operator with many federations, and metrics in a training loop."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from prometheus_client import CollectorRegistry, generate_latest

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "unit")]

from builders.federations import ORGANS, build_control  # type: ignore[import-not-found]  # noqa: E402
from builders.snapshots import NOON, snapshot  # type: ignore[import-not-found]  # noqa: E402
from builders.synthetic import update_of  # type: ignore[import-not-found]  # noqa: E402
from segviz_exchange.contract.progress import Phase, Progress  # noqa: E402
from segviz_exchange.contract.records import Closing, Dice, Participant, RoundScores  # noqa: E402
from segviz_operator.progress.facts import Delivery  # noqa: E402
from segviz_operator.progress.status import build_status  # noqa: E402
from segviz_operator.watch.metrics import OperatorMetrics  # noqa: E402
from segviz_operator.watch.samples import Watched  # noqa: E402
from segviz_trainer.process.pulse import Pulse, PulseCollector  # noqa: E402

ROUNDS, SCRAPES, STEPS = 50, 10, 200_000
DIGEST = "0" * 64


def a_federation() -> Watched:
    """Three sites in the last of fifty rounds, each round with its updates, scores and closing."""
    sites = tuple(ORGANS)
    scores = tuple(
        RoundScores(site, number, {ORGANS[site][0]: Dice(0.5, 0.1, 9)})
        for site in sites
        for number in range(ROUNDS)
    )
    beats = {
        site: Progress(1, Phase.TRAINING, round=ROUNDS, epoch=0, step=1, steps=9, loss=0.1) for site in sites
    }
    control = build_control(sites=sites, rounds=ROUNDS)
    since = {number: 600.0 * (ROUNDS - number) for number in range(ROUNDS)}
    records = snapshot(control, rounds=since, scores=scores, progress=beats)
    committed = records.committed
    parts = tuple(Participant(site, 1, DIGEST, 1) for site in sites)
    records = replace(
        records,
        closings={number: Closing(number, 1, parts, ()) for number in range(ROUNDS)},
        closed=committed,
        sites={
            alias: replace(
                facts,
                deliveries={
                    number: Delivery(update_of(alias, number, seconds=500.0), committed[number])
                    for number in range(ROUNDS)
                },
            )
            for alias, facts in records.sites.items()
        },
    )
    return Watched("radiology", "federation", build_status("federation", records), records, NOON)


def timed(calls: Iterable[Callable[[], object]]) -> list[float]:
    seconds = []
    for call in calls:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--federations", type=int, default=1000)
    count = parser.parse_args().federations
    one, metrics = a_federation(), OperatorMetrics()
    named = [replace(one, name=f"f{number}") for number in range(count)]
    shown = timed(partial(metrics.federations.show, each) for each in named)
    page = metrics.page().body
    scrapes = timed([metrics.page] * SCRAPES)
    series = page.count(b"\n") - 2 * page.count(b"# HELP")
    print(f"{count} federations: {series} series, {len(page) / 1e6:.1f} MB")
    print(f"  a scrape: median {median(scrapes):.3f} s, longest {max(scrapes):.3f} s")
    print(f"  taking up one federation's newest values: {1e3 * median(shown):.2f} ms")

    pulse = Pulse()
    (bare,) = timed([lambda: sum(1 for _ in range(STEPS))])
    began = time.perf_counter()
    for _ in pulse.timed(range(STEPS)):
        pulse.samples += 8
    step = (time.perf_counter() - began - bare) / STEPS
    registry = CollectorRegistry()
    PulseCollector(pulse, ("radiology", "abdomen", "basel"), registry)
    answers = timed([partial(generate_latest, registry)] * SCRAPES)
    print(f"a training step: {1e6 * step:.2f} us; a scrape of the trainer: {1e3 * median(answers):.2f} ms")
    print(f"  of a step of 0.1 s, scraped every 15 s: {100 * (step / 0.1 + median(answers) / 15):.4f} %")


if __name__ == "__main__":
    main()
