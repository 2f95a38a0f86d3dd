"""A federation without torch: controls, models of a few numbers, and updates written as sites write them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from builders.algorithms import build_algorithm
from segviz_exchange.contract import choices, keys, sharing, spec, training_spec
from segviz_exchange.contract.choices import AlgorithmName, Objective, Selection, Weights
from segviz_exchange.contract.codec import Array, save
from segviz_exchange.contract.ledger import commit, encode
from segviz_exchange.contract.records import Control, Dice, Environment, Member, RoundScores, Update
from segviz_exchange.contract.sharing import (
    COUNTER,
    GROUPS,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
)
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.stores.store import Store

BASEL, BERN, CHUR = "basel", "bern", "chur"
ORGANS = {BASEL: ("liver",), BERN: ("spleen",), CHUR: ("pancreas",)}
ENVIRONMENT = Environment("2.8.0", "cpu", "FP32", "Contiguous", 1)
DIGEST = "0" * 64


def federation(
    *,
    rounds: int = 2,
    algorithm: AlgorithmName = AlgorithmName.FED_AVG,
    weights: Weights = Weights.UNIFORM,
    objective: Objective = Objective.PER_ORGAN_HEAD,
    min_sites: int | None = None,
    round_timeout_seconds: int | None = None,
    max_norm_ratio: float = 10.0,
    selection: Selection = Selection.BEST,
    **parameters: float,
) -> FederationSpec:
    return FederationSpec(
        sites=(),
        rounds=rounds,
        local_epochs=1,
        seed=0,
        algorithm=build_algorithm(algorithm, weights, **parameters),
        objective=objective,
        participation=spec.Participation(max_norm_ratio, min_sites, round_timeout_seconds),
        model=spec.Model((2, 4), (2,), 0, choices.Norm.BATCH, 1),
        preprocessing=spec.Preprocessing(
            spec.IntensityScaling(choices.Intensity.WINDOW, (-200.0, 304.0)), choices.Spacing.NATIVE
        ),
        training=training_spec.Training(
            (8, 8, 8),
            1,
            1,
            1e-4,
            choices.Augmentation.NONE,
            choices.OptimizerState.KEEP,
            choices.Precision.FP32,
            choices.MemoryFormat.CONTIGUOUS,
            1,
        ),
        selection=selection,
        evaluation=spec.Evaluation((), choices.EvaluationNorm.OWN_SITE, 0.5),
        deletion_policy=choices.DeletionPolicy.RETAIN,
        suspend=False,
    )


def control_of(
    organs: Mapping[str, tuple[str, ...]] = ORGANS,
    *,
    number: int = 1,
    suspend: bool = False,
    excluded: Mapping[str, str] | None = None,
    **changes: Any,
) -> Control:
    reasons = excluded or {}
    members = {alias: Member(held, reasons.get(alias)) for alias, held in organs.items()}
    return Control(number, federation(**changes), members, suspend)


def groups_of(control: Control) -> dict[str, TensorGroup]:
    """A convolution and a BatchNorm in the representation, and the same in each head."""
    heads = (SHARED_HEAD,) if control.shared_head else control.organs
    groups = {}
    for prefix, block in [("body.", REPRESENTATION), *((f"heads.{head}.", head) for head in heads)]:
        groups[f"{prefix}conv"] = TensorGroup(block, PARAMETER)
        groups[f"{prefix}norm"] = TensorGroup(block, NORM)
        groups[f"{prefix}seen"] = TensorGroup(block, COUNTER)
    return groups


def model_of(control: Control, seed: int = 0, elements: int = 4) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        name: np.array(seed)
        if group.kind == COUNTER
        else generator.standard_normal(elements).astype(np.float32)
        for name, group in groups_of(control).items()
    }


def initial_metadata(control: Control) -> dict[str, str]:
    return {GROUPS: sharing.encode_groups(groups_of(control))}


def shared_part(model: Mapping[str, Array], site: str, control: Control) -> dict[str, Array]:
    groups = groups_of(control)
    return {name: model[name] for name in sharing.shared_by(site, groups, control)}


def update_of(site: str, round_: int = 1, attempt: int = 1, **changes: Any) -> Update:
    fields: dict[str, Any] = {
        "lease": 1,
        "control": 1,
        "blob": hashlib.sha256(f"{site}/{round_}/{attempt}".encode()).hexdigest(),
        "size_bytes": 1,
        "cases": 10,
        "loss": 0.5,
        "seconds": 1.0,
        "environment": ENVIRONMENT,
    }
    return Update(site=site, round=round_, attempt=attempt, **{**fields, **changes})


def upload_tensors(
    store: Store, site: str, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> tuple[str, int]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "update")
        digest = save(path, tensors, metadata)
        store.upload(keys.site_blob(site, digest), path)
        return digest, path.stat().st_size


def deliver(
    store: Store,
    site: str,
    round_: int,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    attempt: int = 1,
    **changes: Any,
) -> Update:
    """As a trainer does: the blob first, its record last."""
    blob, size_bytes = upload_tensors(store, site, tensors, metadata)
    update = update_of(site, round_, attempt, **{"blob": blob, "size_bytes": size_bytes, **changes})
    return commit(store, keys.update(site, round_, attempt), update)


def deliver_initial(store: Store, control: Control, *, seed: int = 0) -> None:
    for site in control.active:
        deliver(store, site, 0, model_of(control, seed), initial_metadata(control), control=control.number)


def deliver_round(store: Store, control: Control, round_: int) -> None:
    """Every active site's update, the same bytes whenever it is called."""
    for position, site in enumerate(control.active):
        part = shared_part(model_of(control, seed=100 * round_ + position), site, control)
        deliver(store, site, round_, part, control=control.number, cases=position + 1)


def score(store: Store, control: Control, round_: int, dice: float) -> None:
    for site in control.active:
        commit(store, keys.scores(site, round_), scores_of(control, site, round_, dice))


def scores_of(control: Control, site: str, round_: int, dice: float) -> RoundScores:
    return RoundScores(site, round_, {organ: Dice(dice, 0.0, 3) for organ in control.members[site].organs})


def write_control(store: Store, control: Control) -> Control:
    store.create(keys.control(control.number), encode(control))
    return control
