"""Scores of a finished row and fold of a study, kept as a CSV: they outlive the folder that they come from.

No image data are in it, and cases have the study's salted ids. Written by the runner (operator), read by the
report (trainer).
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.records import CaseScore, Variant
from segviz_exchange.process.errors import Refusal

FIELDS = (
    *("row", "fold", "code", "manifest", "trainingSeconds"),
    *("variant", "table", "site", "organ", "case", "dice", "hd95", "nsd", "missed"),
)


@dataclass(frozen=True)
class KeptCase:
    variant: Variant
    table: str
    """An external set's alias; empty for a site's own test cases."""
    site: str
    score: CaseScore


@dataclass(frozen=True)
class KeptScores:
    row: str
    fold: int
    code: str
    """Digest of the code that trained and scored."""
    manifest: str
    """Digest of the row's federation and sites."""
    training_seconds: float
    """Of all sites and rounds."""
    cases: tuple[KeptCase, ...]


def to_csv(kept: KeptScores) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    common = (kept.row, kept.fold, kept.code, kept.manifest, kept.training_seconds)
    for case in kept.cases:
        score = case.score
        numbers = ("" if each is None else each for each in (score.dice, score.hd95, score.nsd))
        missed = "" if score.missed is None else int(score.missed)
        place = (case.variant.value, case.table, case.site, score.organ, score.case)
        writer.writerow((*common, *place, *numbers, missed))
    return text.getvalue().encode()


def read_csv(path: Path) -> KeptScores:
    """Raises Refusal for a file that is not one of ours."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        heads = {tuple(row[field] for field in FIELDS[:5]) for row in rows}
        (head,) = heads
        row, fold, code, manifest, seconds = head
        return KeptScores(row, int(fold), code, manifest, float(seconds), tuple(_cases(rows)))
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise Refusal(
            f"{path}: is not the scores of one row and fold of a study. Put the file back as it was written, "
            "or remove it to run them again."
        ) from error


def _cases(rows: list[dict[str, str]]) -> Iterator[KeptCase]:
    for row in rows:
        hd95, nsd = (float(row[name]) if row[name] else None for name in ("hd95", "nsd"))
        missed = None if row["missed"] == "" else row["missed"] == "1"
        said = CaseScore(row["case"], row["organ"], float(row["dice"]), hd95, nsd, missed)
        # Built as a record is read: no number that none could hold.
        score = msgspec.convert(msgspec.to_builtins(said), CaseScore)
        yield KeptCase(Variant(row["variant"]), row["table"], row["site"], score)
