"""The aggregator's loop: look, decide, commit one thing, look again."""

from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from segviz_aggregator import reasons
from segviz_aggregator.agreement import agree
from segviz_aggregator.algorithms.by_name import optimizer_of
from segviz_aggregator.algorithms.server_optimizer import Files, ServerOptimizer, write_stepped
from segviz_aggregator.collect import Collector
from segviz_aggregator.commit import commit_closing, commit_failure, commit_final, commit_round
from segviz_aggregator.heartbeat import Heartbeat
from segviz_aggregator.merge import find_sources, merge_round, metadata_of
from segviz_aggregator.models import GlobalModel, GlobalModels
from segviz_aggregator.participants import gather
from segviz_aggregator.pulse import Pulse
from segviz_aggregator.scores import read_scores
from segviz_aggregator.scratch import Blob, Scratch
from segviz_aggregator.selection import choose_final
from segviz_aggregator.situation import Observer, Situation
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.closing import Fail, RoundRecords, Wait, close_round, needed_sites
from segviz_exchange.contract.codec import MAX_HEADER_BYTES, TensorFile, open_tensors
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Closing, Control, Failure, Participant, Round
from segviz_exchange.contract.sharing import PARAMETER
from segviz_exchange.process import logs
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop, Stopped
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.store import MAX_BLOB_BYTES, Corrupt, NotFound, Store, is_there


class Step(Enum):
    MOVED = auto()
    """Something was committed: look again at once."""
    WAITING = auto()
    """Nothing to do until somebody else writes."""
    DONE = auto()
    """The final record exists."""


def run(aggregator: "Aggregator", stop: Stop, waiting: Waiting) -> Exit:
    """Step until training is over or somebody asks to stop.

    A stop may interrupt a step anywhere: every commit is one create, so it is as if the process were killed.
    """
    try:
        while not stop.requested:
            with stop.interrupting():
                step = aggregator.step()
            if step is Step.DONE:
                return Exit.DONE
            if step is Step.WAITING:
                waiting.pause(aggregator.due_seconds)
            else:
                waiting.moved()
    except Stopped:
        pass
    return Exit.STOPPED


