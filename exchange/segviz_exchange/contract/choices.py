"""What a manifest may choose from: the enumerations of the API, as the schemas in `crds/` spell them."""

from enum import StrEnum


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
    PSEUDO_LABELS = "PseudoLabels"


class Weights(StrEnum):
    UNIFORM = "Uniform"
    CASES = "Cases"


class Preset(StrEnum):
    RESIDUAL_UNET = "ResidualUNet"
    PLAIN_UNET = "PlainUNet"
    RESIDUAL_ENCODER = "ResidualEncoder"


class Norm(StrEnum):
    BATCH = "Batch"
    INSTANCE = "Instance"


class Precision(StrEnum):
    FP32 = "FP32"
    BF16 = "BF16"


class UpdatePrecision(StrEnum):
    FLOAT32 = "Float32"
    """All values, as they are."""
    FLOAT16_DELTA = "Float16Delta"
    INT8_DELTA = "Int8Delta"


class Tf32(StrEnum):
    ALLOWED = "Allowed"
    DISABLED = "Disabled"


class Determinism(StrEnum):
    STRICT = "Strict"
    FASTEST = "Fastest"


class MemoryFormat(StrEnum):
    CONTIGUOUS = "Contiguous"
    CHANNELS_LAST_3D = "ChannelsLast3d"


class Intensity(StrEnum):
    WINDOW = "Window"
    Z_SCORE = "ZScore"


class Spacing(StrEnum):
    RESAMPLED = "Resampled"
    NATIVE = "Native"


class Planning(StrEnum):
    AUTO = "Auto"


class Augmentation(StrEnum):
    DEFAULT = "Default"
    NONE = "None"
    CUSTOM = "Custom"


class Axis(StrEnum):
    """Where a voxel axis of a prepared image points to, in the order of the axes."""

    RIGHT = "R"
    ANTERIOR = "A"
    SUPERIOR = "S"


class Start(StrEnum):
    SEEDED = "Seeded"
    PRETRAINED = "Pretrained"


class HeadLoss(StrEnum):
    DICE = "Dice"
    DICE_CROSS_ENTROPY = "DiceCrossEntropy"


class OptimizerName(StrEnum):
    ADAM = "Adam"
    ADAM_W = "AdamW"
    SGD = "SGD"


class ScheduleName(StrEnum):
    COSINE = "Cosine"
    POLY = "Poly"


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
    DICOM = "DICOM"


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


class FingerprintPolicy(StrEnum):
    NONE = "None"
    SUMMARY = "Summary"


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class RetentionPolicy(StrEnum):
    KEEP_NEWEST = "KeepNewest"
    KEEP_ALL = "KeepAll"


class CredentialSource(StrEnum):
    ASSUME_ROLE = "AssumeRole"
    EXISTING_SECRETS = "ExistingSecrets"
    WEB_IDENTITY = "WebIdentity"


class UserAssignment(StrEnum):
    FIXED = "Fixed"
    BY_CLUSTER = "ByCluster"


class ImagePullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"
