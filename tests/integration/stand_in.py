"""A trainer without torch: it speaks the real records, its model is a number, and training adds one to it.

Its data folder says how it behaves: `refuse` (a sentence) makes it refuse, `crash` (a number) makes it crash
so many times, each epoch takes `seconds`.
"""

import sys
import time
from pathlib import Path

import click
import numpy as np

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.ledger import commit, encode, find, newest_control, newest_round, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import (
    Control,
    Dice,
    Environment,
    Exported,
    ExternalScores,
    Final,
    Lease,
    Outcome,
    Round,
    RoundScores,
    Update,
    VariantOutcome,
)
from segviz_exchange.contract.sharing import (
    GROUPS,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
    encode_groups,
)
from segviz_exchange.process import logs
from segviz_exchange.process.exits import Exit
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store, download

WEIGHT = "net.weight"
ENVIRONMENT = Environment("none", "cpu", "FP32", "Contiguous", 1)
POLL_SECONDS = 0.05


class Site:
    def __init__(self, store: Store, alias: str, data: Path, state: Path, stop: Stop) -> None:
        self.store, self.alias, self.data, self.state, self.stop = store, alias, data, state, stop
        self.lease = len(store.list(keys.leases(alias))) + 1
        store.create(keys.lease(alias, self.lease), encode(Lease(self.lease)))

    def beat(self, phase: Phase, **fields: object) -> None:
        progress = Progress(lease=self.lease, phase=phase, **fields)
        self.store.put(keys.progress(self.alias), encode(progress))

    def behave(self) -> None:
        refuse, crash = self.data / "refuse", self.data / "crash"
        if refuse.exists():
            end(Exit.REFUSED, refuse.read_text(encoding="utf-8"))
        if crash.exists() and (left := int(crash.read_text(encoding="utf-8"))) > 0:
            crash.write_text(str(left - 1), encoding="utf-8")
            end(Exit.RETRY, "crashed, as it was told to")

    def participate(self) -> None:
        while (final := find(self.store, keys.FINAL, Final)) is None:
            self.behave()
            control, latest = newest_control(self.store), newest_round(self.store)
            if control is None or not self.contribute(control, latest):
                self.pause(POLL_SECONDS)
        organs = read(self.store, keys.control(final.control), Control).members[self.alias].organs
        test = {organ: Dice(0.5, 0.1, 2) for organ in organs}
        variants = {"base": VariantOutcome(test, (), None)}
        commit(self.store, keys.outcome(self.alias), Outcome(self.alias, final.round, variants))

    def contribute(self, control: Control, latest: Round | None) -> bool:
        """One round's work; False if there is nothing to do but wait."""
        if latest is None:
            heads = (SHARED_HEAD,) if control.shared_head else control.organs
            blocks = {f"heads.{head}.weight": head for head in heads} | {WEIGHT: REPRESENTATION}
            groups = {name: TensorGroup(block, PARAMETER) for name, block in blocks.items()}
            initial = {name: np.ones(1, np.float32) for name in groups}
            return self.upload(0, control, initial, {GROUPS: encode_groups(groups)})
        control = read(self.store, keys.control(latest.control), Control)
        if self.alias not in control.active:
            return False
        dice = {organ: Dice(latest.round / 10, 0.0, 1) for organ in control.members[self.alias].organs}
        commit(self.store, keys.scores(self.alias, latest.round), RoundScores(self.alias, latest.round, dice))
        target = latest.round + 1
        if latest.round == control.spec.rounds or find(
            self.store, keys.update(self.alias, target, 1), Update
        ):
            return False
        weight = self.global_weight(latest)
        for epoch in range(control.spec.local_epochs):
            self.beat(Phase.TRAINING, round=target, epoch=epoch, step=1, steps=2, loss=1.0 / target)
            self.pause(float((self.data / "seconds").read_text(encoding="utf-8")))
        names = (WEIGHT, f"heads.{SHARED_HEAD}.weight") if control.shared_head else (WEIGHT,)
        return self.upload(target, control, {name: weight + np.float32(1) for name in names}, {})

    def global_weight(self, latest: Round) -> np.ndarray:
        path = download(self.store, keys.global_blob(latest.blob), latest.blob, self.state)
        return open_tensors(path).read(WEIGHT)

    def upload(
        self, round_: int, control: Control, tensors: dict[str, np.ndarray], metadata: dict[str, str]
    ) -> bool:
        key = keys.update(self.alias, round_, 1)
        if find(self.store, key, Update) is not None:
            return False
        path = self.state / "upload"
        digest = codec.save(path, tensors, metadata)
        self.store.upload(keys.site_blob(self.alias, digest), path)
        size, loss = path.stat().st_size, None if round_ == 0 else 1.0 / round_
        record = Update(
            self.alias, round_, 1, self.lease, control.number, digest, size, 1, loss, 0.1, ENVIRONMENT
        )
        commit(self.store, key, record)
        return True

    def evaluate(self) -> None:
        self.behave()
        exported = read(self.store, keys.exported("base"), Exported)
        test = {organ: Dice(0.4, 0.2, 3) for organ in exported.organs}
        variants = {"base": VariantOutcome(test, (), None)}
        commit(self.store, keys.external_scores(self.alias), ExternalScores(self.alias, variants))

    def pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            end(Exit.STOPPED, "stopped")


def export(store: Store, output: Path) -> None:
    final = read(store, keys.FINAL, Final)
    control = read(store, keys.control(final.control), Control)
    record = read(store, keys.round_record(final.round), Round)
    (output / "base").mkdir(parents=True, exist_ok=True)
    fields = (
        "base",
        final.round,
        record.blob,
        record.size_bytes,
        control.organs,
        control.organs,
        control.spec,
    )
    commit(store, keys.exported("base"), Exported(*fields))


def end(code: Exit, message: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} ERROR {message}", flush=True)
    logs.tell_outside(message)
    sys.exit(code)


@click.command()
@click.argument("task")
@click.option("--store", required=True)
@click.option("--prefix", required=True)
@click.option("--stop-on-stdin-eof", is_flag=True)
@click.option("--site")
@click.option("--site-spec")
@click.option("--data-root", type=click.Path(path_type=Path))
@click.option("--home", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path))
@click.option("--poll-seconds", type=float)
@click.option("--scratch")
@click.option("--output", type=click.Path(path_type=Path))
def main(task: str, store: str, prefix: str, stop_on_stdin_eof: bool, **given: object) -> None:
    stop = Stop(watch_stdin=stop_on_stdin_eof)
    state = given["state"]
    records = open_store(store, seen=None if state is None else state / "keys").scoped(prefix)
    if task == "export":
        export(records, given["output"])
    else:
        site = Site(records, given["site"], given["data_root"], given["state"], stop)
        site.participate() if task == "participate" else site.evaluate()


if __name__ == "__main__":
    main()
