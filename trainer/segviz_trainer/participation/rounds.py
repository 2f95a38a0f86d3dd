"""Taking part in a federation: the round loop of one site, from round 0 to its outcome.

Level-triggered: each turn looks at the bucket and the site's own disk and does the next thing, so a process
that starts in the middle does what an uninterrupted one would have done.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segviz_exchange.contract import codec, keys, thin
from segviz_exchange.contract.choices import AlgorithmName, OptimizerState, Start, UpdatePrecision
from segviz_exchange.contract.closing import MAX_ATTEMPTS
from segviz_exchange.contract.ledger import newest
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Control, Final, Round, RoundScores, Spent, Update
from segviz_exchange.contract.sharing import GROUPS, encode_groups
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.waiting import Waiting
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.network.tensors import to_arrays
from segviz_trainer.participation.idle import Idle
from segviz_trainer.participation.limits import hold_to_limits
from segviz_trainer.participation.outcome import conclude
from segviz_trainer.participation.participant import Participant
from segviz_trainer.participation.thin_updates import ThinUpdates
from segviz_trainer.process.heartbeat import check_lease
from segviz_trainer.scoring.cases import score, summary
from segviz_trainer.training.checkpoint import Checkpoint, Position
from segviz_trainer.training.epochs import EpochRun, EpochSoFar
from segviz_trainer.training.learning_rate import learning_rate

log = logging.getLogger(__name__)


class Overtaken(Exception):
    """The round closed while this site was still training for it."""


class _Blob(NamedTuple):
    """A file that is about to be uploaded."""

    path: Path
    digest: str


@dataclass
class RoundLoop:
    me: Participant
    waiting: Waiting
    idle: Idle = field(default_factory=Idle)
    """Since it has delivered all that is asked of it."""
    _entered: int | None = field(default=None, init=False)
    """The round whose global model this process holds, scored."""
    _base: Checkpoint | None = field(default=None, init=False)
    """What this site held when it entered that round: where training for the next one starts from."""

    def run(self) -> Exit:
        """Take turns until the federation is over for this site.

        Raises:
            Stopped: the process was asked to stop; nothing is lost.
            Superseded: another incarnation of this site has taken over.
        """
        while True:
            with self.me.stop.interrupting():
                self.me.ledger.look()
                final = self.me.ledger.find(keys.FINAL, Final)
            if final is not None:
                conclude(self.me, final)
                return Exit.DONE
            if self._act():
                self.waiting.moved()
                self.idle.ends()
                continue
            if self.idle.is_over:
                return Exit.IDLE
            with self.me.stop.interrupting():
                self.waiting.pause()

    def take_turn(self) -> bool:
        """Do the next thing; False if there is nothing to do but wait."""
        with self.me.stop.interrupting():
            self.me.ledger.look()
        return self._act()

    def _act(self) -> bool:
        me = self.me
        with me.stop.interrupting():
            latest = self.me.ledger.newest(keys.ROUNDS, Round)
            if latest is None:
                key = newest(me.store, keys.CONTROLS)
                return key is not None and self._offer_initial(self.me.ledger.read(key, Control))
            control = self.me.ledger.read(keys.control(latest.control), Control)
            if me.alias not in control.active:
                me.heartbeat.beat(
                    Phase.WAITING, round=latest.round, message="joins when this round has closed"
                )
                return False
            if self._entered != latest.round:
                self._enter(latest, control)
        if latest.round == control.spec.rounds:
            self.idle.begins()
            me.heartbeat.beat(Phase.WAITING, round=latest.round, message="for the last scores of all sites")
            return False
        return self._contribute(latest, control)

    def _offer_initial(self, control: Control) -> bool:
        """Round 0: every site offers the seeded model, whole; the one that most offer becomes everyone's."""
        me = self.me
        if control.spec.model.start is Start.PRETRAINED:
            message = "for the initial model: segviz init --from MODEL"
            me.heartbeat.beat(Phase.WAITING, round=0, message=message)
            return False
        attempt = self._next_attempt(0)
        if attempt is None:
            self.idle.begins()
            me.heartbeat.beat(Phase.WAITING, round=0, message="for the initial model")
            return False
        hold_to_limits(me.site.spec, control.spec, me.data.train)
        device = Device.choose(control.spec.training).settle()
        whole = network.build(control.spec, control.organs)
        groups = encode_groups(network.groups_of(whole))
        blob = self._written(whole.state_dict(), {GROUPS: groups})
        self._upload(control, device, 0, attempt, blob, loss=None, seconds=0.0)
        return True

    def _enter(self, latest: Round, control: Control) -> None:
        """Merge the newest global model with what is private here, and score it."""
        me = self.me
        me.heartbeat.beat(Phase.SCORING, round=latest.round)
        if latest.round == 0 and self._entered is None:
            me.check_start()
        # What was rejected, nothing later may start from.
        me.checkpoints.drop(latest.round, attempts=self._rejections(latest.round))
        self._base = base = me.checkpoints.before(latest.round + 1)
        me.model.load(latest, {} if base is None else base.model)
        if control.spec.algorithm.name is AlgorithmName.FED_BN:
            self._adapt_norm(latest, base)
        me.model.save_private(latest.round, control)
        key = keys.scores(me.alias, latest.round)
        if self.me.ledger.find(key, RoundScores) is None:
            cases = me.data.validation
            rows = score(
                me.predictor,
                cases,
                me.site.organs,
                me.site.organs,
                lambda done: me.heartbeat.beat(
                    Phase.SCORING, round=latest.round, step=done, steps=len(cases)
                ),
            )
            self.me.ledger.commit(key, RoundScores(me.alias, latest.round, summary(rows)))
        self._entered = latest.round

    def _adapt_norm(self, latest: Round, base: Checkpoint | None) -> None:
        """Under FedBN, statistics that never met the current representation are estimated anew.

        That is a joiner, a site that skipped more than one round, and one that lost its state.
        """
        if latest.round and (base is None or latest.round - base.position.round > 1):
            log.info("round %d: not trained in the one before; re-estimating BatchNorm", latest.round)
            self.me.predictor.reestimate_norm(self.me.data.train)

    def _contribute(self, latest: Round, control: Control) -> bool:
        me, target = self.me, latest.round + 1
        attempt = self._next_attempt(target)
        if attempt is None:
            self.idle.begins()
            me.heartbeat.beat(Phase.WAITING, round=target, message="for the round to close")
            return False
        hold_to_limits(me.site.spec, control.spec, me.data.train)
        try:
            done = self._train(latest, attempt, control)
        except Overtaken:
            log.info("round %d closed without this site; going on from the newest model", target)
            return True
        with me.stop.interrupting():
            blob, spent = self._leaving(latest, attempt, control)
            loss = done.loss if me.tells_loss else None
            self._upload(
                control, me.device, target, attempt, blob, loss=loss, seconds=done.seconds, privacy=spent
            )
        return True

    def _leaving(self, latest: Round, attempt: int, control: Control) -> tuple[_Blob, Spent | None]:
        """A file of the tensors that are shared: clipped and noisy where the site wants that, then thin."""
        me, spent, release = self.me, None, (latest.round + 1, attempt)
        names = me.model.shared_names(control)
        if me.private_updates is None or not names:
            blob = self._written(me.model.shared_state(control), {})
        else:
            path, spent = me.private_updates.protect(
                release,
                trained=lambda: me.model.shared_state(control),
                public=lambda: me.model.public_state(latest, names),
                variances=me.model.variances,
            )
            with path.open("rb") as file:
                blob = _Blob(path, hashlib.file_digest(file, "sha256").hexdigest())
        precision = control.spec.update_precision
        if precision is not UpdatePrecision.FLOAT32:
            updates = ThinUpdates(precision, me.site.state / "left-over", self._rejections)
            base = thin.Base(latest.blob, me.model.round_model(latest))
            values = codec.open_tensors(blob.path).read_all()
            digest = updates.write(self._upload_file, release, values, me.model.parameters, base)
            blob = _Blob(self._upload_file, digest)
        return blob, spent

    def _next_attempt(self, round_: int) -> int | None:
        """The attempt that is asked for, or none: delivered already, or rejected too often."""
        attempt = 1 + self._rejections(round_)
        if attempt > MAX_ATTEMPTS:
            return None
        delivered = self.me.ledger.find(keys.update(self.me.alias, round_, attempt), Update)
        return attempt if delivered is None else None

    def _rejections(self, round_: int) -> int:
        # Read, as whoever can write to the bucket could ask for attempts by their number alone.
        entries = self.me.ledger.below(keys.rejections(self.me.alias, round_))
        return len([self.me.ledger.rejection(entry.key) for entry in entries])

    def _train(self, latest: Round, attempt: int, control: Control) -> Checkpoint:
        me, spec, target = self.me, control.spec, latest.round + 1
        if attempt > 1:
            with me.stop.interrupting():
                self._enter(latest, control)  # what an earlier attempt made of the model is void
        base = self._base
        keep_moments = spec.training.optimizer_state is OptimizerState.KEEP
        trainer = me.build_trainer(spec, latest.round)
        if spec.algorithm.name is AlgorithmName.FED_PROX:
            shared = set(me.model.shared_names(control)) & trainer.parameters.keys()
            trainer.anchor = {name: trainer.parameters[name].detach().clone() for name in sorted(shared)}
            trainer.proximal_mu = spec.algorithm.proximal_mu or 0.0
        run = EpochRun(
            trainer=trainer,
            cases=me.data.train,
            checkpoints=me.checkpoints,
            round=target,
            attempt=attempt,
            epochs=spec.local_epochs,
            rate=lambda epoch: learning_rate(
                spec.training.learning_rate,
                latest.round * spec.local_epochs + epoch,
                spec.rounds * spec.local_epochs,
                spec.training.schedule,
            ),
            moments=base.optimizer if base is not None and keep_moments else {},
            stop=me.stop,
            on_progress=self._report,
        )
        return run.finish(keep=() if base is None else (base.position,))

    def _report(self, at: Position, epoch: EpochSoFar) -> None:
        if self.me.report(Phase.TRAINING, at, epoch) and self.me.heartbeat.newest_round() >= at.round:
            raise Overtaken

    def _upload(
        self,
        control: Control,
        device: Device,
        round_: int,
        attempt: int,
        blob: _Blob,
        *,
        loss: float | None,
        seconds: float,
        privacy: Spent | None = None,
    ) -> None:
        """The blob first, then the record: its creation is the commit."""
        me = self.me
        began = time.monotonic()
        me.store.upload(keys.site_blob(me.alias, blob.digest), blob.path)
        upload_seconds = time.monotonic() - began
        check_lease(me.store, me.alias, me.heartbeat.lease)
        update = Update(
            site=me.alias,
            round=round_,
            attempt=attempt,
            lease=me.heartbeat.lease,
            control=control.number,
            blob=blob.digest,
            size_bytes=blob.path.stat().st_size,
            cases=len(me.data.train),
            loss=loss,
            seconds=seconds,
            environment=device.environment(),
            upload_seconds=upload_seconds,
            privacy=privacy,
        )
        held = self.me.ledger.commit(keys.update(me.alias, round_, attempt), update)
        if held.blob != blob.digest:
            log.warning(
                "round %d attempt %d: an earlier self delivered other bits; they count", round_, attempt
            )
        self._upload_file.unlink(missing_ok=True)

    def _written(self, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> _Blob:
        return _Blob(self._upload_file, codec.save(self._upload_file, to_arrays(state), metadata))

    @property
    def _upload_file(self) -> Path:
        return self.me.site.state / "upload.safetensors"
