"""A site's cases, found, checked, split and prepared: what training reads."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.cache import PreparedCase, prepare
from segviz_trainer.data.layouts import Case, find_cases
from segviz_trainer.data.left_out import left_out
from segviz_trainer.data.splits import split_cases
from segviz_trainer.process.site import Site

log = logging.getLogger(__name__)

Report = Callable[[int, int, str], None]
"""Told cases done, cases in all, and the case's id."""


@dataclass(frozen=True)
class SiteData:
    """Prepared cases; label values are 1 + the index in the site's organs."""

    train: tuple[PreparedCase, ...]
    validation: tuple[PreparedCase, ...]
    """Chooses the round."""
    test: tuple[PreparedCase, ...]
    """Held back: reported, never chosen by."""


def load_training_data(site: Site, federation: FederationSpec, report: Report) -> SiteData:
    """Find, split and prepare every case of a training site.

    Raises:
        BadDataSet, BadCases: what cannot be used, all of it named.
        Refusal: a part of the split would be empty.
    """
    parts = split_cases(find_all(site), site.spec.split, federation.seed)
    prepared = _prepare(site, (*parts.train, *parts.validation, *parts.test), federation, report)
    by_id = {(case.data_set, case.id): case for case in prepared}

    def kept(part: tuple[Case, ...]) -> tuple[PreparedCase, ...]:
        return tuple(by_id[case.data_set, case.id] for case in part if (case.data_set, case.id) in by_id)

    data = SiteData(kept(parts.train), kept(parts.validation), kept(parts.test))
    for name, share, cases in (
        ("train", site.spec.split.train, data.train),
        ("validation", site.spec.split.validation, data.validation),
        ("test", site.spec.split.test, data.test),
    ):
        if share and not cases:
            raise Refusal(
                f"spec.split.{name}: every case of this part was skipped. Fix the cases listed above."
            )
    return data


def load_evaluation_data(site: Site, federation: FederationSpec, report: Report) -> tuple[PreparedCase, ...]:
    """Find and prepare every case of an external set."""
    return _prepare(site, find_all(site), federation, report)


def find_all(site: Site) -> tuple[Case, ...]:
    for data_set in site.spec.data_sets:
        for told in left_out(site.data_root, data_set):
            log.warning("%s: %s", data_set.name, told)
    return tuple(
        chain.from_iterable(
            find_cases(site.data_root, data_set, f"spec.dataSets[{index}]")
            for index, data_set in enumerate(site.spec.data_sets)
        )
    )


def _prepare(
    site: Site, cases: tuple[Case, ...], federation: FederationSpec, report: Report
) -> tuple[PreparedCase, ...]:
    prepared = prepare(
        cases,
        federation.preprocessing,
        site.organs,
        site.spec.max_case_mebibytes,
        site.state / "cache",
        site.spec.on_bad_case,
        report,
    )
    for bad in prepared.skipped:
        log.warning("left out: %s", bad)
    for warning in sorted({warning for case in prepared.cases for warning in case.warnings}):
        warned = [case.id for case in prepared.cases if warning in case.warnings]
        log.warning("%d of %d cases, %s first: %s", len(warned), len(cases), warned[0], warning)
    return prepared.cases
