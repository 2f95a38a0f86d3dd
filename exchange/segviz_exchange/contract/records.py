"""The facts of a federation, each an immutable JSON object in the store.

Times are not in records: when a fact became true is the object's Last-Modified, by the store's one clock.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.stores.keyring import Writers

# A digest becomes a file name and a key: anything else than hex could leave the folder it is meant for.
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

# The bound keeps the mean of equal values equal to them (see the aggregator's mean).
Cases = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

# A site writes these; two of 1e308 would overflow where they are averaged.
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

# JSON's integers have no end, and one of 400 digits is no float any more.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
# A lease, as its key can say it.
Number = Annotated[int, msgspec.Meta(ge=0, le=10**18)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
# More than the diagonal of any image; as above, so that a mean cannot overflow.
Millimetres = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Real = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
# What a site says in a word, such as its device.
Word = Annotated[str, msgspec.Meta(max_length=200)]
# As the SegVizSite's CRD has it: in a table, a key of a status and a metric's label.
Organ = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
MAX_ORGANS = 256
"""Eight data sets of 32 organs: as many as a site can annotate."""


class Variant(StrEnum):
    """Of the final model; a part of a key and of a folder's name."""

    BASE = "base"
    TUNED = "tuned"
    """With fine-tuned heads."""

    @property
    def suffix(self) -> str:
        """What it adds to a method's name (FedBN, FedBN+FT)."""
        return "+FT" if self is Variant.TUNED else ""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An immutable object; unknown keys and wrong types refuse it."""


class Member(Record, frozen=True):
    """What a federation knows of a site: the organs it annotates, and why it is left out, if it is."""

    organs: tuple[str, ...]
    excluded: str | None = None


class Control(Record, frozen=True):
    """What people want, as the pods see it: written on every edit, numbered by the writer."""

    number: int
    spec: FederationSpec
    members: dict[str, Member]
    """By alias."""
    suspend: bool
    reasons: tuple[str, ...] = ()
    """Why planned numbers are what they are; empty where nothing was planned, or not yet."""
    writers: dict[str, Writers] | msgspec.UnsetType = msgspec.UNSET
    """Who may write below which folder of the federation, where that is not told on each party's disk."""

    @property
    def active(self) -> tuple[str, ...]:
        """Aliases that take part, sorted: every order in a federation is this one."""
        return tuple(sorted(alias for alias, member in self.members.items() if member.excluded is None))

    @property
    def organs(self) -> tuple[str, ...]:
        """Every annotated organ, sorted; its index + 1 is its label."""
        return tuple(sorted({organ for member in self.members.values() for organ in member.organs}))

    def owners(self, organ: str) -> tuple[str, ...]:
        return tuple(alias for alias in self.active if organ in self.members[alias].organs)

    @property
    def quorum(self) -> int:
        """How many sites a round needs: `minSites`, or every member, left out ones included."""
        return self.spec.participation.quorum(len(self.members))

    @property
    def shared_head(self) -> bool:
        return self.spec.shared_head


class Holder(Record, frozen=True):
    """Which federation goes on with these records, where it is not the one that they were begun by."""

    number: int
    uid: Word


class Lease(Record, frozen=True):
    """Which incarnation of a site may write; a higher number ends the lower ones."""

    number: int


class Environment(Record, frozen=True):
    """What the bits of an update depend on besides manifest and data."""

    torch: Word
    device: Word
    precision: Word
    memory_format: Word
    threads: Count


class Spent(Record, frozen=True):
    """How a noisy update was made, and what a site's updates have told about its data so far."""

    clip_norm: Real
    noise_multiplier: Real | None
    """Of this update; none where it was only clipped."""
    releases: Count
    """Updates so far, this one included."""
    delta: Real
    epsilon: Real | None
    """Of all of them, at delta; none where there is no bound."""


