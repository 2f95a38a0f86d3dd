"""The numbers a federation ends with, for people, spreadsheets and programs alike."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import msgspec

from segviz_exchange.contract.records import Dice, Spent, Variant, VariantOutcome
from segviz_exchange.process.words import for_spreadsheet
from segviz_operator.progress.facts import FederationRecords

TEST = "Test"
"""The part of a training site's own cases that nothing was chosen by."""
EXTERNAL = "External"


class Cell(msgspec.Struct, frozen=True, rename="camel"):
    """One cell of a table: a method's Dice for one organ at one site."""

    table: str
    site: str
    method: str
    organ: str
    mean: float
    sd: float
    """Divided by n (ddof 0)."""
    cases: int
    hd95: float | None = None
    """Millimetres; as the rest, none where a site reports Dice alone."""
    hd95_sd: float | None = None
    nsd: float | None = None
    nsd_sd: float | None = None
    misses: int | None = None
    """Cases in which nothing of an organ that is there was found."""


class Model(msgspec.Struct, frozen=True, rename="camel"):
    variant: str
    sha256: str
    size_bytes: int
    organs: tuple[str, ...]
    folder: str | None
    """None where the folder is not on this machine."""


class Report(msgspec.Struct, frozen=True, rename="camel"):
    federation: str
    algorithm: str
    round: int
    rounds: int
    methods: tuple[str, ...]
    owners: dict[str, tuple[str, ...]]
    """Sites by organ, left out ones included."""
    external: dict[str, tuple[str, ...]]
    """Organs scored by external site."""
    left_out: dict[str, str]
    """Why, by alias."""
    rows: tuple[Cell, ...]
    models: tuple[Model, ...]
    privacy: dict[str, Spent] = {}
    """What the noisy updates of a site have spent, by alias."""

    def cell(self, table: str, site: str, method: str, organ: str) -> Cell | None:
        cells = {(row.table, row.site, row.method, row.organ): row for row in self.rows}
        return cells.get((table, site, method, organ))


def build_report(name: str, records: FederationRecords, models: Path | None) -> Report | None:
    """None until there is a final model."""
    control, final = records.control, records.final
    if control is None or final is None:
        return None
    algorithm = str(control.spec.algorithm.name)
    rows = []
    for alias, facts in sorted(records.sites.items()):
        if alias in control.members and facts.outcome:
            rows += _rows(TEST, alias, algorithm, facts.outcome.variants)
        if facts.external:
            rows += _rows(EXTERNAL, alias, algorithm, facts.external.variants)
    members = sorted(control.members.items())
    return Report(
        federation=name,
        algorithm=algorithm,
        round=final.round,
        rounds=control.spec.rounds,
        methods=tuple(algorithm + variant.suffix for variant in Variant)[
            : 1 if control.spec.fine_tuning is None else None
        ],
        owners={
            organ: tuple(alias for alias, member in members if organ in member.organs)
            for organ in control.organs
        },
        external={
            alias: tuple(sorted({row.organ for row in rows if (row.table, row.site) == (EXTERNAL, alias)}))
            for alias, facts in sorted(records.sites.items())
            if facts.external
        },
        left_out={alias: member.excluded for alias, member in members if member.excluded},
        rows=tuple(rows),
        models=tuple(_models(records, models)),
        privacy={alias: facts.spent for alias, facts in sorted(records.sites.items()) if facts.spent},
    )


def as_csv(report: Report) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Cell.__struct_encode_fields__)
    # repr keeps every digit, so that the file holds the same numbers as the JSON.
    writer.writerows(map(for_spreadsheet, msgspec.structs.astuple(row)) for row in report.rows)
    return text.getvalue()


def _rows(table: str, site: str, algorithm: str, variants: Mapping[Variant, VariantOutcome]) -> list[Cell]:
    def row(variant: Variant, organ: str, dice: Dice) -> Cell:
        method, surface = algorithm + variant.suffix, variants[variant].surface.get(organ)
        row = Cell(table, site, method, organ, dice.mean, dice.sd, dice.cases)
        if surface is None:
            return row
        return msgspec.structs.replace(row, **msgspec.structs.asdict(surface))

    return [
        row(variant, organ, dice)
        for variant in Variant
        if variant in variants
        for organ, dice in sorted(variants[variant].test.items())
    ]


def _models(records: FederationRecords, models: Path | None) -> list[Model]:
    found = []
    for variant, record in records.exports.items():
        folder = None if models is None else models / variant
        here = folder is not None and folder.is_dir()
        found.append(
            Model(variant, record.blob, record.size_bytes, record.organs, str(folder) if here else None)
        )
    return found
