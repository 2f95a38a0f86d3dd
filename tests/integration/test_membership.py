"""Sites that join, leave, are late, deliver nonsense, or keep things to themselves."""

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from builders.rig import Rig, algorithm, small_federation
from segviz_exchange.contract import choices, codec, keys, spec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.ledger import encode, find, newest_round, read
from segviz_exchange.contract.records import (
    Closing,
    Control,
    Dice,
    Exported,
    Outcome,
    Rejection,
    RoundScores,
    Update,
    Variant,
)
from segviz_exchange.contract.sharing import NORM, REPRESENTATION
from segviz_trainer.models.exported import assemble
from segviz_trainer.network.segnet import build, groups_of
from segviz_trainer.participation import rounds as participate
from segviz_trainer.training.epochs import EpochRun

TWO = {"basel": ("liver",), "bern": ("spleen",)}
THREE = {**TWO, "chur": ("pancreas",)}


def test_a_joiner_under_fedbn_estimates_its_own_statistics_first(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=4), THREE)
    rig.control("basel", "bern")
    sites = {alias: rig.site(alias) for alias in TWO}
    aggregator = rig.aggregator()
    rig.drive(sites, aggregator, until_round=2)
    rig.control("basel", "bern", "chur")
    sites["chur"] = rig.site("chur")
    rig.drive(sites, aggregator, until_round=3)
    joiner = sites["chur"]
    joiner.take_turn()
    running = [
        value
        for name, value in joiner.me.model.net.representation.state_dict().items()
        if name.endswith("running_mean")
    ]
    initial = [value for name, value in rig.global_tensors(0).items() if name.endswith("running_mean")]
    assert running
    assert any(float(np.abs(value.numpy()).sum()) > 0 for value in running)
    assert all(float(np.abs(value).sum()) == 0 for value in initial)
    rig.drive(sites, aggregator)
    closing = read(rig.store, keys.closing(4), Closing)
    assert "chur" in [participant.site for participant in closing.participants]
    rig.conclude(sites)
    assert "heads.pancreas.0.0.conv.weight" in rig.released("chur")


def test_a_late_update_changes_nothing_and_the_site_jumps_ahead(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=3), THREE)
    rig.control()
    sites = {alias: rig.site(alias) for alias in THREE}
    aggregator = rig.aggregator()
    rig.drive(sites, aggregator, until_round=1)
    # chur is asked to leave while round 2 is open, delivers nevertheless, and returns for round 3.
    rig.control("basel", "bern")
    rig.drive({alias: sites[alias] for alias in TWO}, aggregator, until_round=2)
    committed = rig.round(2)
    stale = read(rig.store, keys.update("basel", 2, 1), Update)
    rig.store.create(keys.update("chur", 2, 1), b"{}")
    assert stale is not None
    rig.control()
    sites["chur"] = rig.site("chur")
    rig.drive(sites, aggregator)
    assert rig.round(2) == committed
    assert "chur" not in rig.round(2).participants


def test_a_nan_update_is_rejected_and_the_next_attempt_closes_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    sites, aggregator = {alias: rig.site(alias) for alias in TWO}, rig.aggregator()
    rig.drive(sites, aggregator, until_round=0)
    model = sites["basel"].me.model
    honest = model.shared_state
    poisoned: list[str] = []

    def poison(control: Control) -> dict[str, torch.Tensor]:
        state = dict(honest(control))
        if not poisoned:
            poisoned.append(sorted(state)[0])
            state[poisoned[0]] = torch.full_like(state[poisoned[0]], torch.nan)
        return state

    monkeypatch.setattr(model, "shared_state", poison)
    rig.drive(sites, aggregator)
    rejection = read(rig.store, keys.rejection("basel", 1, 1), Rejection)
    assert poisoned
    assert rejection.reason == "NotFinite"
    assert poisoned[0] in rejection.message
    closing = read(rig.store, keys.closing(1), Closing)
    assert {participant.site: participant.attempt for participant in closing.participants} == {
        "basel": 2,
        "bern": 1,
    }


