"""What "mean Dice" and "best round" mean, on every surface."""

import io

import pytest
from rich.console import Console

from builders.federations import build_control
from builders.snapshots import NOON, snapshot
from builders.watched import scored
from segviz_exchange.contract.records import Final, RoundScores
from segviz_operator.cluster.status.federation_status import Picture, build_federation_status
from segviz_operator.progress.dice import Best, best_so_far, dice_by_round, organ_dice_by_round
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.status import build_status
from segviz_operator.terminal.screen import render_status
from segviz_operator.watch.metrics import FederationMetrics
from segviz_operator.watch.page import StatusPage
from segviz_operator.watch.samples import Watched


def both(round_: int, dice: float) -> tuple[RoundScores, ...]:
    return scored("basel", round_, liver=dice), scored("bern", round_, spleen=dice)


def records_of(*dice: float, final: Final | None = None, **changes: object) -> FederationRecords:
    """A round for each of these mean Dice, from round 0 on."""
    scores = [each for round_, value in enumerate(dice) for each in both(round_, value)]
    rounds = {round_: 100.0 - round_ for round_ in range(len(dice))}
    return snapshot(build_control(**changes), rounds=rounds, scores=tuple(scores), final=final)


def test_the_best_round_has_the_highest_mean_dice_over_organs() -> None:
    assert best_so_far(records_of(0.1, 0.5, 0.75, 0.25)) == Best(2, 0.75)


def test_of_equal_rounds_the_earliest_is_the_best() -> None:
    assert best_so_far(records_of(0.1, 0.5, 0.5)) == Best(1, 0.5)


def test_round_0_is_never_the_best() -> None:
    assert best_so_far(records_of(0.9, 0.5)) == Best(1, 0.5)


def test_before_the_first_trained_round_there_is_no_best() -> None:
    assert best_so_far(records_of(0.9)) is None


def test_a_score_of_a_round_that_is_not_committed_does_not_count() -> None:
    records = snapshot(build_control(), rounds={0: 9, 1: 5}, scores=(*both(1, 0.5), *both(2, 0.9)))
    assert best_so_far(records) == Best(1, 0.5)


def test_a_round_without_one_of_its_organs_is_not_the_best() -> None:
    records = snapshot(
        build_control(), rounds={0: 9, 1: 5, 2: 1}, scores=(*both(1, 0.5), scored("basel", 2, liver=0.9))
    )
    assert best_so_far(records) == Best(1, 0.5)


def test_once_the_final_model_is_chosen_its_round_is_the_best_whatever_is_scored_later() -> None:
    final = Final(1, 1, {"liver": 0.5, "spleen": 0.25})
    assert best_so_far(records_of(0.1, 0.5, 0.9, final=final)) == Best(1, 0.375)


def test_a_final_model_that_was_chosen_without_scores_has_no_mean_dice() -> None:
    assert best_so_far(snapshot(build_control(), rounds={0: 9, 1: 5}, final=Final(1, 1, {}))) == Best(1, None)


def test_where_the_last_round_is_chosen_another_one_may_be_the_best() -> None:
    records = records_of(0.1, 0.9, 0.5, final=Final(2, 1, {"liver": 0.5}), selection="Last")
    status = build_status("abdomen", records)
    assert (status.best_round, status.mean_dice, status.final_round) == (1, 0.9, 2)


def test_organs_that_nobody_is_asked_for_do_not_count() -> None:
    records = snapshot(
        build_control(sites=("basel",)), rounds={0: 5}, scores=(scored("basel", 0, liver=0.5, gold=0.9),)
    )
    assert organ_dice_by_round(records) == {0: {"liver": 0.5}}


def test_a_round_is_scored_once_every_active_site_has_scored_it() -> None:
    records = snapshot(
        build_control(excluded={"geneva": "gone"}, sites=("basel", "bern", "geneva")),
        rounds={0: 9, 1: 5},
        scores=(*both(0, 0.5), scored("basel", 1, liver=0.9)),
    )
    assert dice_by_round(records) == {0: 0.5}


def test_every_surface_says_the_same_of_the_best_and_of_the_newest_round() -> None:
    records = records_of(0.1, 0.75, 0.5)
    status = build_status("abdomen", records)
    assert (status.best_round, status.mean_dice, status.newest_mean_dice) == (1, 0.75, 0.5)

    kubectl = build_federation_status(Picture(1, None, NOON, records=records, summary=status), {})
    assert (kubectl["bestRound"], kubectl["meanDice"]) == (1, "0.7500")

    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_status(status))
    assert "mean Dice: 0.75 (best round: 1), newest scored round 0.50" in console.file.getvalue()

    watched = Watched("radiology", "abdomen", status, records, NOON)
    metrics = FederationMetrics()
    metrics.show(watched)
    for name, value in (("best_round", 1.0), ("dice_ratio", 0.75), ("newest_dice_ratio", 0.5)):
        line = f'segviz_federation_{name}{{federation_namespace="radiology",federation="abdomen"}} {value}'
        assert line in metrics.text().decode()

    page = StatusPage(lambda: (watched,))({}).body.decode()
    assert "mean Dice <b>0.750</b> (best round: 1)" in page
    assert "newest scored round <b>0.500</b>" in page


@pytest.mark.parametrize("final", [None, Final(2, 1, {})])
def test_the_page_names_the_final_model_once_it_is_chosen(final: Final | None) -> None:
    records = records_of(0.1, 0.75, 0.5, final=final)
    watched = Watched("radiology", "abdomen", build_status("abdomen", records), records, NOON)
    page = StatusPage(lambda: (watched,))({}).body.decode()
    assert ("final model: round <b>2</b>" in page) is (final is not None)
