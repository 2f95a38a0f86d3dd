"""The six known faults of the published code (methods.md), each a test here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from builders.rig import Rig, small_federation
from segviz_exchange.contract import keys, spec
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Control, Final, Outcome, RoundScores
from segviz_exchange.contract.sharing import COUNTER, NORM, REPRESENTATION
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import build, groups_of
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.participation.outcome import fine_tune
from segviz_trainer.training.epochs import EpochRun

TWO = {"basel": ("liver",), "bern": ("spleen",)}
THREE = {**TWO, "chur": ("pancreas",)}


def test_fault_1_after_a_round_shared_tensors_are_equal_and_moved_heads_and_bn_differ(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, small_federation(rounds=1), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    states = {alias: site.me.model.net.state_dict() for alias, site in sites.items()}
    groups = groups_of(sites["basel"].me.model.net)
    before = rig.global_tensors(0)
    for name, group in groups.items():
        if group.block == REPRESENTATION and group.kind not in (NORM, COUNTER):
            assert torch.equal(states["basel"][name], states["bern"][name]), name
            assert not np.array_equal(states["basel"][name].numpy(), before[name]), name
        if group.block == REPRESENTATION and name.endswith("running_mean"):
            assert not torch.equal(states["basel"][name], states["bern"][name]), name
    assert "heads.liver.0.0.conv.weight" in states["basel"]
    assert "heads.liver.0.0.conv.weight" not in states["bern"]


def test_fault_2_the_last_epoch_has_the_minimum_of_the_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    original = EpochRun._epoch

    def spy(run: EpochRun, start: object, *others: object) -> object:
        rates.append(run.rate(start.position.epoch))
        return original(run, start, *others)

    monkeypatch.setattr(EpochRun, "_epoch", spy)
    rig = Rig(tmp_path, small_federation(rounds=2, local_epochs=2), {"basel": ("liver",)})
    rig.control()
    rig.run()
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4) == min(rates)
    assert rates == sorted(rates, reverse=True)


def test_fault_3_every_site_starts_from_the_one_round_0_record(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=0)
    initial = rig.global_tensors(0)
    for site in sites.values():
        with torch.no_grad():
            for parameter in site.me.model.net.parameters():
                parameter.fill_(123.0)  # whatever it had is to go
        site._enter(rig.round(0), read(rig.store, keys.control(1), Control))
        for name, value in site.me.model.net.state_dict().items():
            assert np.array_equal(value.numpy(), initial[name]), name


def test_fault_4_every_case_of_a_mixed_batch_is_masked_by_its_own_organ_list() -> None:
    net = build(small_federation(), ("liver", "spleen")).eval()
    image = torch.rand(2, 1, 16, 16, 16)
    label = torch.zeros(2, 1, 16, 16, 16, dtype=torch.uint8)
    label[0, :, :4], label[1, :, 8:] = 1, 2
    loss = PerOrganHead(("liver", "spleen"))
    mixed = loss(net, Batch(image, label, (frozenset({0}), frozenset({1}))))
    apart = [
        loss(net, Batch(image[:1], label[:1], (frozenset({0}),))),
        loss(net, Batch(image[1:], label[1:], (frozenset({1}),))),
    ]
    assert mixed.item() == pytest.approx(sum(part.item() for part in apart) / 2, abs=1e-6)


def test_fault_5_fine_tuning_leaves_the_representation_as_it_was(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(fine_tuning=spec.FineTuning(2, 1e-2)), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    final = read(rig.store, keys.FINAL, Final)
    me = sites["basel"].me
    me.model.load_final(rig.round(final.round))
    net = me.model.net
    kept = {name: value.clone() for name, value in net.representation.state_dict().items()}
    head = {name: value.clone() for name, value in net.heads.state_dict().items()}
    fine_tune(me, rig.spec, spec.FineTuning(2, 1e-2), final.round)
    assert all(torch.equal(kept[name], value) for name, value in net.representation.state_dict().items())
    assert any(not torch.equal(head[name], value) for name, value in net.heads.state_dict().items())
    rig.conclude(sites)
    assert set(read(rig.store, keys.outcome("basel"), Outcome).variants) == {"base", "tuned"}


def test_fault_6_no_test_case_chooses_the_round(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    rig.run()
    for alias, data in rig.data.items():
        parts = [{case.id for case in part} for part in (data.train, data.validation, data.test)]
        assert all(parts)
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
        scores = read(rig.store, keys.scores(alias, 2), RoundScores)
        assert sum(dice.cases for dice in scores.dice.values()) == len(data.validation)