def test_the_best_round_need_not_be_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = participate.summary
    rig = Rig(tmp_path, small_federation(rounds=3), TWO)
    rig.control()

    def flattering(rows: object) -> object:
        worse_each_round = original(rows)
        latest = newest_round(rig.store).round
        return {organ: Dice(1.0 - latest / 10, 0.0, d.cases) for organ, d in worse_each_round.items()}

    monkeypatch.setattr(participate, "summary", flattering)
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    kept = {
        alias: {name: v.clone() for name, v in site.me.model.net.state_dict().items()}
        for alias, site in sites.items()
    }
    private = codec.open_tensors(sites["basel"].me.model._private_file(1)).read_all()
    final = rig.conclude(sites)
    assert final.round == 1
    released = rig.released("basel")
    bn = next(name for name in released if name.endswith("running_mean"))
    assert not np.array_equal(released[bn], kept["basel"][bn].numpy())  # round 3's is not released
    assert np.array_equal(private[bn], released[bn])


def test_what_a_site_does_not_release_stays(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    careful = sites["basel"]
    policy = msgspec.structs.replace(careful.me.site.spec, release=choices.Release.HEADS)
    careful.me = dataclasses.replace(careful.me, site=dataclasses.replace(careful.me.site, spec=policy))
    rig.conclude(sites)
    assert all(name.startswith("heads.liver.") for name in rig.released("basel"))
    assert any(name.startswith("representation.") for name in rig.released("bern"))
    assert Variant.BASE in read(rig.store, keys.outcome("basel"), Outcome).variants


def test_owners_of_an_organ_are_averaged_in_the_export() -> None:
    net = build(small_federation(), ("liver",))
    groups = groups_of(net)
    head = "heads.liver.0.0.conv.weight"
    bn = next(name for name, group in groups.items() if group.kind == NORM and group.block == REPRESENTATION)
    one = {head: np.float32([1.0]), bn: np.float32([2.0])}
    other = {head: np.float32([3.0]), bn: np.float32([6.0])}
    assembled = assemble("liver", [one, other], groups)
    assert assembled == {head: np.float32([2.0]), f"organ/liver/{bn}": np.float32([4.0])}


def test_no_score_is_written_twice(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=1), TWO)
    rig.control()
    rig.run()
    before = {entry.key: entry.modified for entry in rig.store.list("sites/") if "/scores/" in entry.key}
    rig.run()
    after = {entry.key: entry.modified for entry in rig.store.list("sites/") if "/scores/" in entry.key}
    assert before == after
    assert find(rig.store, keys.scores("basel", 1), RoundScores) is not None


def test_a_joiner_after_the_first_round_estimates_its_statistics_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=3), THREE)
    rig.control("basel", "bern")
    sites = {alias: rig.site(alias) for alias in TWO}
    aggregator = rig.aggregator()
    rig.drive(sites, aggregator, until_round=0)
    rig.control("basel", "bern", "chur")
    rig.drive(sites, aggregator, until_round=1)
    joiner = rig.site("chur")
    joiner._enter(rig.round(1), read(rig.store, keys.control(2), Control))
    means = [
        v for n, v in joiner.me.model.net.representation.state_dict().items() if n.endswith("running_mean")
    ]
    assert means
    assert all(float(value.abs().sum()) > 0 for value in means)


def test_the_first_model_of_a_joiner_has_the_seeded_head_again(tmp_path: Path) -> None:
    """What an attempt made of it may have been rejected."""
    rig = Rig(tmp_path, small_federation(rounds=3), THREE)
    rig.control("basel", "bern")
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=0)
    rig.control("basel", "bern", "chur")
    model = rig.site("chur").me.model
    model.load(rig.round(0), {})
    first = {name: value.clone() for name, value in model.net.state_dict().items()}
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.fill_(torch.nan)
    model.load(rig.round(0), {})
    assert all(torch.equal(value, first[name]) for name, value in model.net.state_dict().items())


