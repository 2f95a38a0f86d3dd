"""A run's page: where each number comes from, and that nothing in a record can break it."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from builders import reported
from builders.rig import small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import AlgorithmName, HeadLoss, Objective, Spacing
from segviz_exchange.contract.records import Control, Dice, Member, Outcome, VariantOutcome
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.report import method, page
from segviz_trainer.report.command import results_of
from segviz_trainer.report.rounds import rounds_of
from segviz_trainer.report.taking_part import events_of, sites_of
from segviz_trainer.study.run import RunRecords, read_run


def read(store: FolderStore) -> RunRecords:
    run = read_run(store)
    assert run is not None
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunRecords:
    return read(reported.write(tmp_path))


def rendered(run: RunRecords) -> str:
    return page.render(run, *results_of("default/abdomen", run), with_images=False)


class _Cells(HTMLParser):
    """The text of every row, its cells apart; and of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._in_cell:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())


def parsed(html: str) -> _Cells:
    cells = _Cells()
    cells.feed(html)
    return cells


def said(html: str) -> str:
    return " ".join(" ".join(parsed(html).words).split())


def test_scores_are_those_of_the_outcomes(run: RunRecords) -> None:
    rows = parsed(rendered(run)).rows
    # Three cases over both owners: 0.8, 0.6, 0.5 and, fine-tuned, 0.9, 0.65, 0.4.
    assert ["FedBN", "0.633 (0.125)"] in rows
    assert ["FedBN+FT", "0.650 (0.204)"] in rows
    assert ["btcv", "FedBN", "liver", "1", "2"] in rows, "a miss"
    assert ["chur", "liver", "FedBN+FT", "0.400 (0.000)", "2.00", "0.500", "0", "1"] in rows


def test_cases_are_listed_worst_first_with_both_variants(run: RunRecords) -> None:
    rows = [row for row in parsed(rendered(run)).rows if row[:1] == ["In-federation"] and len(row) == 10]
    assert rows[0] == [
        *("In-federation", "chur", "liver", "c0c0ffee"),
        *("0.500", "5.00", "0.250", "0.400", "6.00", "0.200"),
    ]
    assert [row[7] for row in rows] == ["0.400", "0.650", "0.900"]


def test_a_round_has_its_time_and_each_sites_part_of_it(run: RunRecords) -> None:
    zero, one, two = rounds_of(run)
    assert (zero.seconds, one.seconds, two.seconds) == (None, 50.0, 70.0)
    assert (one.model_bytes, one.uploaded_bytes) == (2000, 4 * 1500)
    assert (one.sites["bern"].attempts, one.sites["bern"].merged) == (3, False)
    assert two.left_out == {"bern": "its owner withdrew consent"}
    assert [row.chosen for row in (zero, one, two)] == [False, False, True]


def test_a_sites_row_sums_what_it_did(run: RunRecords) -> None:
    basel, bern, chur = sites_of(run, rounds_of(run))
    assert (basel.rounds, bern.rounds, chur.rounds) == ((1, 2), (), (2,))
    assert (basel.training_seconds, bern.training_seconds) == (12.0, 16.0)
    assert (basel.uploaded_bytes, basel.downloaded_bytes, chur.downloaded_bytes) == (4500, 6000, 2000)
    assert (basel.cases, basel.released, bern.released) == (7, ("base", "tuned"), ())
    assert bern.state == "left out: its owner withdrew consent"


def test_what_happened_is_told_in_its_order(run: RunRecords) -> None:
    told = [(event.round, event.site, event.what) for event in events_of(run)]
    assert told == [
        (None, "", "the federation began"),
        *((1, "bern", f"update refused, attempt {attempt}: NotFinite") for attempt in (1, 2, 3)),
        (1, "bern", "not in the round: Rejected"),
        (None, "bern", "was left out"),
        (None, "chur", "joined"),
        (2, "bern", "not in the round: Excluded"),
        (2, "", "training ended"),
    ]


def test_the_page_says_method_data_and_limits(run: RunRecords) -> None:
    html = said(rendered(run))
    assert method.ALGORITHMS[AlgorithmName.FED_BN] in html
    assert method.OBJECTIVES[Objective.PER_ORGAN_HEAD] in html
    assert "the heads of liver, which several sites own, were averaged over their owners" in html
    assert "basel : 7 training cases with liver." in html
    assert "not a medical device" in html
    assert reported.DIGEST in html
    assert "2 of 2 round taken" in html


