from pathlib import Path

import pytest

from segviz_exchange.contract.kept_scores import KeptCase, KeptScores, read_csv, to_csv
from segviz_exchange.contract.records import CaseScore, Variant
from segviz_exchange.process.errors import Refusal

KEPT = KeptScores(
    row="FedBN",
    fold=2,
    code="c0de",
    manifest="5eed",
    training_seconds=611.25,
    cases=(
        KeptCase(Variant.BASE, "", "basel", CaseScore("ab12", "liver", 1 / 3, 4.25, 0.75, False)),
        KeptCase(Variant.TUNED, "btcv", "btcv", CaseScore("cd34", "liver", 0.0, 200.5, 0.0, True)),
        KeptCase(Variant.TUNED, "btcv", "btcv", CaseScore("ef56", "spleen", 0.5)),
    ),
)


def test_scores_come_back_digit_by_digit(tmp_path: Path) -> None:
    path = tmp_path / "fedbn-fold-2.csv"
    path.write_bytes(to_csv(KEPT))
    assert read_csv(path) == KEPT


def test_the_file_says_what_made_it_in_every_line() -> None:
    lines = to_csv(KEPT).decode().splitlines()
    assert lines[0].startswith("row,fold,code,manifest,trainingSeconds,variant,table,site,organ,case,dice")
    assert all(line.startswith("FedBN,2,c0de,5eed,611.25,") for line in lines[1:])


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("FedBN,2", "FedBN,3"),
        ("5eed", "other"),
        ("0.75", "much"),
        ("0.75", "7.5"),
        ("dice", "score"),
        ("base", "bas"),
        ("liver", "../liver"),
    ],
)
def test_a_file_that_was_edited_is_refused_with_its_name(was: str, becomes: str, tmp_path: Path) -> None:
    """Two rows in one file, a number that no score has: nothing of it is believed."""
    path = tmp_path / "fedbn-fold-2.csv"
    path.write_text(to_csv(KEPT).decode().replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(Refusal, match=r"fedbn-fold-2\.csv: is not the scores of one row and fold"):
        read_csv(path)


def test_a_file_without_cases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("", encoding="utf-8")
    with pytest.raises(Refusal, match="Put the file back as it was written, or remove it"):
        read_csv(path)
