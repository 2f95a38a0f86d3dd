"""Updates that are clipped and noisy before they leave a site.

docs/reference/methods.md says what that protects.

The change of everything that is uploaded, seen as one vector, is cut down to an L2 norm, and Gaussian noise
is added to each number. The noisy update is on the site's disk before it is uploaded: whatever is killed
when, a round's attempt is released in one form only, and counted before it can be seen.
"""

import logging
import math
import os
from collections.abc import Callable, Collection, Mapping
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
from segviz_exchange.stores.store import Store
from segviz_trainer.network.tensors import save_whole, to_arrays
from segviz_trainer.privacy.budget import epsilon_of
from segviz_trainer.privacy.noise import gaussian, noise_secret

log = logging.getLogger(__name__)

Release = tuple[int, int]
"""Round and attempt."""


@dataclass(frozen=True)
class PrivateUpdates:
    policy: Privacy
    folder: Path
    """On the site's own disk: its secret, the newest noisy update and its policy, and what was released."""
    store: Store
    site: str

    def protect(
        self,
        release: Release,
        trained: Callable[[], Mapping[str, Tensor]],
        public: Callable[[], Mapping[str, Array]],
        variances: Collection[str],
    ) -> tuple[Path, Spent]:
        """The file that may leave the site, and what all its releases with this one have spent.

        Args:
            release: this round and attempt; a second call for it gives the same bytes.
            trained: the tensors that are asked for.
            public: values of the same tensors that everybody knows.
            variances: those that must not fall below zero, whatever the noise.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / f"{_name(release)}.safetensors"
        under = kept.with_suffix(".json")
        if not kept.exists():
            for old in (*self.folder.glob("*.safetensors"), *self.folder.glob("*.json")):
                old.unlink()
            noisy = self._noisy(release, to_arrays(trained()), public(), variances)
            _write(under, self.policy)
            save_whole(kept, noisy)
        # As it was made: the site's owner may have changed the policy since.
        policy = msgspec.json.decode(under.read_bytes(), type=Privacy)
        self._count(release, policy)
        history = self._history()
        spent = Spent(
            clip_norm=policy.clip_norm,
            noise_multiplier=policy.noise_multiplier,
            releases=len(history),
            delta=self.policy.delta,
            epsilon=epsilon_of([history[each] for each in sorted(history)], self.policy.delta),
        )
        log.info("%d protected updates, epsilon %s at delta %g", len(history), spent.epsilon, spent.delta)
        return kept, spent

    def _noisy(
        self,
        release: Release,
        trained: Mapping[str, Array],
        public: Mapping[str, Array],
        variances: Collection[str],
    ) -> dict[str, Array]:
        changes = {name: trained[name].astype(np.float64) - public[name] for name in sorted(trained)}
        scale = clip_scale(changes.values(), self.policy.clip_norm)
        deviation = (self.policy.noise_multiplier or 0.0) * self.policy.clip_norm
        secret = noise_secret(self.folder / "secret")
        noisy = {}
        for name, change in changes.items():
            value = public[name] + scale * change
            if deviation:
                draw = gaussian(secret, f"{_name(release)}/{name}", change.size).reshape(change.shape)
                value = value + deviation * draw
            # Of what is released already: a function of it tells nothing more.
            noisy[name] = (np.maximum(value, 0.0) if name in variances else value).astype(np.float32)
        return noisy

    def _count(self, release: Release, policy: Privacy) -> None:
        place = self.folder / "released" / f"{_name(release)}.json"
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            _write(place, policy.noise_multiplier)

    def _history(self) -> dict[Release, float | None]:
        """The noise of every release: what this disk remembers, and what the bucket shows."""
        remembered = {
            _release(path.stem): msgspec.json.decode(path.read_bytes(), type=float | None)
            for path in (self.folder / "released").glob("*.json")
        }
        shown = {
            (update.round, update.attempt): update.privacy.noise_multiplier if update.privacy else None
            for update in self._own_updates()
        }
        lost = shown.keys() - remembered.keys()
        if any(shown[each] is not None for each in lost):
            # The disk was lost since, and with it perhaps one that was uploaded and never committed.
            remembered[(max(lost)[0], 0)] = self.policy.noise_multiplier
        return {**remembered, **shown}

    def _own_updates(self) -> list[Update]:
        """All that was ever committed, but for round 0's, in which no data are."""
        prefix = keys.all_updates(self.site)
        folders = {f"{entry.key.rpartition('/')[0]}.json" for entry in self.store.list(prefix)}
        rounds = {keys.number_below(prefix, folder) for folder in folders}
        found = []
        for round_ in sorted(round_ for round_ in rounds if round_ is not None):
            for entry in numbered(self.store, keys.updates(self.site, round_)).values() if round_ else ():
                try:
                    found.append(read(self.store, entry.key, Update))
                except InvalidRecord as error:
                    log.warning("update not counted in the privacy budget: %s", error)
        return found


def clip_scale(changes: Collection[Array], clip_norm: float) -> float:
    """What a change is multiplied by so that its L2 norm is at most `clip_norm`; never more than 1.

    NaN where training has diverged: a change without a norm cannot be bounded, so no number of it may leave.
    The aggregator rejects an update of NaN, and asks for another attempt.
    """
    norm = math.sqrt(sum(float(np.dot(change.ravel(), change.ravel())) for change in changes))
    if not math.isfinite(norm):
        return math.nan
    return min(1.0, clip_norm / norm) if norm else 1.0


def _write(path: Path, value: object) -> None:
    """A file that is complete or absent."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _name(release: Release) -> str:
    return f"{release[0]:04d}-{release[1]}"


def _release(name: str) -> Release:
    round_, attempt = name.split("-")
    return int(round_), int(attempt)
