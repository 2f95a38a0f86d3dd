"""What `segviz evaluate` says of the cases: a table, and files."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segviz_exchange.process.words import for_spreadsheet

if TYPE_CHECKING:
    from segviz_exchange.contract.records import CaseScore


def print_scores(rows: Sequence["CaseScore"]) -> None:
    from rich.table import Table

    from segviz_exchange.process.console import open_console
    from segviz_trainer.scoring.cases import summary, surface_summary

    table = Table("organ", "Dice", "HD95, mm", "NSD", "misses", "cases")
    surfaces = surface_summary(rows)
    for organ, dice in summary(rows).items():
        surface = surfaces[organ]
        table.add_row(
            organ,
            f"{dice.mean:.3f} ± {dice.sd:.3f}",
            f"{surface.hd95:.1f} ± {surface.hd95_sd:.1f}",
            f"{surface.nsd:.3f} ± {surface.nsd_sd:.3f}",
            str(surface.misses),
            str(dice.cases),
        )
    open_console().print(table)


def write_csv(rows: Sequence["CaseScore"], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "organ", "dice", "hd95", "nsd", "missed"])
        cells = ((r.case, r.organ, r.dice, r.hd95, r.nsd, r.missed) for r in rows)
        writer.writerows(map(for_spreadsheet, row) for row in cells)


def write_json(rows: Sequence["CaseScore"], path: Path) -> None:
    import msgspec

    from segviz_trainer.scoring.cases import summary, surface_summary

    surfaces = surface_summary(rows)
    organs = {
        organ: msgspec.to_builtins(dice) | msgspec.to_builtins(surfaces[organ])
        for organ, dice in summary(rows).items()
    }
    path.write_text(json.dumps(organs, indent=2) + "\n", encoding="utf-8")
