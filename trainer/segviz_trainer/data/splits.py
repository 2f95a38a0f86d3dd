"""Which case trains, which chooses the model, and which is only ever reported."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from segviz_exchange.contract.site_spec import Split
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.layouts import Case


@dataclass(frozen=True)
class Parts:
    """A site's cases; every case lies in exactly one part, each part sorted by data set and id."""

    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def split_cases(cases: Sequence[Case], split: Split, seed: int) -> Parts:
    """Split each data set by `split`'s percentages, so that every part holds cases of every data set.

    A function of the seed, the data sets' names and the case ids alone: the order of `cases` is irrelevant.

    Raises:
        Refusal: a data set has fewer cases than `split` has parts.
    """
    parts: tuple[list[Case], list[Case], list[Case]] = ([], [], [])
    for data_set in sorted({case.data_set for case in cases}):
        # Ranked by digest instead of shuffled: no dependence on a generator's version.
        ranked = sorted(
            (case for case in cases if case.data_set == data_set), key=lambda case: _rank(seed, case)
        )
        counts = _counts(data_set, len(ranked), (split.train, split.validation, split.test))
        start = 0
        for part, count in zip(parts, counts, strict=True):
            part += sorted(ranked[start : start + count], key=lambda case: case.id)
            start += count
    train, validation, test = map(tuple, parts)
    return Parts(train, validation, test)


def _rank(seed: int, case: Case) -> bytes:
    return hashlib.sha256("\0".join(("split", str(seed), case.data_set, case.id)).encode()).digest()


def _counts(data_set: str, cases: int, shares: tuple[int, int, int]) -> list[int]:
    """Cases per part, by largest remainder; a part with a share gets at least one."""
    wanted = sum(share > 0 for share in shares)
    if cases < wanted:
        raise Refusal(
            f"spec.split: data set {data_set!r} has {cases} case(s) for {wanted} parts. "
            "Add cases, or set a part's share to 0."
        )
    counts = [cases * share // 100 for share in shares]
    by_remainder = sorted(range(3), key=lambda part: -(cases * shares[part] % 100))
    for part in by_remainder[: cases - sum(counts)]:
        counts[part] += 1
    for part, share in enumerate(shares):
        if share > 0 and counts[part] == 0:
            counts[counts.index(max(counts))] -= 1
            counts[part] = 1
    return counts
