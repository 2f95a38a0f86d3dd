"""The API's objects as typed values.

The schemas in `crds/` are the one source of field names, defaults and bounds; these types hold what a
manifest says *after* validation and defaulting, so no field here has a default of its own (`None` means
that the schema leaves the field out).
"""

import re
from enum import StrEnum
from typing import Any

import msgspec

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> int:
    """Seconds of a duration as Kubernetes writes it (`1h30m`, `90s`).

    Raises:
        ValueError: the text is no such duration, or is empty.
    """
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration; write one as 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A part of a manifest: immutable, camelCase in JSON, strict about unknown keys."""


class AlgorithmName(StrEnum):
    LOCAL = "Local"
    FED_AVG = "FedAvg"
    FED_BN = "FedBN"
    FED_PROX = "FedProx"
    FED_AVG_M = "FedAvgM"
    FED_ADAM = "FedAdam"
    MEDIAN = "Median"
    TRIMMED_MEAN = "TrimmedMean"
    CENTRAL = "Central"
    CENTRAL_MARGINAL = "CentralMarginal"

    @property
    def is_central(self) -> bool:
        """Whether all data are pooled at one site, which brings its own loss over one head for all organs."""
        return self in (AlgorithmName.CENTRAL, AlgorithmName.CENTRAL_MARGINAL)


class Objective(StrEnum):
    PER_ORGAN_HEAD = "PerOrganHead"
    MARGINAL = "Marginal"
    MARGINAL_EXCLUSION = "MarginalExclusion"
    CONDITIONAL_DISTILLATION = "ConditionalDistillation"


class Weights(StrEnum):
    UNIFORM = "Uniform"
    CASES = "Cases"


class Norm(StrEnum):
    BATCH = "Batch"
    INSTANCE = "Instance"


class Precision(StrEnum):
    FP32 = "FP32"
    BF16 = "BF16"


class MemoryFormat(StrEnum):
    CONTIGUOUS = "Contiguous"
    CHANNELS_LAST_3D = "ChannelsLast3d"


class Intensity(StrEnum):
    WINDOW = "Window"
    Z_SCORE = "ZScore"


class Augmentation(StrEnum):
    DEFAULT = "Default"
    NONE = "None"


class Start(StrEnum):
    SEEDED = "Seeded"
    PRETRAINED = "Pretrained"


class OptimizerState(StrEnum):
    KEEP = "Keep"
    RESET = "Reset"


class Selection(StrEnum):
    BEST = "Best"
    LAST = "Last"


class EvaluationNorm(StrEnum):
    OWN_SITE = "OwnSite"
    AVERAGED = "Averaged"
    ADAPTED = "Adapted"


class Role(StrEnum):
    TRAINING = "Training"
    EVALUATION = "Evaluation"


class Layout(StrEnum):
    MSD = "MSD"
    KITS19 = "KiTS19"
    BTCV = "BTCV"
    LIST = "List"


class OnBadCase(StrEnum):
    REFUSE = "Refuse"
    SKIP = "Skip"


class Release(StrEnum):
    NONE = "None"
    HEADS = "Heads"
    HEADS_AND_NORM = "HeadsAndNorm"


class Scores(StrEnum):
    SUMMARY = "Summary"
    PER_CASE = "PerCase"


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class CredentialSource(StrEnum):
    ASSUME_ROLE = "AssumeRole"
    EXISTING_SECRETS = "ExistingSecrets"


class ImagePullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


# --- SegVizFederation ---------------------------------------------------------------------------


class SiteRef(Part, frozen=True):
    namespace: str
    name: str


class Member(Part, frozen=True):
    alias: str
    site_ref: SiteRef


class Algorithm(Part, frozen=True):
    name: AlgorithmName
    weights: Weights
    proximal_mu: float | None = None
    """mu of FedProx: the local loss gains (mu/2)·‖w − w_global‖² over the shared parameters."""
    server_learning_rate: float | None = None
    """Step size of FedAvgM and FedAdam. Left out, each has its own (see the aggregator's file of it)."""
    momentum: float | None = None
    """Of FedAvgM."""
    beta1: float | None = None
    """Of FedAdam, as the next two."""
    beta2: float | None = None
    tau: float | None = None
    trim_fraction: float | None = None
    """Share of the values that TrimmedMean leaves out at each end."""


class Distillation(Part, frozen=True):
    temperature: float
    """tau of ConditionalDistillation."""


class Participation(Part, frozen=True):
    max_norm_ratio: float
    """An update whose parameters' L2 norm exceeds this multiple of the global model's is rejected."""
    min_sites: int | None = None
    """How many sites a round needs at its deadline; all of them where it is left out."""
    round_timeout: str | None = None
    """How long after the previous round's commit a round closes with `min_sites`; never, if left out."""

    @property
    def round_timeout_seconds(self) -> int | None:
        return None if self.round_timeout is None else parse_duration(self.round_timeout)


class Model(Part, frozen=True):
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    residual_units: int
    norm: Norm
    head_levels: int
    """How many of the network's top decoder levels belong to a head; 1 is the paper's (two layers)."""
    start: Start = Start.SEEDED
    """Whether round 0 is the seeded model, or one that `segviz init` brings."""


class IntensityScaling(Part, frozen=True):
    method: Intensity
    window: tuple[float, float] | None = None
    """Lower and upper HU (or other units of the image) mapped to 0 and 1, clipped. For `Window` only."""
    site_windows: bool = False
    """Whether a data set's own window replaces this one."""


class Preprocessing(Part, frozen=True):
    intensity: IntensityScaling
    spacing: tuple[float, float, float] | None = None
    """Millimetres per voxel along R, A, S; the images' own spacing where the manifest says null."""
    resize: tuple[int, int, int] | None = None
    """Voxels along R, A, S that every image is resized to before the spacing, as in the paper."""


class Training(Part, frozen=True):
    patch: tuple[int, int, int]
    crops_per_volume: int
    batch_size: int
    """Volumes in a batch; the network sees batch_size × crops_per_volume patches."""
    learning_rate: float
    augmentation: Augmentation
    optimizer_state: OptimizerState
    precision: Precision
    memory_format: MemoryFormat
    threads: int


class FineTuning(Part, frozen=True):
    epochs: int
    learning_rate: float


class Evaluation(Part, frozen=True):
    sites: tuple[Member, ...]
    norm: EvaluationNorm
    overlap: float
    tolerance_millimetres: dict[str, float] | None = None
    """By organ: how far off a surface may lie and still count for NSD; the trainer knows the usual ones."""


class CABundle(Part, frozen=True):
    config_map: str
    key: str


class Retention(Part, frozen=True):
    rounds: int | None = None
    """Newest rounds whose models stay, beside round 0, the best and the final one; all, where it is null."""


class StoreSpec(Part, frozen=True):
    """Where the records of a federation in a cluster lie."""

    endpoint: str
    bucket: str
    region: str
    existing_secret: str
    credentials: CredentialSource
    credential_seconds: int
    retention: Retention
    ca_bundle: CABundle | None = None

    @property
    def url(self) -> str:
        """As `open_store` reads it."""
        return f"{self.endpoint.replace('https://', 's3://').replace('http://', 's3+http://')}/{self.bucket}"


class FederationSpec(Part, frozen=True):
    sites: tuple[Member, ...]
    rounds: int
    local_epochs: int
    seed: int
    algorithm: Algorithm
    objective: Objective
    participation: Participation
    model: Model
    preprocessing: Preprocessing
    training: Training
    selection: Selection
    evaluation: Evaluation
    deletion_policy: DeletionPolicy
    suspend: bool
    distillation: Distillation | None = None
    """For objective ConditionalDistillation only, which has a temperature of its own where it is left out."""
    fine_tuning: FineTuning | None = None
    ttl_seconds_after_finished: int | None = None
    store: StoreSpec | None = None

    @property
    def shared_head(self) -> bool:
        """One head for all organs, in place of a head for each."""
        return self.algorithm.name.is_central or self.objective is not Objective.PER_ORGAN_HEAD


# --- SegVizSite ---------------------------------------------------------------------------------


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


class DataSet(Part, frozen=True):
    name: str
    path: str
    """Folder below the volume's root."""
    layout: Layout
    organs: dict[str, tuple[int, ...]]
    """Label ids of each annotated organ, {"kidneys": [2, 3]}."""
    background: tuple[int, ...]
    """Further label ids that may occur and count as background; any other id refuses the case."""
    cases: CaseRange | None = None
    ignored: tuple[int, ...] = ()
    """Label ids whose voxels neither train nor score, such as tumours that are not to count as organ."""
    window: tuple[float, float] | None = None
    """In place of the federation's, where that allows it."""


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


class Privacy(Part, frozen=True):
    """What a site does to its updates before they leave it (docs/reference/methods.md)."""

    clip_norm: float
    """L2 norm that the change of all that is uploaded is cut down to."""
    delta: float
    noise_multiplier: float | None = None
    """Standard deviation of the noise on each number, in units of `clip_norm`; none where it is left out."""


class SiteSpec(Part, frozen=True):
    role: Role
    volume: Volume
    data_sets: tuple[DataSet, ...]
    split: Split
    on_bad_case: OnBadCase
    max_case_mebibytes: int
    """A case whose header declares more than this, decompressed as float32, is refused unread."""
    allowed_federations: tuple[str, ...]
    """namespace/name of each federation this site takes part in."""
    release: Release
    scores: Scores
    suspend: bool
    remote: bool
    trainer: TrainerPod
    state: State | None = None
    store_secret: str | None = None
    privacy: Privacy | None = None
    """Clipping and noise; none where it is left out."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Every organ that some data set annotates, sorted."""
        return tuple(sorted({organ for data_set in self.data_sets for organ in data_set.organs}))


# --- SegVizStudy --------------------------------------------------------------------------------


class StudyRowSpec(Part, frozen=True):
    name: str
    spec: dict[str, Any]
    """A merge patch for the federation's spec."""


class StudySpec(Part, frozen=True):
    rows: tuple[StudyRowSpec, ...]
    worst_cases: int
    federation: str | None = None
    baseline: str | None = None
    central: str | None = None
