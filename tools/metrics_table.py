"""Write docs/reference/metrics.md from the metrics that the code declares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from segviz_aggregator import pulse as aggregator
from segviz_exchange.process.measures import Measure
from segviz_exchange.stores import measured
from segviz_operator.watch import measures as operator
from segviz_trainer.process import pulse as trainer

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"
HEAD = """# Metrics

Written by `python tools/metrics_table.py` from the code; a test compares them.

What the operator (or `segviz run --metrics-port`) says of federations follows from their records and status.
So it is the same after a restart, stays when a trainer has ended, and goes when the federation is deleted.
Trainers and aggregators serve what is only known while they work. An age is `time()` minus a timestamp. The
label `federation_namespace` is not called `namespace`, because a scrape adds that one for the Pod.

A phase has a series with the value 1 for as long as it lasts. Organs, sites and reasons come from the
manifests and from the code's own constants, so the number of series is bounded. Of rounds, only the newest
three are kept.
"""


def build_page() -> str:
    parts = [
        _table("Of each federation, from the operator", operator.FEDERATION_MEASURES),
        _table("Of the operator itself", operator.OPERATOR_MEASURES),
        _table("Of a trainer, while it works", trainer.MEASURES),
        _table("Of an aggregator, while it works", aggregator.MEASURES),
        _table("Of the store, from whoever uses it", measured.MEASURES),
    ]
    return "\n".join([HEAD, *parts])


def all_measures() -> tuple[Measure, ...]:
    return (
        *operator.FEDERATION_MEASURES,
        *operator.OPERATOR_MEASURES,
        *trainer.MEASURES,
        *aggregator.MEASURES,
        *measured.MEASURES,
    )


def _table(title: str, measures: Sequence[Measure]) -> str:
    rows = [f"| `{each.name}` | {each.kind} | {_labels(each)} | {_help(each)} |" for each in measures]
    return "\n".join(
        [f"## {title}\n", "| metric | kind | labels | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _labels(measure: Measure) -> str:
    return ", ".join(measure.labels)


def _help(measure: Measure) -> str:
    if not measure.buckets:
        return measure.help
    return f"{measure.help} Buckets up to {', '.join(f'{bound:g}' for bound in measure.buckets)}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say whether the page is as the code is")
    page = build_page()
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != page)
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
