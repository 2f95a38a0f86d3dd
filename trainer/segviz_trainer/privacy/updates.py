"""Updates that are clipped and noisy before they leave a site.

docs/reference/methods.md says what that protects.

The change of everything that is uploaded, seen as one vector, is cut down to an L2 norm, and Gaussian noise
is added to each number. The noisy update is on the site's disk before it is uploaded, and counted before it
can be seen. Noise is drawn anew each time and kept nowhere: what makes a round's attempt leave in one form
only, whatever is killed when, is that file. Once it is gone, the attempt is refused.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from torch import Tensor

from segviz_exchange.contract import keys
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.ledger import InvalidRecord, numbered, read
from segviz_exchange.contract.records import Spent, Update
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.writing import write_private
from segviz_exchange.stores.store import Store
from segviz_trainer.network.tensors import save_whole, to_arrays
from segviz_trainer.privacy.account import Account, Release, name_of, release_of, smaller_noise
from segviz_trainer.privacy.budget import epsilon_of
from segviz_trainer.privacy.noise import gaussian

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrivateUpdates:
    policy: Privacy
    folder: Path
    """On the site's own disk: noisy updates of this federation, and the policies they were made under."""
    account: Account
    store: Store
    site: str
    stop: Stop

    def protect(
        self,
        release: Release,
        trained: Callable[[], Mapping[str, Tensor]],
        public: Callable[[], Mapping[str, Array]],
        variances: Collection[str],
    ) -> tuple[Path, Spent]:
        """The file that may leave the site, and what all its releases with this one have spent.

        Args:
            release: this round and attempt; a second call for it gives the same file.
            trained: the tensors that are asked for.
            public: values of the same tensors that everybody knows.
            variances: those that must not fall below zero, whatever the noise.

        Raises:
            Refusal: the budget is spent, or it was released before and the file is gone.
        """
        shown = self._shown()
        kept = self.folder / f"{name_of(release)}.safetensors"
        under = kept.with_suffix(".json")
        with self.account.held(self.stop):
            self._take_over()
            counted = self.account.find(release)
            if counted is not None:
                self._check_kept(release, kept, counted.file)
            if not kept.exists():
                self._hold_to_budget(self.policy, shown)
                self._forget(before=release[0] - 1)
                noisy = self._noisy(to_arrays(trained()), public(), variances)
                write_private(under, msgspec.json.encode(self.policy))
                save_whole(kept, noisy)
            # As it was made: the site's owner may have changed the policy since.
            policy = msgspec.json.decode(under.read_bytes(), type=Privacy)
            if counted is None:
                # It may be an earlier self's, and another federation may have come in between.
                self._hold_to_budget(policy, shown)
                self.account.add(release, policy.noise_multiplier, _digest(kept))
            return kept, self._spent(policy, shown)

    def _noisy(
        self, trained: Mapping[str, Array], public: Mapping[str, Array], variances: Collection[str]
    ) -> dict[str, Array]:
        changes = {name: trained[name].astype(np.float64) - public[name] for name in sorted(trained)}
        scale = clip_scale(changes.values(), self.policy.clip_norm)
        if not scale:
            log.warning("the training has diverged: this update is sent as no change at all, with its noise")
        deviation = (self.policy.noise_multiplier or 0.0) * self.policy.clip_norm
        noisy = {}
        for name, change in changes.items():
            # Not 0 * change, which is NaN where it is, and would tell that the training has diverged.
            value = public[name] + (scale * change if scale else np.zeros_like(change))
            if deviation:
                value = value + deviation * gaussian(change.size).reshape(change.shape)
            # Of what is released already: a function of it tells nothing more.
            noisy[name] = (np.maximum(value, 0.0) if name in variances else value).astype(np.float32)
        return noisy

    def _check_kept(self, release: Release, kept: Path, digest: str | None) -> None:
        """Raises Refusal: this attempt has left in another form than it would now."""
        if kept.exists() and digest in (None, _digest(kept)):
            return
        raise Refusal(
            f"{self.site}: round {release[0]}, attempt {release[1]} has been released before, and what was "
            "sent is no longer in the site's state. Sending it in another form would reveal more than was "
            "counted. Either records in the bucket were removed, which the coordinator can say, or the state "
            "was restored from a backup. Start a new federation."
        )

    def _hold_to_budget(self, policy: Privacy, shown: Mapping[Release, float | None]) -> None:
        """Raises Refusal: one more update would spend more than the site's owner wants."""
        most = self.policy.max_epsilon
        if most is None:
            return
        noises = self._noises(shown)
        after = epsilon_of([*noises, policy.noise_multiplier], self.policy.delta)
        if after is None or after > most:
            would = "have no bound" if after is None else f"be {after:.4g}"
            raise Refusal(
                f"{self.site}: spec.privacy.maxEpsilon is {most:g}. Of these data {len(noises)} protected "
                f"updates have been sent, in all federations; with one more, epsilon would {would} "
                f"at delta {self.policy.delta:g}. The site sends nothing more. Its owner can raise the limit."
            )

    def _spent(self, policy: Privacy, shown: Mapping[Release, float | None]) -> Spent:
        noises = self._noises(shown)
        epsilon = epsilon_of(noises, self.policy.delta)
        log.info("%d protected updates, epsilon %s at delta %g", len(noises), epsilon, self.policy.delta)
        return Spent(policy.clip_norm, policy.noise_multiplier, len(noises), self.policy.delta, epsilon)

    def _noises(self, shown: Mapping[Release, float | None]) -> Sequence[float | None]:
        """Of every release: what this disk remembers, and what the bucket shows."""
        remembered = self.account.of_this_federation()
        lost = shown.keys() - remembered.keys()
        if any(shown[each] is not None for each in lost):
            # The disk was lost since, and with it perhaps one that was uploaded and never committed.
            remembered[max(lost)[0], 0] = self.policy.noise_multiplier
        return [*smaller_noise(remembered, shown).values(), *self.account.of_others()]

    def _shown(self) -> dict[Release, float | None]:
        """The noise of all that was ever committed, but for round 0's, in which no data are."""
        prefix = keys.all_updates(self.site)
        folders = {f"{entry.key.rpartition('/')[0]}.json" for entry in self.store.list(prefix)}
        rounds = {keys.number_below(prefix, folder) for folder in folders}
        found = {}
        for round_ in sorted(round_ for round_ in rounds if round_ is not None):
            for entry in numbered(self.store, keys.updates(self.site, round_)).values() if round_ else ():
                try:
                    update = read(self.store, entry.key, Update)
                except InvalidRecord as error:
                    log.warning("update not counted in the privacy budget: %s", error)
                    continue
                noise = update.privacy.noise_multiplier if update.privacy else None
                found[update.round, update.attempt] = noise
        return found

    def _forget(self, before: int) -> None:
        """Files of rounds whose next one is committed: nobody asks for them again."""
        for path in (*self.folder.glob("*-*.safetensors"), *self.folder.glob("*-*.json")):
            if release_of(path.stem)[0] < before:
                path.unlink()

    def _take_over(self) -> None:
        """What an earlier version has counted here, and the secret that it made its noise from."""
        for path in sorted((self.folder / "released").glob("*.json")):
            release = release_of(path.stem)
            if self.account.find(release) is None:
                noise = msgspec.json.decode(path.read_bytes(), type=float | None)
                self.account.add(release, noise, None)
            path.unlink()
        (self.folder / "secret").unlink(missing_ok=True)


def clip_scale(changes: Collection[Array], clip_norm: float) -> float:
    """What a change is multiplied by so that its L2 norm is at most `clip_norm`; never more than 1.

    0 where training has diverged: a change without a norm cannot be bounded, so no number of it may leave.
    """
    with np.errstate(over="ignore"):
        norm = math.sqrt(sum(float(np.dot(change.ravel(), change.ravel())) for change in changes))
    if not math.isfinite(norm):
        return 0.0
    return min(1.0, clip_norm / norm) if norm else 1.0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
