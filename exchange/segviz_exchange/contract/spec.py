"""The API's objects as typed values.

The schemas in `crds/` are the one source of field names, defaults and bounds; these types hold what a
manifest says *after* validation and defaulting, so no field here has a default of its own (`None` means
that the schema leaves the field out).
"""

from typing import Any

from segviz_exchange.contract.choices import (
    AlgorithmName,
    CredentialSource,
    DeletionPolicy,
    EvaluationNorm,
    Intensity,
    Norm,
    Objective,
    Planning,
    Preset,
    RetentionPolicy,
    Selection,
    Spacing,
    Start,
    UpdatePrecision,
    Weights,
)
from segviz_exchange.contract.part import Part
from segviz_exchange.contract.training_spec import Training


class SiteRef(Part, frozen=True):
    namespace: str
    name: str


class MemberRef(Part, frozen=True):
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


class PseudoLabels(Part, frozen=True):
    confidence: float
    """The least probability at which the global model's class is a label."""


class Participation(Part, frozen=True):
    max_norm_ratio: float
    """An update that moves farther (L2) than this multiple of the global model's norm is rejected."""
    min_sites: int | None = None
    """How many sites a round needs at its deadline; all of them where it is left out."""
    round_timeout_seconds: int | None = None
    """How long after the previous round's commit a round closes with `min_sites`; never, if left out."""

    def quorum(self, sites: int) -> int:
        """How many of `sites` a round, or the federation's end, needs."""
        return self.min_sites or sites


class Model(Part, frozen=True):
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    residual_units: int
    norm: Norm
    head_levels: int
    """How many of the network's top decoder levels belong to a head; 1 is the paper's (two layers)."""
    start: Start = Start.SEEDED
    """Whether round 0 is the seeded model, or one that `segviz init` brings."""
    preset: Preset = Preset.RESIDUAL_UNET
    encoder_blocks: tuple[int, ...] | None = None
    """Residual blocks of each level, for ResidualEncoder only, which has one where it is left out."""
    deep_supervision: bool = False
    """Whether the loss also looks at the decoder's levels of half and a quarter of the resolution."""
    axis_strides: tuple[tuple[int, int, int], ...] | None = None
    """Along R, A and S, in place of `strides`."""
    kernels: tuple[tuple[int, int, int], ...] | None = None
    """Of each level's convolutions along R, A and S; 3, where it is left out. Not of ResidualUNet."""
    plan: Planning | None = None
    """Whether channels, strides, patch and batch are planned from the sites' fingerprints."""
    memory_mebibytes: int | None = None
    """That a planned training step may hold; of no meaning without a plan."""

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """Strides along R, A and S from each level to the next."""
        return self.axis_strides or tuple((stride, stride, stride) for stride in self.strides)


class IntensityScaling(Part, frozen=True):
    method: Intensity
    window: tuple[float, float] | None = None
    """Lower and upper HU (or other units of the image) mapped to 0 and 1, clipped. For `Window` only."""
    site_windows: bool = False
    """Whether a data set's own window replaces this one."""


class Preprocessing(Part, frozen=True):
    intensity: IntensityScaling
    spacing: Spacing = Spacing.RESAMPLED
    spacing_millimetres: tuple[float, float, float] = (1.5, 1.5, 2.0)
    """Per voxel along R, A, S; of no meaning where the images keep their own spacing."""
    resize: tuple[int, int, int] | None = None
    """Voxels along R, A, S that every image is resized to before the spacing, as in the paper."""
    plan: Planning | None = None
    """Whether all of this is planned from the sites' fingerprints."""

    @property
    def target_spacing(self) -> tuple[float, float, float] | None:
        """What images are resampled to; None where they keep their own spacing."""
        return None if self.spacing is Spacing.NATIVE else self.spacing_millimetres


class FineTuning(Part, frozen=True):
    epochs: int
    learning_rate: float