SPACINGS = {
    Spacing.NATIVE: "spacing as each image has it,",
    Spacing.RESAMPLED: "spacing 1.5 × 1.5 × 2.0 mm,",
}


@pytest.mark.parametrize(("spacing", "words"), SPACINGS.items())
def test_the_page_says_what_images_are_resampled_to(run: RunRecords, spacing: Spacing, words: str) -> None:
    number, made = max(run.controls.items())
    spec = made.said.spec
    spec = replace(spec, preprocessing=replace(spec.preprocessing, spacing=spacing))
    controls = {**run.controls, number: dataclasses.replace(made, said=replace(made.said, spec=spec))}
    assert words in said(rendered(dataclasses.replace(run, controls=controls)))


@pytest.mark.parametrize("name", AlgorithmName)
def test_every_algorithm_is_told_in_two_sentences(name: AlgorithmName) -> None:
    assert method.ALGORITHMS[name].count(". ") == 1


@pytest.mark.parametrize("name", Objective)
def test_every_objective_is_told_in_two_sentences(name: Objective) -> None:
    assert method.OBJECTIVES[name].count(". ") == 1


def test_the_page_asks_nobody_for_anything(run: RunRecords) -> None:
    html = rendered(run)
    cells = parsed(html)
    assert all(target.startswith("#") for target in cells.targets)
    assert not {"script", "link", "iframe", "object", "embed", "base", "img"} & cells.tags
    assert "://" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_nothing_in_a_record_can_break_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    case = reported.variant("liver", 0.5, prefix=evil)
    dice = VariantOutcome({"liver": Dice(0.5, 0.0, 1)}, (), None)
    no_organ = VariantOutcome({evil: Dice(0.5, 0.0, 1)}, (), None)
    members = {**reported.LATER, "bern": Member(("spleen",), evil)}
    store = reported.write(
        tmp_path,
        **{
            keys.outcome("basel"): (150, Outcome("basel", 2, {"base": case, "tuned": dice})),
            keys.outcome("chur"): (150, Outcome("chur", 2, {"base": no_organ, "tuned": no_organ})),
            keys.control(2): (70, Control(2, reported.spec(), members, suspend=False)),
        },
    )
    html = rendered(read(store))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 2
    assert "Not counted, because it is no record: sites/chur/outcome.json" in said(html)


def test_a_record_that_is_none_is_named_and_costs_nobody_else(tmp_path: Path) -> None:
    store = reported.write(tmp_path)
    (tmp_path / keys.outcome("chur")).write_bytes(b"{")
    run = read(store)
    html = said(rendered(run))
    assert "Not counted, because it is no record: sites/chur/outcome.json" in html
    assert "Without results of chur: they have not come." in html
    assert "0.775 (0.125)" in html, "basel alone"


def test_a_site_that_keeps_its_case_rows_is_in_the_means_and_in_no_list(tmp_path: Path) -> None:
    kept = {name: replace(reported.variant("liver", 0.8, 0.6), cases=()) for name in ("base", "tuned")}
    alone = replace(reported.variant("liver", 0.5), cases=())
    store = reported.write(
        tmp_path,
        **{
            keys.outcome("basel"): (150, Outcome("basel", 2, kept)),
            keys.outcome("chur"): (150, Outcome("chur", 2, {"base": alone, "tuned": alone})),
        },
    )
    html = said(rendered(read(store)))
    assert "basel, chur let out only summaries" in html
    assert "c0ffee" not in html.replace("x0c0ffee", "").replace("x1c0ffee", "")
    assert "0.633" in html


def test_a_run_without_external_sets_and_fine_tuning_has_a_page_too(tmp_path: Path) -> None:
    store = reported.write(tmp_path)
    for key in (keys.external_scores("btcv"), keys.exported("tuned"), keys.exported("base")):
        (tmp_path / key).unlink()
    html = said(rendered(read(store)))
    assert "There is no exported model." in html
    assert "Without results of btcv" in html


def test_there_is_no_run_before_its_final_model(tmp_path: Path) -> None:
    store = reported.write(tmp_path)
    (tmp_path / keys.FINAL).unlink()
    assert read_run(store) is None


def test_a_head_that_is_trained_by_more_than_dice_is_told_so() -> None:
    spec = small_federation()
    both = replace(spec, training=replace(spec.training, loss=HeadLoss.DICE_CROSS_ENTROPY))
    assert "trained by the Dice loss of that organ" in method.objective_of(spec)
    assert "trained by the Dice loss and the cross-entropy of that organ" in method.objective_of(both)
