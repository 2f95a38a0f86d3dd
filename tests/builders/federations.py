"""Small federations to decide about: records and specs with every field given, sites as basel, bern, …"""

from typing import Any

import msgspec

from segviz_exchange.contract.records import Control, Dice, Member, Outcome, VariantOutcome
from segviz_exchange.contract.spec import FederationSpec

ORGANS = {"basel": ("liver",), "bern": ("spleen",), "geneva": ("pancreas",)}


def build_spec(sites: tuple[str, ...] = ("basel", "bern"), **changes: Any) -> FederationSpec:
    """A spec as it is after defaulting; `changes` use the manifest's own names."""
    fields: dict[str, Any] = {
        "sites": [_member(alias) for alias in sites],
        "rounds": 3,
        "localEpochs": 2,
        "seed": 0,
        "algorithm": {"name": "FedBN", "weights": "Uniform"},
        "objective": "PerOrganHead",
        "participation": {"maxNormRatio": 10.0},
        "model": {
            "channels": [4, 8],
            "strides": [2],
            "residualUnits": 0,
            "norm": "Batch",
            "headLevels": 1,
        },
        "preprocessing": {
            "spacingMillimetres": [1.5, 1.5, 2.0],
            "intensity": {"method": "Window", "window": [-200, 304]},
        },
        "training": {
            "patch": [8, 8, 8],
            "cropsPerVolume": 1,
            "batchSize": 1,
            "learningRate": 0.001,
            "augmentation": "None",
            "optimizerState": "Keep",
            "precision": "FP32",
            "memoryFormat": "Contiguous",
            "threads": 1,
        },
        "selection": "Best",
        "evaluation": {"sites": [], "norm": "OwnSite", "overlap": 0.5},
        "deletionPolicy": "Retain",
        "suspend": False,
    }
    fields.update(changes)
    if "evaluation_sites" in fields:
        fields["evaluation"]["sites"] = [_member(alias) for alias in fields.pop("evaluation_sites")]
    return msgspec.convert(fields, FederationSpec)


def build_control(
    number: int = 1,
    sites: tuple[str, ...] = ("basel", "bern"),
    excluded: dict[str, str] | None = None,
    sites_in_spec: tuple[str, ...] | None = None,
    **changes: Any,
) -> Control:
    spec = build_spec(sites_in_spec or sites, **changes)
    members = {alias: Member(ORGANS[alias], (excluded or {}).get(alias)) for alias in sites}
    return Control(number, spec, members, spec.suspend)


def build_outcome(site: str, **dice: Dice) -> Outcome:
    """Test scores by variant_organ, as in base_liver=Dice(…)."""
    variants: dict[str, VariantOutcome] = {}
    for name, value in dice.items():
        variant, organ = name.split("_")
        known = variants.get(variant, VariantOutcome({}, (), None))
        variants[variant] = msgspec.structs.replace(known, test={**known.test, organ: value})
    return Outcome(site, 3, variants)


def _member(alias: str) -> dict[str, Any]:
    return {"alias": alias, "siteRef": {"namespace": alias, "name": "site"}}