class Evaluation(Part, frozen=True):
    sites: tuple[MemberRef, ...]
    norm: EvaluationNorm
    overlap: float
    tolerance_millimetres: dict[str, float] | None = None
    """By organ: how far off a surface may lie and still count for NSD; the trainer knows the usual ones."""
    mirroring: bool = False
    """Whether the finished model also looks at each window mirrored along the axes that training mirrors."""
    largest_component: tuple[str, ...] = ()
    """Organs of which the largest connected component alone stays."""


class SecretKeys(Part, frozen=True):
    """Which entries of a Secret hold what."""

    access_key: str = "accessKey"
    secret_key: str = "secretKey"


class SecretRef(Part, frozen=True):
    """A Secret with a store's keys, in the namespace of whoever names it."""

    name: str
    keys: SecretKeys | None = None
    """SegViz's own names, where it is left out."""

    @property
    def entries(self) -> SecretKeys:
        return self.keys or SecretKeys()


class KeyRef(Part, frozen=True):
    name: str
    key: str


class CABundle(Part, frozen=True):
    config_map_key_ref: KeyRef


class Retention(Part, frozen=True):
    policy: RetentionPolicy = RetentionPolicy.KEEP_NEWEST
    rounds: int = 2
    """Newest rounds whose models stay, beside round 0, the best and the final one."""

    @property
    def kept_rounds(self) -> int | None:
        """None keeps the models of all rounds."""
        return None if self.policy is RetentionPolicy.KEEP_ALL else self.rounds


class StsSpec(Part, frozen=True):
    """Where AssumeRole is asked, and for which role; the store itself and none that matters, if left out."""

    endpoint: str | None = None
    role_arn: str | None = None


class StoreSpec(Part, frozen=True):
    """Where the records of a federation in a cluster lie."""

    endpoint: str
    bucket: str
    region: str
    credentials: CredentialSource
    credential_seconds: int
    retention: Retention
    secret_ref: SecretRef | None = None
    """None with WebIdentity alone."""
    ca_bundle: CABundle | None = None
    sts: StsSpec | None = None
    adopt_uid: str | None = None
    """Of the federation whose records this one goes on with."""

    @property
    def url(self) -> str:
        """As `open_store` reads it."""
        return f"{self.endpoint.replace('https://', 's3://').replace('http://', 's3+http://')}/{self.bucket}"


class Updates(Part, frozen=True):
    precision: UpdatePrecision = UpdatePrecision.FLOAT32
    """In what numbers a site's updates travel."""


class FederationSpec(Part, frozen=True):
    sites: tuple[MemberRef, ...]
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
    pseudo_labels: PseudoLabels | None = None
    """For objective PseudoLabels only, which has a confidence of its own where it is left out."""
    fine_tuning: FineTuning | None = None
    ttl_seconds_after_finished: int | None = None
    store: StoreSpec | None = None
    updates: Updates | None = None

    @property
    def update_precision(self) -> UpdatePrecision:
        return UpdatePrecision.FLOAT32 if self.updates is None else self.updates.precision

    @property
    def awaits_plan(self) -> bool:
        """Whether some numbers are still to be planned. Under a control that has them all, sites train."""
        return self.preprocessing.plan is not None or self.model.plan is not None

    @property
    def shared_head(self) -> bool:
        """One head for all organs, in place of a head for each."""
        return self.algorithm.name.is_central or self.objective is not Objective.PER_ORGAN_HEAD


class StudyRowSpec(Part, frozen=True):
    name: str
    spec: dict[str, Any]
    """A merge patch for the federation's spec."""


class Folds(Part, frozen=True):
    """Every row runs once a fold, each time with other cases in the same ranges."""

    folds: int
    by: int
    """Cases that the sorted lists are rotated by from one fold to the next."""


class StudySpec(Part, frozen=True):
    rows: tuple[StudyRowSpec, ...]
    worst_cases: int
    federation: str | None = None
    baseline: str | None = None
    central: str | None = None
    under_test: str | None = None
    """The one federated method that is held against training alone; +FT names its fine-tuned model."""
    rotate: Folds | None = None
