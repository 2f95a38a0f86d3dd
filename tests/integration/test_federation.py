"""The real trainer and aggregator together, in one process: what a federation must never get wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rig import Patience, Rig, algorithm, small_federation

from segviz_exchange import keys, spec
from segviz_exchange.records import (
    Closing,
    Outcome,
    Rejection,
    RoundScores,
    Update,
    find,
    newest_round,
    read,
)
from segviz_exchange.sharing import COUNTER, NORM, REPRESENTATION
from segviz_exchange.spec import AlgorithmName, Objective
from segviz_exchange.stopping import Stopped
from segviz_exchange.store import Unavailable
from segviz_trainer.epochs import EpochRun
from segviz_trainer.exported import assemble
from segviz_trainer.heartbeat import Superseded
from segviz_trainer.model import build, groups_of
from segviz_trainer.participate import RoundLoop

TWO = {"basel": ("liver",), "bern": ("spleen",)}
THREE = {**TWO, "chur": ("pancreas",)}


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# --- one site, many sites ---------------------------------------------------------------------------


def test_a_federation_of_one_is_local_training_bit_for_bit(tmp_path: Path) -> None:
    releases = []
    for name in (AlgorithmName.LOCAL, AlgorithmName.FED_AVG):
        rig = Rig(tmp_path / name, small_federation(algorithm=algorithm(name)), {"basel": ("liver",)})
        rig.control()
        rig.run()
        released = rig.released("basel")
        releases.append(released if name is AlgorithmName.LOCAL else {**released, **rig.global_tensors(2)})
    trained = {name: value for name, value in releases[1].items() if not name.endswith("tracked")}
    assert equal({name: value for name, value in releases[0].items()}, trained)


def test_the_order_in_which_sites_arrive_changes_nothing(tmp_path: Path) -> None:
    digests = []
    for order in (["basel", "bern", "chur"], ["chur", "bern", "basel"]):
        rig = Rig(tmp_path / order[0], small_federation(), THREE)
        rig.control()
        sites = {alias: rig.site(alias) for alias in order}
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
        digests.append(rig.digests())
    assert digests[0] == digests[1]


def test_fedprox_stays_closer_to_the_global_model_than_fedavg(tmp_path: Path) -> None:
    distances = {}
    for mu in (None, 10.0):
        name = AlgorithmName.FED_AVG if mu is None else AlgorithmName.FED_PROX
        rig = Rig(tmp_path / name, small_federation(algorithm=algorithm(name, mu), rounds=1), TWO)
        rig.control()
        rig.run()
        start, update = rig.global_tensors(0), rig.update_tensors("basel", 1)
        weights = [key for key in update if key.endswith("conv.weight")]
        distances[mu] = sum(float(((update[key] - start[key]) ** 2).sum()) for key in weights)
    assert distances[10.0] < distances[None] / 2


# --- the six known faults of the published code (methods.md) ------------------------------------------


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

    def spy(run: EpochRun, start: object) -> object:
        rates.append(run.rate(start.position.epoch))
        return original(run, start)

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
        site._enter(newest_round(rig.store))
        for name, value in site.me.model.net.state_dict().items():
            assert np.array_equal(value.numpy(), initial[name]), name


def test_fault_4_every_case_of_a_mixed_batch_is_masked_by_its_own_organ_list() -> None:
    from segviz_trainer.objective import PerOrganHead
    from segviz_trainer.sampling import Batch

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
    final = rig.run()
    site = rig.site("basel")
    site.me.model.load_final(rig.round(final.round))
    kept = {name: v.clone() for name, v in site.me.model.net.representation.state_dict().items()}
    head = {name: v.clone() for name, v in site.me.model.net.heads.state_dict().items()}
    from segviz_trainer.outcome import fine_tune

    fine_tune(site.me, spec.FineTuning(2, 1e-2))
    after = site.me.model.net
    assert all(torch.equal(kept[name], v) for name, v in after.representation.state_dict().items())
    assert any(not torch.equal(head[name], v) for name, v in after.heads.state_dict().items())
    outcome = read(rig.store, keys.outcome("basel"), Outcome)
    assert set(outcome.variants) == {"base", "tuned"}
    del sites


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


# --- heads and BN stay where they belong ----------------------------------------------------------------


@pytest.mark.parametrize("name", [AlgorithmName.FED_AVG, AlgorithmName.FED_BN, AlgorithmName.LOCAL])
def test_a_head_never_leaves_its_site_before_release(tmp_path: Path, name: AlgorithmName) -> None:
    rig = Rig(tmp_path, small_federation(algorithm=algorithm(name)), TWO)
    rig.control()
    rig.run()
    for alias in TWO:
        for number in (1, 2):
            assert not [tensor for tensor in rig.update_tensors(alias, number) if "heads." in tensor]
    assert not [tensor for tensor in rig.global_tensors(2) if "heads." in tensor]


def test_a_head_with_two_owners_is_averaged_over_them(tmp_path: Path) -> None:
    organs = {"basel": ("liver",), "bern": ("liver",), "chur": ("spleen",)}
    rig = Rig(tmp_path, small_federation(rounds=1, algorithm=algorithm(AlgorithmName.FED_AVG)), organs)
    rig.control()
    rig.run()
    name = "heads.liver.0.0.conv.weight"
    mean = (
        rig.update_tensors("basel", 1)[name].astype(np.float64) + rig.update_tensors("bern", 1)[name]
    ) / 2
    assert np.array_equal(rig.global_tensors(1)[name], mean.astype(np.float32))
    assert name not in rig.update_tensors("chur", 1)


def test_under_fedbn_no_tensor_of_a_batchnorm_is_uploaded_and_every_other_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=1), TWO)
    rig.control()
    rig.run()
    groups = groups_of(build(rig.spec, ("liver",)))
    expected = {
        name for name, group in groups.items() if group.block == REPRESENTATION and group.kind == "parameter"
    }
    assert set(rig.update_tensors("basel", 1)) == expected
    assert any(group.kind == NORM for group in groups.values())


def test_the_marginal_head_is_shared_and_predicts_every_organ(tmp_path: Path) -> None:
    rig = Rig(
        tmp_path,
        small_federation(objective=Objective.MARGINAL, algorithm=algorithm(AlgorithmName.FED_AVG)),
        TWO,
    )
    rig.control()
    rig.run()
    assert [name for name in rig.global_tensors(2) if name.startswith("heads._all.")]


# --- dying and coming back --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    rig = Rig(tmp_path_factory.mktemp("undisturbed"), small_federation(fine_tuning=spec.FineTuning(1, 1e-2)), TWO)
    rig.control()
    rig.run()
    return rig.digests()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 11, 13])
def test_a_site_stopped_at_any_step_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: dict[str, str], steps: int
) -> None:
    rig = Rig(tmp_path, small_federation(fine_tuning=spec.FineTuning(1, 1e-2)), TWO)
    rig.control()
    sites = {"basel": rig.site("basel", stop=Patience(steps)), "bern": rig.site("bern")}
    with pytest.raises(Stopped):
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    assert rig.run() is not None
    assert rig.digests() == undisturbed


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


class DyingStore:
    """Dies before or after the n-th write."""

    WRITES = ("create", "put", "upload")

    def __init__(self, store: object, writes: int, after: bool) -> None:
        self._store, self._left, self._after = store, writes, after

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        if name not in self.WRITES:
            return method

        def write(*args: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            result = method(*args)
            if self._left == 0:
                raise Killed
            return result

        return write


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("writes", range(1, 16))
def test_a_site_killed_at_any_write_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: dict[str, str], writes: int, after: bool
) -> None:
    rig = Rig(tmp_path, small_federation(fine_tuning=spec.FineTuning(1, 1e-2)), TWO)
    rig.control()
    dying = DyingStore(rig.store, writes, after)
    with pytest.raises(Killed):
        sites = {"basel": rig.site("basel", store=dying), "bern": rig.site("bern")}
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    rig.run()
    assert rig.digests() == undisturbed


def test_a_put_whose_answer_was_lost_is_a_success(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    class Forgetful(DyingStore):
        def __getattr__(self, name: str) -> object:
            method = getattr(self._store, name)
            if name != "create":
                return method

            def create(key: str, data: bytes) -> None:
                method(key, data)
                if "/updates/" in key:
                    raise Unavailable("the answer was lost")

            return create

    from segviz_exchange.patient import PatientStore

    rig = Rig(tmp_path, small_federation(fine_tuning=spec.FineTuning(1, 1e-2)), TWO)
    rig.control()
    patient = PatientStore(Forgetful(rig.store, 0, False), patience_seconds=30)
    sites = {"basel": rig.site("basel", store=patient), "bern": rig.site("bern")}
    rig.drive(sites, rig.aggregator())
    rig.conclude(sites)
    assert rig.digests() == undisturbed


def test_of_two_incarnations_of_a_site_the_older_one_stops(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(), {"basel": ("liver",)})
    rig.control()
    older = rig.site("basel")
    newer = rig.site("basel")
    with pytest.raises(Superseded):
        older.take_turn()
    assert newer.take_turn()


def test_a_site_that_lost_its_state_goes_on_from_the_global_model(tmp_path: Path) -> None:
    rig = Rig(tmp_path, small_federation(rounds=4), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=2)
    for file in (tmp_path / "state" / "basel" / "checkpoints").iterdir():
        file.unlink()
    sites["basel"] = rig.site("basel")
    rig.drive(sites, rig.aggregator())
    assert rig.conclude(sites).round >= 1
    closing = read(rig.store, keys.closing(4), Closing)
    assert [participant.site for participant in closing.participants] == ["basel", "bern"]


# --- joining, leaving, being late, being wrong ---------------------------------------------------------------


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
    sites = {alias: rig.site(alias) for alias in TWO}
    poisoned = []
    original = RoundLoop._upload

    def poison(loop: RoundLoop, round_: int, attempt: int, state: dict, metadata: dict, **rest: object) -> None:
        if loop.me.alias == "basel" and round_ == 1 and attempt == 1:
            name = sorted(state)[0]
            state = {**state, name: torch.full_like(state[name], torch.nan)}
            poisoned.append(name)
        original(loop, round_, attempt, state, metadata, **rest)

    monkeypatch.setattr(RoundLoop, "_upload", poison)
    rig.drive(sites, rig.aggregator())
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
    from segviz_trainer import participate

    original = participate.summary
    rig = Rig(tmp_path, small_federation(rounds=3), TWO)
    rig.control()

    def flattering(rows: object) -> object:
        worse_each_round = original(rows)
        latest = newest_round(rig.store).round
        from segviz_exchange.records import Dice

        return {organ: Dice(1.0 - latest / 10, 0.0, d.cases) for organ, d in worse_each_round.items()}

    monkeypatch.setattr(participate, "summary", flattering)
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    kept = {
        alias: {name: v.clone() for name, v in site.me.model.net.state_dict().items()}
        for alias, site in sites.items()
    }
    final = rig.conclude(sites)
    assert final.round == 1
    released = rig.released("basel")
    bn = next(name for name in released if name.endswith("running_mean"))
    assert not np.array_equal(released[bn], kept["basel"][bn].numpy())  # round 3's is not released
    private = sites["basel"].me.model._private_file(1)
    from segviz_exchange import codec

    assert np.array_equal(codec.open_tensors(private).read(bn), released[bn])


def test_what_a_site_does_not_release_stays(tmp_path: Path) -> None:
    from segviz_trainer import outcome

    rig = Rig(tmp_path, small_federation(), TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator())
    import dataclasses

    import msgspec

    me = sites["basel"].me
    me.site = dataclasses.replace(
        me.site, spec=msgspec.structs.replace(me.site.spec, release=spec.Release.HEADS)
    )
    rig.conclude(sites)
    assert all(name.startswith("heads.liver.") for name in rig.released("basel"))
    assert any(name.startswith("representation.") for name in rig.released("bern"))
    assert outcome.BASE in read(rig.store, keys.outcome("basel"), Outcome).variants


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