def test_an_owner_that_releases_nothing_takes_nothing_away(tmp_path: Path) -> None:
    both = {"basel": ("liver",), "bern": ("liver",)}
    rig = Rig(tmp_path, small_federation(algorithm=algorithm(AlgorithmName.LOCAL)), both)
    rig.control()
    rig.run()
    outcome_ = read(rig.store, keys.outcome("bern"), Outcome)
    silent = {"base": msgspec.structs.replace(outcome_.variants["base"], release=None)}
    rig.store.put(keys.outcome("bern"), encode(msgspec.structs.replace(outcome_, variants=silent)))
    assert rig.export()["base"].organs == ("liver",)


def test_an_organ_that_joined_later_is_exported_and_scored(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=4), THREE)
    rig.control("basel", "bern")
    sites = {alias: rig.site(alias) for alias in TWO}
    aggregator = rig.aggregator()
    rig.drive(sites, aggregator, until_round=1)
    rig.control("basel", "bern", "chur")
    sites["chur"] = rig.site("chur")
    rig.drive(sites, aggregator)
    rig.conclude(sites)
    scores = rig.evaluate("chur")
    assert scores.variants["base"].test.keys() == {"pancreas"}
    exported = read(rig.store, keys.exported("base"), Exported)
    assert exported.organs == ("liver", "pancreas", "spleen")


def test_a_site_that_leaves_moves_no_channel_of_the_shared_head(tmp_path: Path) -> None:
    rig = Rig(
        tmp_path,
        small_federation(rounds=3, objective=Objective.MARGINAL, algorithm=algorithm(AlgorithmName.FED_AVG)),
        THREE,
    )
    rig.control()
    sites = {alias: rig.site(alias) for alias in THREE}
    aggregator = rig.aggregator()
    rig.drive(sites, aggregator, until_round=1)
    rig.control("bern", "chur")
    del sites["basel"]
    sites["bern"] = rig.site("bern")  # also one that starts again afterwards
    rig.drive(sites, aggregator)
    rig.conclude(sites)
    for site in sites.values():
        assert site.me.organs == ("liver", "pancreas", "spleen")
        loss = site.me.build_trainer(rig.spec, 3).loss
        assert loss.channels.annotated(frozenset({0})) == {
            1: 1 + site.me.organs.index(site.me.site.organs[0])
        }
    exported = rig.export()["base"]
    assert exported.all_organs == ("liver", "pancreas", "spleen")
    assert exported.organs == ("pancreas", "spleen")


def test_three_rejected_attempts_do_not_poison_the_rounds_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quorum = spec.Participation(10.0, min_sites=1)
    rig = Rig(tmp_path, small_federation(rounds=3, participation=quorum), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    original = EpochRun.finish

    def diverge(run: EpochRun, keep: tuple = ()) -> object:
        done = original(run, keep)
        if run.trainer.site == "basel" and run.round == 1:
            with torch.no_grad():
                for parameter in run.trainer.model.parameters():
                    parameter.fill_(torch.nan)
            nan = {
                name: torch.full_like(v, torch.nan) for name, v in done.model.items() if v.is_floating_point()
            }
            done = dataclasses.replace(done, model=done.model | nan)
            run.checkpoints.save(done)
        return done

    monkeypatch.setattr(EpochRun, "finish", diverge)
    rig.drive(sites, rig.aggregator())
    assert rig.round(1).participants == ("bern",)
    assert len(rig.store.list(keys.rejections("basel", 1))) == 3
    assert rig.round(2).participants == ("basel", "bern")
    assert rig.round(3).participants == ("basel", "bern")


def test_a_release_of_another_shape_costs_only_its_own_site(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    rig.run()
    outcome_ = read(rig.store, keys.outcome("basel"), Outcome)
    path = tmp_path / "forged.safetensors"
    digest = codec.save(path, {"heads.liver.0.0.conv.weight": np.zeros((1, 2, 3), np.float32)})
    rig.store.upload(keys.release_blob("basel", digest), path)
    forged = {"base": msgspec.structs.replace(outcome_.variants["base"], release=digest)}
    rig.store.put(keys.outcome("basel"), encode(msgspec.structs.replace(outcome_, variants=forged)))
    assert rig.export()["base"].organs == ("spleen",)
