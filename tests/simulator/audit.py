"""What must hold of every federation, whatever happens to it: looked at with each write, and at its end."""

import hashlib
import json
from collections.abc import Callable, Iterable

import numpy as np
from msgspec.structs import replace
from safetensors.numpy import load

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.ledger import decode
from segviz_exchange.contract.records import Closing, Control, Final, Outcome, Round, Update
from segviz_exchange.contract.sharing import GROUPS, TensorGroup, contributors, decode_groups
from simulator.bucket import Bucket
from simulator.stub import SECRET
from simulator.world import World


class Auditor:
    def __init__(self, world: World, bucket: Bucket, liar: str | None = None) -> None:
        self._world, self._bucket, self._liar = world, bucket, liar
        self._blobs: dict[str, bytes] = {}
        """Every blob that was ever there, by digest: records are held to them even when they are gone."""
        bucket.watchers.append(self.watch)

    def watch(self, who: str, key: str, data: bytes) -> None:
        if SECRET.encode() in data:
            self._world.break_rule(f"{who} writes a case's name to {key}")
        if self._liar and key.startswith(f"{keys.SITES}{self._liar}/"):
            self._blobs.setdefault(hashlib.sha256(data).hexdigest(), data)
            return
        if "/blobs/" in key or "/release/" in key:
            self._look_at_blob(who, key, data)
            return
        if key.endswith("progress.json"):
            return
        if self._bucket.find(key) is not None:
            self._world.break_rule(f"{who} overwrites {key}")
        for prefix, look in self._rules.items():
            if key.startswith(prefix):
                look(who, key, data)

    @property
    def _rules(self) -> dict[str, Callable[[str, str, bytes], None]]:
        return {
            keys.CLOSINGS: self._look_at_closing,
            keys.ROUNDS: self._look_at_round,
            keys.FINAL: self._look_at_final,
            keys.SITES: self._look_at_site,
        }

    def _look_at_blob(self, who: str, key: str, data: bytes) -> None:
        digest = key.rpartition("/")[2]
        if hashlib.sha256(data).hexdigest() != digest:
            self._world.break_rule(f"{who} writes other bytes to {key} than it says")
        self._blobs[digest] = data

    def _look_at_site(self, who: str, key: str, data: bytes) -> None:
        alias, _, rest = key.removeprefix(keys.SITES).partition("/")
        if rest.startswith("updates/"):
            update = decode(data, Update, key)
            blob = self._bucket.find(keys.site_blob(alias, update.blob))
            if blob is None or len(blob) != update.size_bytes:
                self._world.break_rule(f"{key} names a blob that is not there")
            elif update.round:
                self._look_for_private(key, update, blob)
        if rest == "outcome.json":
            outcome = decode(data, Outcome, key)
            for variant in outcome.variants.values():
                if variant.release and self._bucket.find(keys.release_blob(alias, variant.release)) is None:
                    self._world.break_rule(f"{key} names a release that is not there")

    def _look_for_private(self, key: str, update: Update, blob: bytes) -> None:
        control = self._control(update.control)
        groups = self.groups()
        for name in load(blob):
            if update.site not in contributors(groups[name], control):
                self._world.break_rule(f"{key} holds {name}, which is {update.site}'s own")

    def _look_at_closing(self, who: str, key: str, data: bytes) -> None:
        closing = decode(data, Closing, key)
        control = self._control(closing.control)
        if closing.round and self._bucket.find(keys.round_record(closing.round - 1)) is None:
            self._world.break_rule(f"{key} comes before the round before it")
        names = [each.site for each in closing.participants]
        if names != sorted(set(names)) or not set(names) <= set(control.active):
            self._world.break_rule(f"{key}: {names} are not active, or not in their order")
        if len(names) < control.quorum:
            self._world.break_rule(f"{key}: {names} are fewer than {control.quorum}")
        for each in closing.participants:
            key_of_update = keys.update(each.site, closing.round, each.attempt)
            update = None if each.site == self._liar else self._record(key_of_update, Update)
            if each.site != self._liar and (update is None or update.blob != each.blob):
                self._world.break_rule(f"{key}: {each.site} has delivered nothing of that digest")

    def _look_at_round(self, who: str, key: str, data: bytes) -> None:
        record = decode(data, Round, key)
        closing = self._record(keys.closing(record.round), Closing)
        if closing is None or not self._follows(record, closing):
            self._world.break_rule(f"{key} is not what was closed")
            return
        kept = tuple(each for each in closing.participants if each.site in record.participants)
        closing = replace(closing, participants=kept)
        blob = self._bucket.find(keys.global_blob(record.blob))
        if blob is None:
            self._world.break_rule(f"{key} names a model that is not there")
        elif record.round:
            self._check_merge(key, record, closing, blob)
        elif record.blob not in {each.blob for each in closing.participants}:
            self._world.break_rule(f"{key} is nobody's start")

    def _follows(self, record: Round, closing: Closing) -> bool:
        """Whom it leaves out of a closing, a rejection names."""
        left_out = [each for each in closing.participants if each.site not in record.participants]
        named = [keys.rejection(each.site, record.round, each.attempt) for each in left_out]
        merged = [each.site for each in closing.participants if each not in left_out]
        return merged == list(record.participants) and all(self._bucket.find(key) for key in named)

    def _check_merge(self, key: str, record: Round, closing: Closing, blob: bytes) -> None:
        """Merged once more, all at once: the same closing gives the same bytes."""
        control, groups = self._control(closing.control), self.groups()
        before = self._record(keys.round_record(record.round - 1), Round)
        assert before is not None, "a round is closed after the one before"
        previous = load(self._blobs[before.blob])
        files = {each.site: load(self._blobs[each.blob]) for each in closing.participants}
        merged = load(blob)
        for name, group in groups.items():
            owners = contributors(group, control)
            values = [
                file[name].astype(np.float64)
                for site, file in files.items()
                if site in owners and name in file
            ]
            wanted = _merged(values, control) if values else previous.get(name) if owners else None
            got = merged.get(name)
            same = got is None if wanted is None else got is not None and got.tobytes() == wanted.tobytes()
            if not same:
                self._world.break_rule(f"{key}: {name} is not what its closing says")

    def _look_at_final(self, who: str, key: str, data: bytes) -> None:
        final = decode(data, Final, key)
        rounds = self._control(final.control).spec.rounds
        if not 0 <= final.round <= rounds or self._bucket.find(keys.round_record(rounds)) is None:
            self._world.break_rule(f"{key}: round {final.round} of {rounds} is not the last, or not there")

    # --- at the end ----------------------------------------------------------------------------------

    def forget_but(self, kept: Iterable[str]) -> None:
        """Of a long run: blobs that are in the bucket no more."""
        digests = {key.rpartition("/")[2] for key in kept}
        self._blobs = {digest: data for digest, data in self._blobs.items() if digest in digests}

    def rounds(self) -> list[Round]:
        found = [self._record(key, Round) for key in self._bucket.names(keys.ROUNDS)]
        return [each for each in found if each is not None]

    def closings(self) -> list[Closing]:
        found = [self._record(key, Closing) for key in self._bucket.names(keys.CLOSINGS)]
        return [each for each in found if each is not None]

    def result(self) -> tuple[str, ...]:
        """Digests of what a federation has made."""
        honest = [key for key in self._bucket.names(keys.SITES) if key != keys.outcome(self._liar or "")]
        outcomes = [self._bucket.get(key) for key in honest if key.endswith("/outcome.json")]
        released = [
            str(variant.release)
            for each in outcomes
            for _, variant in sorted(decode(each, Outcome, "").variants.items())
        ]
        return (*(each.blob for each in self.rounds()), *released)

    def look_for_orphans(self) -> None:
        """Models that no record names, when the operator has ended."""
        named = {each.blob for each in self.rounds()} | {each.state for each in self.rounds()}
        for key in self._bucket.names(keys.global_blob("")):
            if key.removeprefix(keys.global_blob("")) not in named:
                self._world.break_rule(f"{key} is named by no record")

    def look_for_names(self) -> None:
        """A liar is in a round, or it is said why not."""
        for record, closing in zip(self.rounds(), self.closings(), strict=True) if self._liar else ():
            excluded = {each.site for each in closing.exclusions}
            rejected = self._bucket.list(keys.rejections(str(self._liar), record.round))
            if self._liar not in {*record.participants, *excluded} and not rejected:
                self._world.break_rule(f"round {record.round} does not say why {self._liar} is not in it")

    def groups(self) -> dict[str, TensorGroup]:
        first = self._record(keys.round_record(0), Round)
        assert first is not None, "there are updates after round 0 alone"
        data = self._blobs[first.blob]
        length = int.from_bytes(data[:8], "little")
        return decode_groups(json.loads(data[8 : 8 + length])["__metadata__"][GROUPS])

    def _control(self, number: int) -> Control:
        control = self._record(keys.control(number), Control)
        assert control is not None, f"control {number} is named and not there"
        return control

    def _record(self, key: str, kind: type):
        data = self._bucket.find(key)
        return None if data is None else decode(data, kind, key)


def _merged(values: list[np.ndarray], control: Control) -> np.ndarray:
    if control.spec.algorithm.name is AlgorithmName.MEDIAN:
        return np.median(np.stack(values), axis=0).astype(np.float32)
    total = values[0].copy()
    for value in values[1:]:
        total = total + value
    return (total / len(values)).astype(np.float32)
