"""What a site's data have told so far, in all its federations: an entry on its disk for each noisy update.

data/<digest>.json                       which cases a data set has
updates/<namespace>/<name-uid>/<alias>/<round>-<attempt>.json
lock                                     held by the one process that counts
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.lock import lock
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.writing import write_private

Release = tuple[int, int]
"""Round and attempt."""

_Value = TypeVar("_Value")


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An update that may have left the site."""

    noise_multiplier: float | None
    """In units of its clip norm; none where it was only clipped."""
    data: str
    """Digest of the data set behind it."""
    file: str | None
    """Its SHA-256 digest; none where an earlier version has counted it."""


@dataclass(frozen=True)
class Account:
    folder: Path
    """The site's own, for all its federations. Sites that share it share what is told of cases they share."""
    federation: str
    """Its prefix in the store: no two federations have the same."""
    site: str
    """Its alias there."""
    cases: frozenset[str]
    """Digests of the contents of the site's cases."""

    def held(self, stop: Stop) -> IO[str]:
        """Until it is closed, no other process of this site counts."""
        return lock(self.folder, stop, "another process of this site")

    def find(self, release: Release) -> Counted | None:
        """Raises Refusal: the entry is damaged."""
        path = self._entry(release)
        return _read(path, Counted) if path.exists() else None

    def add(self, release: Release, noise_multiplier: float | None, file: str | None) -> None:
        """Count an update of this federation, for good."""
        data = self.folder / "data" / f"{self._data}.json"
        if not data.exists():
            write_private(data, msgspec.json.encode(sorted(self.cases)))
        entry = Counted(noise_multiplier, self._data, file)
        write_private(self._entry(release), msgspec.json.encode(entry))

    def of_this_federation(self) -> dict[Release, float | None]:
        """The noise of each of its updates, whatever the site's data were."""
        return {
            release_of(path.stem): _read(path, Counted).noise_multiplier
            for path in sorted(self._own.glob("*.json"))
        }

    def of_others(self) -> list[float | None]:
        """The same of every other federation's update behind which is a case that the site still has."""
        entries = [
            _read(path, Counted)
            for path in sorted((self.folder / "updates").glob("*/*/*/*.json"))
            if path.parent != self._own
        ]
        ours = {data: self._shares_cases(data) for data in {entry.data for entry in entries}}
        return [entry.noise_multiplier for entry in entries if ours[entry.data]]

    def _shares_cases(self, data: str) -> bool:
        path = self.folder / "data" / f"{data}.json"
        # Of unknown data, the worst.
        return not path.exists() or not self.cases.isdisjoint(_read(path, list[str]))

    @property
    def _own(self) -> Path:
        return self.folder / "updates" / self.federation.strip("/") / self.site

    def _entry(self, release: Release) -> Path:
        return self._own / f"{name_of(release)}.json"

    @cached_property
    def _data(self) -> str:
        return hashlib.sha256("\n".join(sorted(self.cases)).encode()).hexdigest()


def smaller_noise(
    one: Mapping[Release, float | None], other: Mapping[Release, float | None]
) -> dict[Release, float | None]:
    """Of each update that either names: of two that disagree, the one that has told more is believed."""

    def least(noises: Collection[float | None]) -> float | None:
        known = [noise for noise in noises if noise is not None]
        return min(known) if len(known) == len(noises) else None

    return {
        release: least([named[release] for named in (one, other) if release in named])
        for release in sorted({*one, *other})
    }


def name_of(release: Release) -> str:
    return f"{release[0]:04d}-{release[1]}"


def release_of(name: str) -> Release:
    round_, attempt = name.split("-")
    return int(round_), int(attempt)


def _read(path: Path, kind: type[_Value]) -> _Value:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise Refusal(
            f"the privacy account is damaged: {path.name}: {malformation(error)}. Restore the site's state "
            "from a backup."
        ) from error
