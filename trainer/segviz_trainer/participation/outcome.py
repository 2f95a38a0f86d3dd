"""What a site makes of the final model: fine-tuned heads, test scores, and what it releases."""

from dataclasses import replace

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import Release
from segviz_exchange.contract.ledger import commit, find
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Control, Final, Outcome, Round, Variant, VariantOutcome
from segviz_exchange.contract.sharing import COUNTER, REPRESENTATION
from segviz_exchange.contract.spec import (
    FederationSpec,
    FineTuning,
)
from segviz_exchange.contract.training_spec import Schedule
from segviz_trainer.network.tensors import to_arrays
from segviz_trainer.participation.participant import Participant
from segviz_trainer.process.heartbeat import check_lease
from segviz_trainer.scoring.case_ids import may_leave, salt_of
from segviz_trainer.scoring.cases import score, summary, surface_summary
from segviz_trainer.training.checkpoint import Checkpoints
from segviz_trainer.training.epochs import EpochRun
from segviz_trainer.training.learning_rate import learning_rate


def conclude(me: Participant, final: Final) -> None:
    """Test the final model; if asked, tune the heads and test again; release; say so in one record."""
    if find(me.store, keys.outcome(me.alias), Outcome) is None:
        control = me.ledger.read(keys.control(final.control), Control)
        variants = _variants(me, control.spec, final.round) if me.alias in control.active else {}
        check_lease(me.store, me.alias, me.heartbeat.lease)
        commit(me.store, keys.outcome(me.alias), Outcome(me.alias, final.round, variants))
        me.model.forget()
    me.heartbeat.beat(Phase.DONE, round=final.round)


def _variants(me: Participant, spec: FederationSpec, round_: int) -> dict[Variant, VariantOutcome]:
    with me.stop.interrupting():
        private = me.model.load_final(me.ledger.read(keys.round_record(round_), Round))
        variants = {Variant.BASE: _variant(me, spec, private)}
    if spec.fine_tuning is not None:
        fine_tune(me, spec, spec.fine_tuning, round_)
        heads = {name for name, group in me.model.groups.items() if group.block != REPRESENTATION}
        with me.stop.interrupting():
            variants[Variant.TUNED] = _variant(me, spec, private | heads)
    return variants


def fine_tune(me: Participant, spec: FederationSpec, tuning: FineTuning, round_: int) -> None:
    """Train the heads of round `round_` with the representation frozen, its BatchNorm in eval mode (+FT)."""
    me.model.net.representation.requires_grad_(False)
    # The warm-up is for weights from a seed.
    falling = Schedule(spec.training.schedule.name)
    run = EpochRun(
        trainer=me.build_trainer(spec, round_),
        cases=me.data.train,
        checkpoints=Checkpoints(me.site.state / "fine-tuning"),
        round=spec.rounds + 1,  # random numbers that no round has used
        attempt=1,
        epochs=tuning.epochs,
        rate=lambda epoch: learning_rate(tuning.learning_rate, epoch, tuning.epochs, falling),
        moments={},
        stop=me.stop,
        on_progress=lambda at, epoch: me.report(Phase.FINE_TUNING, replace(at, round=round_), epoch),
    )
    run.finish()


def _variant(me: Participant, spec: FederationSpec, own: set[str]) -> VariantOutcome:
    cases = me.data.test
    rows = score(
        me.final_predictor,
        cases,
        me.site.organs,
        me.site.organs,
        lambda done: me.heartbeat.beat(Phase.TESTING, step=done, steps=len(cases)),
        spec.evaluation.tolerance_millimetres or {},
    )
    return VariantOutcome(
        test=summary(rows),
        cases=may_leave(rows, me.site.spec.scores, salt_of(me.site)),
        release=_release(me, own),
        surface=surface_summary(rows),
    )


def _release(me: Participant, own: set[str]) -> str | None:
    """Upload what the site's policy lets out of the tensors that are its own."""
    policy, groups = me.site.spec.release, me.model.groups
    if policy is Release.NONE:
        return None
    names = {name for name in own if groups[name].kind != COUNTER}
    if policy is Release.HEADS:
        names = {name for name in names if groups[name].block != REPRESENTATION}
    state = me.model.net.state_dict()
    path = me.site.state / "release.safetensors"
    digest = codec.save(path, to_arrays({name: state[name] for name in names}))
    me.store.upload(keys.release_blob(me.alias, digest), path)
    path.unlink()
    return digest
