"""A SegVizSite as typed values, after validation and defaulting."""

from typing import Any

import msgspec

from segviz_exchange.contract.choices import (
    AlgorithmName,
    FingerprintPolicy,
    ImagePullPolicy,
    Layout,
    Objective,
    OnBadCase,
    Release,
    Role,
    Scores,
    Start,
    UserAssignment,
)
from segviz_exchange.contract.part import Part
from segviz_exchange.contract.spec import SecretRef
from segviz_exchange.stores.signing import PublicKey


class ClaimSource(Part, frozen=True):
    claim_name: str


class HostPathSource(Part, frozen=True):
    path: str


class Volume(Part, frozen=True):
    """Exactly one of the two, as in a Pod."""

    persistent_volume_claim: ClaimSource | None = None
    host_path: HostPathSource | None = None


class CaseRange(Part, frozen=True):
    """A half-open range of the sorted case ids, read as Python reads a slice."""

    start: int | None = None
    stop: int | None = None
    rotate_by: int | None = None
    """How many cases of the sorted list go to its end before the range is taken."""


class DataSet(Part, frozen=True):
    name: str
    path: str
    """Folder inside the volume."""
    layout: Layout
    organs: dict[str, tuple[int, ...]]
    """Label ids of each annotated organ, {"kidneys": [2, 3]}; empty where `structures` says it."""
    background: tuple[int, ...]
    """Further label ids that may occur and count as background; any other id refuses the case."""
    cases: CaseRange | None = None
    ignored: tuple[int, ...] = ()
    """Label ids whose voxels neither train nor score, such as tumours that are not to count as organ."""
    window: tuple[float, float] | None = None
    """In place of the federation's, where that allows it."""
    structures: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Names or codes of each organ's structures in DICOM, {"liver": ["Liver", "SCT:10200004"]}."""

    @property
    def annotated(self) -> tuple[str, ...]:
        """Its organs, sorted, by whichever of the two it names them."""
        return tuple(sorted({*self.organs, *self.structures}))


class Split(Part, frozen=True):
    """Shares of the cases in percent; together 100."""

    train: int
    validation: int
    test: int


class State(Part, frozen=True):
    persistent_volume_claim: ClaimSource


Quantities = dict[str, int | str]


class Resources(Part, frozen=True):
    requests: Quantities | None = None
    limits: Quantities | None = None


class Toleration(Part, frozen=True, omit_defaults=True):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None


class PodMetadata(Part, frozen=True):
    """Added to what the operator itself writes there, which nothing here may replace."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class IdleRelease(Part, frozen=True):
    """When a trainer that waits for others gives back what its Pod holds, its GPU above all."""

    after_seconds: int


class TrainerPod(Part, frozen=True):
    """What the site says of the Pod that runs there."""

    image_pull_policy: ImagePullPolicy
    image: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    service_account_name: str | None = None
    resources: Resources | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] = ()
    affinity: dict[str, Any] | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    queue_name: str | None = None
    pod_metadata: PodMetadata | None = None
    supplemental_groups: tuple[int, ...] = ()
    termination_grace_period_seconds: int = 120
    """From the request to stop until the process is killed: a step of the training, and its checkpoint."""
    idle_release: IdleRelease | None = None
    """Never, where it is left out."""
    user_assignment: UserAssignment = UserAssignment.FIXED
    """Whose ids the process and its volumes have: SegViz's own, or those that the cluster gives."""


class FederationRef(Part, frozen=True):
    namespace: str
    name: str
    uid: str | None = None
    """Of this federation alone, and of none that is made anew under its name; any, where it is left out."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Privacy(Part, frozen=True):
    """What a site does to its updates before they leave it (docs/reference/methods.md)."""

    clip_norm: float
    """L2 norm that the change of all that is uploaded is cut down to."""
    delta: float
    noise_multiplier: float | None = None
    """Standard deviation of the noise on each number, in units of `clip_norm`; none where it is left out."""
    max_epsilon: float | None = None
    """What all updates from the same data may spend, over all federations; no limit where it is left out."""


class Limits(Part, frozen=True):
    """How much a federation may ask of the site; what is left out or empty is not limited."""

    algorithms: tuple[AlgorithmName, ...] = ()
    objectives: tuple[Objective, ...] = ()
    starts: tuple[Start, ...] = ()
    max_rounds: int | None = None
    min_cases: int | None = None
    """That the site trains with in a round."""
    min_steps: int | None = None
    """Of the optimizer, in a round."""


class SitePolicy(Part, frozen=True):
    """What of a site's spec its trainer takes from the site's own object, and from no one else.

    A SegVizSite reaches the trainer by way of the operator, who is another party.
    """

    release: Release
    scores: Scores
    privacy: Privacy | None = None
    limits: Limits | None = None
    fingerprint: FingerprintPolicy | None = None


class ProxySecretRef(Part, frozen=True):
    """A Secret with username, password and ca.crt, as segviz_exchange.stores.proxy reads them."""

    name: str


class SiteProxy(Part, frozen=True):
    """The way to stores with TLS."""

    url: str
    secret_ref: ProxySecretRef | None = None


class KeySecretRef(Part, frozen=True):
    """A Secret with private.pem, an Ed25519 key in PKCS#8."""

    name: str


class SiteSigning(Part, frozen=True):
    """By which others know the site's records."""

    public_key: PublicKey
    secret_ref: KeySecretRef | None = None
    """Where its trainer finds the private key; a site outside has it in its `--state`."""


class SiteSpec(Part, frozen=True):
    role: Role
    volume: Volume
    data_sets: tuple[DataSet, ...]
    split: Split
    on_bad_case: OnBadCase
    max_case_mebibytes: int
    """A case whose header declares more than this, decompressed as float32, is refused unread."""
    allowed_federations: tuple[FederationRef, ...]
    release: Release
    scores: Scores
    suspend: bool
    remote: bool
    trainer: TrainerPod
    state: State | None = None
    store_secret_ref: SecretRef | None = None
    privacy: Privacy | None = None
    """Clipping and noise; none where it is left out."""
    limits: Limits | None = None
    proxy: SiteProxy | None = None
    fingerprint: FingerprintPolicy | None = None
    """Whether the site tells what its cases are like, so that a plan may fit; not, where it is left out."""
    signing: SiteSigning | msgspec.UnsetType = msgspec.UNSET
    """A trainer of an earlier version, to which the whole spec is told, does not know it."""

    def under(self, policy: SitePolicy) -> "SiteSpec":
        """The same, with what only the policy may say."""
        return msgspec.structs.replace(
            self,
            release=policy.release,
            scores=policy.scores,
            privacy=policy.privacy,
            limits=policy.limits,
            fingerprint=policy.fingerprint,
        )

    @property
    def organs(self) -> tuple[str, ...]:
        """Every organ that some data set annotates, sorted."""
        return tuple(sorted({organ for data_set in self.data_sets for organ in data_set.annotated}))
