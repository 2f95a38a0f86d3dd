"""The folds of a study: the same ranges of cases, over lists that are rotated."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from segviz_operator.manifests.manifest import Site, Study, parse
from segviz_operator.manifests.problem import InvalidManifest, Problem


def folds_of(study: Study, sites: Iterable[Site]) -> Iterator[tuple[int | None, tuple[Site, ...]]]:
    """Number and sites of each fold; one without a number where the study does not rotate.

    Raises:
        InvalidManifest: no site has a range that could move.
    """
    sites, rotate = tuple(sites), study.spec.rotate
    if rotate is None:
        yield None, sites
        return
    if not any(data_set.cases for site in sites for data_set in site.spec.data_sets):
        what = "turns ranges of cases, and no data set of the sites has one"
        fix = "Give the data sets their cases (start, stop), or leave rotate out."
        raise InvalidManifest([Problem(str(study), "spec.rotate", what, fix)])
    for fold in range(1, rotate.folds + 1):
        yield fold, tuple(_rotated(site, (fold - 1) * rotate.by) for site in sites)


def _rotated(site: Site, by: int) -> Site:
    if not by:
        return site
    raw: dict[str, Any] = copy.deepcopy(dict(site.raw))
    for data_set in raw["spec"]["dataSets"]:
        if data_set.get("cases"):
            data_set["cases"]["rotateBy"] = data_set["cases"].get("rotateBy", 0) + by
    rotated = parse(raw, str(site))
    assert isinstance(rotated, Site), "its kind is the site's"
    return rotated
