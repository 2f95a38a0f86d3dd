"""The smallest federation and its sites as types, for volumes of a few voxels. Nothing here imports torch."""

import msgspec

from builders.cubes import SIDE
from segviz_exchange.contract import choices, spec, training_spec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.site_spec import DataSet, HostPathSource, SiteSpec, Split, TrainerPod, Volume
from segviz_exchange.contract.spec import FederationSpec


def small_federation(**changes: object) -> FederationSpec:
    base = FederationSpec(
        sites=(),
        rounds=2,
        local_epochs=2,
        seed=7,
        algorithm=spec.Algorithm(AlgorithmName.FED_BN, choices.Weights.UNIFORM),
        objective=Objective.PER_ORGAN_HEAD,
        participation=spec.Participation(10.0),
        model=spec.Model((4, 8), (2,), 1, choices.Norm.BATCH, 1),
        preprocessing=spec.Preprocessing(
            spec.IntensityScaling(choices.Intensity.Z_SCORE), choices.Spacing.NATIVE
        ),
        training=training_spec.Training(
            patch=(SIDE, SIDE, SIDE),
            crops_per_volume=1,
            batch_size=2,
            learning_rate=1e-2,
            augmentation=choices.Augmentation.NONE,
            optimizer_state=choices.OptimizerState.KEEP,
            precision=choices.Precision.FP32,
            memory_format=choices.MemoryFormat.CHANNELS_LAST_3D,
            threads=1,
        ),
        selection=choices.Selection.BEST,
        evaluation=spec.Evaluation((), choices.EvaluationNorm.OWN_SITE, 0.5),
        deletion_policy=choices.DeletionPolicy.RETAIN,
        suspend=False,
    )
    return msgspec.structs.replace(base, **changes)


def algorithm(name: AlgorithmName, mu: float | None = None, **parameters: float) -> spec.Algorithm:
    return spec.Algorithm(name, choices.Weights.UNIFORM, mu, **parameters)


def site_spec(organs: tuple[str, ...], **changes: object) -> SiteSpec:
    base = SiteSpec(
        role=choices.Role.TRAINING,
        volume=Volume(host_path=HostPathSource("/")),
        data_sets=(
            DataSet(
                name="cubes",
                path=".",
                layout=choices.Layout.LIST,
                organs={organ: (index + 1,) for index, organ in enumerate(organs)},
                background=(),
            ),
        ),
        split=Split(60, 20, 20),
        on_bad_case=choices.OnBadCase.REFUSE,
        max_case_mebibytes=64,
        allowed_federations=(),
        release=choices.Release.HEADS_AND_NORM,
        scores=choices.Scores.PER_CASE,
        suspend=False,
        remote=False,
        trainer=TrainerPod(choices.ImagePullPolicy.IF_NOT_PRESENT),
    )
    return msgspec.structs.replace(base, **changes)


def pooled_spec(organs: tuple[str, ...]) -> SiteSpec:
    """A site with a data set for each organ."""
    data_sets = tuple(
        DataSet(organ, organ, choices.Layout.LIST, {organ: (index + 1,)}, ())
        for index, organ in enumerate(organs)
    )
    return site_spec(organs, data_sets=data_sets)