class Aggregator:
    """Keeps nothing that it could not read again: whatever exists is adopted, whoever wrote it."""

    def __init__(self, store: Store, scratch: Path, pulse: Pulse | None = None) -> None:
        self._store = store
        self._scratch = Scratch(scratch)
        self._observer = Observer(store)
        self._ledger = self._observer.ledger
        self._models = GlobalModels(store, self._scratch)
        self._collector = Collector(store, self._scratch, self._observer, self._models)
        self._heartbeat = Heartbeat(store)
        self._pulse = pulse or Pulse("", "", CollectorRegistry())
        self.due_seconds: float | None = None
        """After a step: when the clock alone makes another one worth while."""

    def step(self) -> Step:
        situation = self._observer.observe()
        self.due_seconds = None if situation is None else situation.due_seconds
        if situation is None:
            return self._wait(Phase.PREPARING, None, "waiting for the first control record")
        logs.enter_round(min(situation.round, situation.control.spec.rounds))
        if situation.final is not None:
            self._heartbeat.beat(Phase.DONE, situation.final.round, "training is over")
            return Step.DONE
        if situation.control.suspend:
            return self._wait(Phase.WAITING, situation.round, "suspended")
        if situation.previous is None and situation.control.spec.model.start is Start.PRETRAINED:
            message = "waiting for the initial model: segviz init --from MODEL"
            return self._wait(Phase.WAITING, 0, message)
        if situation.previous and situation.previous.round >= situation.control.spec.rounds:
            return self._finish(situation, situation.previous)
        closing = self._ledger.find(keys.closing(situation.round), Closing)
        failure = self._ledger.find(keys.failure(situation.round, situation.control.number), Failure)
        # A failure holds until there is a newer control; only one about blobs can follow a closing.
        if failure and (closing is None or failure.reason in (reasons.BLOB_MISSING, reasons.BLOB_CORRUPT)):
            return self._wait(Phase.FAILED, situation.round, f"{failure.reason}: {failure.message}")
        return self._close(situation) if closing is None else self._merge(situation, closing)

    def _close(self, situation: Situation) -> Step:
        try:
            records = self._collector.collect(situation)
        except (Corrupt, NotFound) as error:
            return self._fail(situation, error)
        match close_round(situation.control, records, situation.now):
            case Wait(missing):
                message = _waiting_message(situation, missing, records)
                return self._wait(Phase.WAITING, situation.round, message)
            case Fail(reason, message):
                failure = Failure(situation.round, situation.control.number, reason, message)
                commit_failure(self._ledger, failure)
            case Closing() as closing:
                commit_closing(self._ledger, closing)
        return Step.MOVED

    def _merge(self, situation: Situation, closing: Closing) -> Step:
        sites = ", ".join(participant.site for participant in closing.participants)
        self._heartbeat.beat(Phase.MERGING, closing.round, f"merging {sites}")
        try:
            if situation.previous is None:
                record = self._commit_initial(situation, closing)
            else:
                record = self._commit_merged(situation, closing, situation.previous)
        except (Corrupt, NotFound) as error:
            return self._fail(situation, error)
        self._scratch.keep_only({digest for digest in (record.blob, record.state) if digest})
        return Step.MOVED

    def _commit_initial(self, situation: Situation, closing: Closing) -> Round:
        """Round 0 is the model that most participants offered, byte for byte."""
        control = self._observer.control(closing.control)
        closing, _ = self._gather(situation, closing, MAX_BLOB_BYTES)
        chosen = agree(
            [self._collector.offer(each.site, each.blob, control) for each in closing.participants]
        )
        model = Blob(chosen.chosen.file.path, chosen.chosen.digest)
        return commit_round(self._store, self._ledger, closing, model)

    def _commit_merged(self, situation: Situation, closing: Closing, previous: Round) -> Round:
        model = self._models.load(previous)
        control = self._observer.control(closing.control)
        largest = MAX_HEADER_BYTES + model.schema.extended(control).size_bytes
        closing, files = self._gather(situation, closing, largest, model)
        size_bytes = sum(file.path.stat().st_size for file in files.values())
        with self._pulse.merging(size_bytes):
            digest = merge_round(control, closing, model.schema, files, model.file, self._scratch.merging)
        if optimizer := optimizer_of(control.spec.algorithm):
            return self._commit_stepped(optimizer, control, closing, previous, files)
        return commit_round(
            self._store, self._ledger, closing, self._scratch.adopt(self._scratch.merging, digest)
        )

    def _commit_stepped(
        self,
        optimizer: ServerOptimizer,
        control: Control,
        closing: Closing,
        previous: Round,
        files: Mapping[str, TensorFile],
    ) -> Round:
        """The merged model is a direction, the server optimiser's step the result."""
        model = self._models.load(previous)
        schema = model.schema.extended(control)
        sources = find_sources(control, closing, schema, files, model.file)
        digest, state = write_stepped(
            optimizer,
            Files(model.file, open_tensors(self._scratch.merging), self._state(previous)),
            parameters=[name for name, group in schema.groups.items() if group.kind == PARAMETER],
            moved=[name for name, present in sources.items() if present],
            metadata=metadata_of(closing),
            target=self._scratch.stepping,
            state_target=self._scratch.state,
        )
        return commit_round(
            self._store,
            self._ledger,
            closing,
            self._scratch.adopt(self._scratch.stepping, digest),
            self._scratch.adopt(self._scratch.state, state),
        )

    def _state(self, previous: Round) -> TensorFile | None:
        if previous.state is None:
            return None
        key = keys.global_blob(previous.state)
        return self._scratch.fetch(self._store, key, previous.state, previous.state_bytes)

    def _gather(
        self, situation: Situation, closing: Closing, largest: int, model: GlobalModel | None = None
    ) -> tuple[Closing, Mapping[str, TensorFile]]:
        def fetch(each: Participant) -> TensorFile:
            key = keys.site_blob(each.site, each.blob)
            update = self._scratch.fetch(self._store, key, each.blob, largest)
            return self._scratch.whole(update, model.file, model.digest) if model else update

        control = self._observer.control(closing.control)
        return gather(closing, needed_sites(control, situation.joined), self._ledger, fetch)

    def _fail(self, situation: Situation, error: Corrupt | NotFound) -> Step:
        """A blob that a committed record pins is gone or changed. Nobody but its writer can bring it back."""
        reason = reasons.BLOB_CORRUPT if isinstance(error, Corrupt) else reasons.BLOB_MISSING
        message = f"{error}. Put the object back, then edit the federation so that it is tried again."
        commit_failure(self._ledger, Failure(situation.round, situation.control.number, reason, message))
        return Step.MOVED

    def _finish(self, situation: Situation, last: Round) -> Step:
        """After the last round: all members' scores, or from the deadline on a quorum's, then the choice."""
        # Who joined too late for the last round scores nothing; nor is its organ asked for.
        members = {
            alias: member for alias, member in situation.control.members.items() if alias in situation.joined
        }
        control = replace(situation.control, members=members)
        missing = tuple(
            alias for alias in control.active if not self._ledger.holds(keys.scores(alias, last.round))
        )
        needed = min(control.quorum, len(control.active))
        enough = situation.overdue and len(control.active) - len(missing) >= needed
        if missing and not enough:
            message = f"scores: {_still_missing(missing, situation)}"
            return self._wait(Phase.SCORING, last.round, message)
        scores = read_scores(self._ledger, control.active, range(last.round + 1))
        commit_final(self._ledger, choose_final(control, scores, last, self._gone(last)))
        return Step.MOVED

    def _gone(self, last: Round) -> frozenset[int]:
        """Rounds whose models the retention has deleted; a listing alone may merely be late."""
        rounds = (self._ledger.read(keys.round_record(number), Round) for number in range(last.round + 1))
        blobs = {each.round: keys.global_blob(each.blob) for each in rounds}
        return frozenset(
            round_
            for round_, key in blobs.items()
            if not self._ledger.holds(key) and not is_there(self._store, key)
        )

    def _wait(self, phase: Phase, round_: int | None, message: str) -> Step:
        self._heartbeat.beat(phase, round_, message)
        return Step.WAITING


def _waiting_message(situation: Situation, missing: tuple[str, ...], records: RoundRecords) -> str:
    rejected = [
        f"{alias}'s attempt {last.attempt} was rejected ({last.reason}: {last.message})"
        for alias in missing
        for last in records.sites[alias].rejections[-1:]
    ]
    return "; ".join([f"round {situation.round}: {_still_missing(missing, situation)}", *rejected])


def _still_missing(missing: tuple[str, ...], situation: Situation) -> str:
    if situation.deadline is None:
        until = "no deadline"
    elif situation.overdue:
        until = f"past the deadline of {situation.deadline:%Y-%m-%d %H:%M:%S} UTC, and minSites not reached"
    else:
        until = f"until {situation.deadline:%Y-%m-%d %H:%M:%S} UTC"
    return f"waiting for {', '.join(missing)}; {until}"