class Update(Record, frozen=True):
    """One site's contribution to one round. Its creation is the commit; its blob is there before."""

    site: Word
    round: Count
    attempt: Count
    lease: Number
    control: Count
    blob: Digest
    size_bytes: Count
    cases: Cases
    """Training cases behind it."""
    loss: Real | None
    """Mean loss of the last epoch; none in round 0."""
    seconds: Seconds
    """Of training."""
    environment: Environment
    upload_seconds: Seconds | None = None
    """Of the blob. None where the record was written by an earlier version."""
    privacy: Spent | None = None
    """Where the site clips its updates or adds noise to them."""


class Rejection(Record, frozen=True):
    """Why an update was not accepted; it asks for the next attempt."""

    site: str
    round: int
    attempt: int
    reason: str
    message: str


class Participant(Record, frozen=True):
    site: str
    attempt: int
    blob: Digest
    weight: Cases


class Exclusion(Record, frozen=True):
    site: str
    reason: str
    message: str


class Closing(Record, frozen=True):
    """Who is in a round. Once it exists, the round's model follows from it alone."""

    round: int
    control: int
    participants: tuple[Participant, ...]
    """Sorted by alias."""
    exclusions: tuple[Exclusion, ...]


class Round(Record, frozen=True):
    """A committed round: its global model."""

    round: int
    control: int
    blob: Digest
    size_bytes: int
    participants: tuple[str, ...]
    state: Digest | None = None
    """Blob of the server optimiser's state after this round, under algorithms that have one."""
    state_bytes: int = 0


class Failure(Record, frozen=True):
    """Why a round cannot close under this control."""

    round: int
    control: int
    reason: str
    message: str


class Dice(Record, frozen=True):
    """Over cases; the standard deviation divides by n (ddof 0)."""

    mean: Share
    sd: Share
    cases: Count


class Surface(Record, frozen=True):
    """How well surfaces agree, over the cases of the organ's Dice. Empty masks count, as `agreement` says."""

    hd95: Millimetres
    """Mean of the 95th percentiles of the surface distances."""
    hd95_sd: Millimetres
    nsd: Share
    """Mean share of the surfaces that lies within the tolerance."""
    nsd_sd: Share
    misses: Count
    """Cases in which nothing of an organ that is there was found."""


DiceByOrgan = Annotated[dict[Organ, Dice], msgspec.Meta(max_length=MAX_ORGANS)]


class RoundScores(Record, frozen=True):
    """A site's validation of one global model, with the site's own heads (and BN, under FedBN)."""

    site: Word
    round: Count
    dice: DiceByOrgan


class Final(Record, frozen=True):
    """Training is over: which round's model is the federation's."""

    round: int
    control: int
    validation: dict[str, float]
    """Mean validation Dice of that round by organ."""


class CaseScore(Record, frozen=True):
    case: Word
    """A site-salted id where it leaves the site."""
    organ: Organ
    dice: Share
    hd95: Millimetres | None = None
    """As the next two, none where only Dice was asked for."""
    nsd: Share | None = None
    missed: bool | None = None


class VariantOutcome(Record, frozen=True):
    test: DiceByOrgan
    cases: tuple[CaseScore, ...]
    release: Digest | None
    """Blob under the site's release/, or none where the site releases nothing."""
    surface: Annotated[dict[Organ, Surface], msgspec.Meta(max_length=MAX_ORGANS)] = {}
    """By organ, as `test`."""
    overlap: Share | None = None
    """Voxels that more than one organ claims, of those that any claims; at external sites."""


class Outcome(Record, frozen=True):
    """What a site made of the final model: test scores and what it released, by variant (base, tuned)."""

    site: Word
    round: Count
    variants: dict[Variant, VariantOutcome]


class Exported(Record, frozen=True):
    """The whole model, as evaluated: representation, every released head, BN sets by organ."""

    variant: Variant
    round: int
    blob: Digest
    size_bytes: int
    organs: tuple[str, ...]
    """Those whose owners released enough to predict them."""
    all_organs: tuple[str, ...]
    """The federation's: what the network has heads or channels for."""
    spec: FederationSpec


class ExternalScores(Record, frozen=True):
    """An external set's Dice, by variant and organ."""

    site: Word
    variants: dict[Variant, VariantOutcome]
