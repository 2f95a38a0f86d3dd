"""A study as federations: one a row, each with the sites, splits and seed of the one they start from."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.spec import StudyRowSpec
from segviz_operator.manifests.acceptance import accept
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.manifest import Federation, Manifests, Site, Study, parse
from segviz_operator.manifests.problem import InvalidManifest, Problem, nearest, show
from segviz_operator.study.folds import folds_of


@dataclass(frozen=True)
class Row:
    """A method of the study and the federation that runs it."""

    name: str
    accepted: Accepted
    sites: tuple[Site, ...] = ()
    """All of the study's, with the cases of the fold."""
    fold: int | None = None
    """From 1; none where the study has no folds."""

    @property
    def title(self) -> str:
        return self.name if self.fold is None else f"{self.name}, fold {self.fold}"

    @property
    def folder(self) -> str:
        """Below the study's rows/."""
        return folder_of(self.name) if self.fold is None else f"{folder_of(self.name)}/fold-{self.fold}"

    @property
    def epochs(self) -> int:
        """All that a site trains; what the row's time goes with."""
        spec = self.accepted.federation.spec
        return spec.rounds * spec.local_epochs + (spec.fine_tuning.epochs if spec.fine_tuning else 0)


def folder_of(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def expand(study: Study, manifests: Manifests, common: Mapping[str, Any] | None = None) -> tuple[Row, ...]:
    """The rows in the manifest's order, fold by fold. `common` is merged into every row's spec, last.

    Raises:
        InvalidManifest: with every problem of every row.
    """
    problems = [*_name_problems(study)]
    try:
        base = _base(study, manifests.federations)
    except InvalidManifest as error:
        raise InvalidManifest((*problems, *error.problems)) from error
    rows = []
    for fold, sites in folds_of(study, manifests.sites):
        for index, row in enumerate(study.spec.rows):
            try:
                accepted = _accepted(study, base, sites, row, index, common or {})
                rows.append(Row(row.name, accepted, sites, fold))
            except InvalidManifest as error:
                problems += [each for each in error.problems if each not in problems]
    problems += _under_test_problems(study, rows)
    if problems:
        raise InvalidManifest(problems)
    return tuple(rows)


def merge_patch(value: Any, patch: Any) -> Any:  # noqa: ANN401 - JSON
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), each)
    return merged


def _base(study: Study, federations: Iterable[Federation]) -> Federation:
    mine = {each.name: each for each in federations if each.namespace == study.namespace}
    name = study.spec.federation
    if name is None and len(mine) == 1:
        return next(iter(mine.values()))
    if name in mine:
        return mine[name]
    listed = ", ".join(mine) or "none"
    if name is None:
        what, fix = "is missing", f"Name the SegVizFederation that the rows start from (found: {listed})."
    else:
        guess = nearest(name, mine)
        what = "refers to a SegVizFederation that does not exist"
        fix = f"Did you mean {guess}?" if guess else f"Found: {listed}."
    raise InvalidManifest([Problem(str(study), "spec.federation", what, fix, show(name) if name else "")])


def _accepted(
    study: Study,
    base: Federation,
    sites: Iterable[Site],
    row: StudyRowSpec,
    index: int,
    common: Mapping[str, Any],
) -> Accepted:
    patch = merge_patch(row.spec, dict(common))
    raw = {**base.raw, "spec": merge_patch(base.raw["spec"], {**row.spec, **common})}
    try:
        federation = parse(raw, str(base))
        assert isinstance(federation, Federation), "its kind is the base's"
        return accept(federation, sites)
    except InvalidManifest as error:
        raise InvalidManifest(
            replace(each, subject=str(study), path=f"spec.rows[{index}].{each.path}")
            if _is_changed(each, patch) and each.subject == str(base)
            else each
            for each in error.problems
        ) from error


def _is_changed(problem: Problem, patch: Mapping[str, Any]) -> bool:
    """Whether the row, and not the federation that it starts from, said what is wrong."""
    field = re.match(r"spec\.(\w+)", problem.path)
    return field is not None and field[1] in patch


def _name_problems(study: Study) -> Iterator[Problem]:
    names = [row.name for row in study.spec.rows]
    folders: dict[str, int] = {}
    for index, name in enumerate(names):
        first = folders.setdefault(folder_of(name), index)
        if first != index:
            what = f"is too similar to spec.rows[{first}].name: both would use the folder {folder_of(name)}"
            yield Problem(str(study), f"spec.rows[{index}].name", what, "Give it another name.", show(name))
    for field in ("baseline", "central"):
        named = getattr(study.spec, field)
        if named is not None and named not in names:
            guess = nearest(named, names)
            fix = f"Did you mean {guess}?" if guess else f"The rows are {', '.join(names)}."
            yield Problem(str(study), f"spec.{field}", "is not a row of this study", fix, show(named))


def _under_test_problems(study: Study, rows: Sequence[Row]) -> Iterator[Problem]:
    """What is under test is federated: rows that share nothing are what it is held against."""
    named = study.spec.under_test
    if named is None:
        return
    methods = {
        method: row
        for row in rows
        for method in (row.name, *([f"{row.name}+FT"] if row.accepted.federation.spec.fine_tuning else []))
    }
    path, shown = "spec.underTest", show(named)
    if named not in methods:
        if named.removesuffix("+FT") in {row.name for row in study.spec.rows} - set(methods):
            return  # the row has a mistake of its own, which is told
        guess = nearest(named, list(methods))
        fix = f"Did you mean {guess}?" if guess else f"The methods are {', '.join(methods)}."
        yield Problem(str(study), path, "is not a method of this study", fix, shown)
        return
    algorithm = methods[named].accepted.federation.spec.algorithm.name
    if algorithm.is_central or algorithm is AlgorithmName.LOCAL:
        fix = "Name the federated row that is to be judged."
        yield Problem(
            str(study), path, f"is a row with algorithm {algorithm}, which shares nothing", fix, shown
        )
