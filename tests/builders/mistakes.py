"""Manifests with one mistake each, and what must be said about it: `segviz validate` and a real API server
are both held to this table. `VARIANTS` have no mistake, though they may look it."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REMOVED = object()


def build_federation() -> dict[str, Any]:
    """The shortest manifest there is."""
    return {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizFederation",
        "metadata": {"name": "abdomen", "namespace": "default"},
        "spec": {
            "sites": [
                {"alias": "basel", "siteRef": {"namespace": "basel", "name": "liver"}},
                {"alias": "bern", "siteRef": {"namespace": "bern", "name": "spleen"}},
            ]
        },
    }


def build_site(name: str = "liver", organ: str = "liver") -> dict[str, Any]:
    """The shortest manifest there is."""
    return {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizSite",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "volume": {"persistentVolumeClaim": {"claimName": "images"}},
            "dataSets": [{"name": "ct", "layout": "MSD", "organs": {organ: [1]}}],
        },
    }


def changed(manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the fields at the given paths set, or REMOVED."""
    result = copy.deepcopy(dict(manifest))
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
        place: Any = result
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
        if value is REMOVED:
            del place[last]
        elif isinstance(place, list) and last == len(place):
            place.append(value)
        else:
            place[last] = value
    return result


@dataclass(frozen=True)
class Mistake:
    manifest: dict[str, Any]
    path: str
    """Of the field that the message names."""
    says: tuple[str, ...]


def federation(changes: Mapping[str, Any], path: str, *says: str) -> Mistake:
    return Mistake(changed(build_federation(), changes), path, says)


def site(changes: Mapping[str, Any], path: str, *says: str) -> Mistake:
    return Mistake(changed(build_site(), changes), path, says)


DATA_SET = "spec.dataSets[0]"
MEMBER = {"alias": "basel", "siteRef": {"namespace": "chur", "name": "kidneys"}}

STORE = {"endpoint": "https://minio.example:9000", "bucket": "segviz", "secretRef": {"name": "bucket"}}
TRAINER = {
    "image": "registry.example/segviz-trainer@sha256:" + "0" * 64,
    "resources": {
        "requests": {"cpu": 4, "memory": "16Gi"},
        "limits": {"nvidia.com/gpu": 1, "nvidia.com/mig-1g.5gb": "1"},
    },
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    },
    "queueName": "gpus",
    "podMetadata": {
        "labels": {"team": "radiology", "example.org/cost-centre": ""},
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "note": "any text, 1/2"},
    },
    "supplementalGroups": [4711, 2147483647],
    "userAssignment": "ByCluster",
    "idleRelease": {"afterSeconds": 600},
}

MISTAKES: dict[str, Mistake] = {
    "a store's Secret under its old name": federation(
        {"spec.store": {"endpoint": "https://minio.example", "bucket": "segviz", "existingSecret": "bucket"}},
        "spec.store.existingSecret",
        "Write secretRef: {name: NAME}.",
    ),
    "a store's CA under its old name": federation(
        {"spec.store": {**STORE, "caBundle": {"configMap": "ca"}}},
        "spec.store.caBundle.configMap",
        "Write configMapKeyRef: {name: NAME, key: ca.crt}.",
    ),
    "a site's Secret under its old name": site(
        {"spec.storeSecret": "bucket"}, "spec.storeSecret", "Write storeSecretRef: {name: NAME}."
    ),
    "a store without its scheme": federation(
        {"spec.store": {**STORE, "endpoint": "minio.example:9000"}},
        "spec.store.endpoint",
        "minio.example:9000",
    ),
    "a store's address without its brackets": federation(
        {"spec.store": {**STORE, "endpoint": "https://2001:db8::1:9000"}},
        "spec.store.endpoint",
        "2001:db8::1",
    ),
    "a store without its Secret": federation(
        {"spec.store": {"endpoint": "https://minio.example", "bucket": "segviz"}},
        "spec.store.secretRef",
        "secretRef: {name: NAME}",
    ),
    "a Secret beside the operator's identity": federation(
        {"spec.store": {**STORE, "credentials": "WebIdentity"}}, "spec.store.secretRef", "Leave it out."
    ),
    "a role beside the operator's identity": federation(
        {
            "spec.store": {
                "endpoint": "https://minio.example",
                "bucket": "segviz",
                "credentials": "WebIdentity",
                "sts": {"endpoint": "https://sts.example"},
            }
        },
        "spec.store.sts",
        "Leave it out.",
    ),
    "a role that is no ARN": federation(
        {"spec.store": {**STORE, "sts": {"roleArn": "segviz-and-some-more"}}},
        "spec.store.sts.roleArn",
        "segviz-and-some-more",
    ),
    "a release at once": site(
        {"spec.trainer.idleRelease": {"afterSeconds": 0}}, "spec.trainer.idleRelease.afterSeconds", "0"
    ),
    "ids of nobody": site({"spec.trainer.userAssignment": "Root"}, "spec.trainer.userAssignment", "Root"),
    "a quantity that is none": site(
        {"spec.trainer.resources.requests": {"memory": "16 GB"}},
        "spec.trainer.resources.requests.memory",
        "16 GB",
    ),
    **{
        f"{resource} {value!r}": site(
            {f"spec.trainer.resources.{part}": {resource: value}},
            f"spec.trainer.resources.{part}.{resource}",
            "not a whole number or text",
            *(['Put it in quotes, as "0.5" or "500m".'] if value == 0.5 else []),
        )
        for part, resource, value in (
            ("limits", "cpu", 0.5),
            ("requests", "cpu", 0.5),
            ("limits", "nvidia.com/gpu", 0.5),
            ("requests", "memory", 1.5),
            ("limits", "cpu", True),
            ("limits", "cpu", [1]),
            ("limits", "memory", {}),
        )
    },
    **{
        f"the {part} {key} of a Pod": site(
            {"spec.trainer.podMetadata": {part: {key: "x"}}}, f"spec.trainer.podMetadata.{part}", says
        )
        for part, key, says in (
            ("labels", "segviz.dev/site", "Leave it out;"),
            ("labels", "app.kubernetes.io/managed-by", "Leave it out;"),
            ("labels", "job-name", "Leave it out;"),
            ("labels", "kueue.x-k8s.io/queue-name", "there is queueName"),
            ("annotations", "segviz.dev/failures", "Leave it out;"),
            ("annotations", "batch.kubernetes.io/job-name", "Leave it out;"),
            ("labels", "a b", "no name that Kubernetes takes"),
            ("annotations", "x" * 64, "no name that Kubernetes takes"),
        )
    },
    "a label's value that is none": site(
        {"spec.trainer.podMetadata": {"labels": {"team": "a b"}}},
        "spec.trainer.podMetadata.labels.team",
        "It must match",
    ),
    "a number as an annotation": site(
        {"spec.trainer.podMetadata": {"annotations": {"cost": 3}}},
        "spec.trainer.podMetadata.annotations.cost",
        "Put it in quotes.",
    ),
    "the group of root": site(
        {"spec.trainer.supplementalGroups": [0]}, "spec.trainer.supplementalGroups[0]", "Give at least 1."
    ),
    "a group twice": site(
        {"spec.trainer.supplementalGroups": [7, 7]}, "spec.trainer.supplementalGroups[1]", "Write it once."
    ),
    # A federation's sites.
    "no sites": federation({"spec.sites": []}, "spec.sites", "has 0 entries", "at least 1"),
    "sites left out": federation({"spec.sites": REMOVED}, "spec.sites", "is missing", "Add it"),
    "spec left out": federation({"spec": REMOVED}, "spec", "is missing"),
    "an alias used twice": federation(
        {"spec.sites[2]": MEMBER},
        "spec.sites[2].alias",
        '"basel" is already used by spec.sites[0]. Give each site its own alias.',
    ),
    "an alias in capitals": federation({"spec.sites[0].alias": "Basel"}, "spec.sites[0].alias", "DNS label"),
    "an alias with a newline": federation(
        {"spec.sites[0].alias": "basel\n"}, "spec.sites[0].alias", "DNS label"
    ),
    "an alias too long": federation({"spec.sites[0].alias": "a" * 64}, "spec.sites[0].alias", "at most 63"),
    "an alias that YAML takes for a boolean": federation(
        {"spec.sites[0].alias": False}, "spec.sites[0].alias", "is false, not text", "quotes"
    ),
    "an alias that is a number": federation(
        {"spec.sites[0].alias": 7}, "spec.sites[0].alias", "is 7, not text", "Put it in quotes."
    ),
    "a site without a reference": federation(
        {"spec.sites[0].siteRef": REMOVED}, "spec.sites[0].siteRef", "is missing"
    ),
    "a reference misspelt": federation(
        {"spec.sites[0].siteRef": {"namspace": "basel", "name": "liver"}},
        "spec.sites[0].siteRef.namespace",
        "is missing. Rename namspace.",
    ),
    "sites as a mapping": federation(
        {"spec.sites": {"basel": "liver"}}, "spec.sites", "is a mapping, not a list"
    ),
    # Unknown fields.
    "a field misspelt": federation({"spec.round": 3}, "spec.round", "Did you mean rounds?"),
    "a field in the wrong place": federation(
        {"spec.batchSize": 3}, "spec.batchSize", "It belongs at spec.training.batchSize."
    ),
    "a field nobody knows": federation(
        {"spec.model.zzz": 3}, "spec.model.zzz", "Fields here: axisStrides, channels,"
    ),
    "an unknown field at the top": federation({"sepc": {}}, "sepc", "Did you mean spec?"),
    # Numbers.
    "no rounds": federation({"spec.rounds": 0}, "spec.rounds", "0 is too small. Give at least 1."),
    "rounds as text": federation(
        {"spec.rounds": "50"}, "spec.rounds", 'is the text "50", not a whole number', "without quotes"
    ),
    "half a round": federation({"spec.rounds": 2.5}, "spec.rounds", "is 2.5, not a whole number"),
    "a negative seed": federation({"spec.seed": -1}, "spec.seed", "-1 is too small. Give at least 0."),
    "a seed too large": federation({"spec.seed": 2**31}, "spec.seed", "Give at most 2147483647."),
    "no learning rate": federation(
        {"spec.training.learningRate": 0}, "spec.training.learningRate", "Give more than 0."
    ),
    "an overlap of one": federation(
        {"spec.evaluation.overlap": 1}, "spec.evaluation.overlap", "less than 1."
    ),
    "a norm ratio of one": federation(
        {"spec.participation.maxNormRatio": 1}, "spec.participation.maxNormRatio", "Give more than 1."
    ),
    "suspend as text": federation({"spec.suspend": "true"}, "spec.suspend", "true or false, without quotes"),
    # Choices.
    "an algorithm misspelt": federation(
        {"spec.algorithm.name": "FedBn"},
        "spec.algorithm.name",
        '"FedBn" is not a valid choice. Did you mean FedBN?',
    ),
    "an objective that is none": federation(
        {"spec.objective": "xyz"}, "spec.objective", "Choose one of PerOrganHead, Marginal,"
    ),
    "a choice that YAML takes for a boolean": federation(
        {"spec.selection": True}, "spec.selection", "booleans", "Choose one of Best, Last."
    ),
    # Durations.
    "a duration with a fraction": federation(
        {"spec.participation.roundTimeoutSeconds": 1.5},
        "spec.participation.roundTimeoutSeconds",
        "is 1.5, not a whole number",
    ),
    "a duration of nothing": federation(
        {"spec.participation.roundTimeoutSeconds": 0},
        "spec.participation.roundTimeoutSeconds",
        "Give at least 1.",
    ),
    "a duration under its old name": federation(
        {"spec.participation.roundTimeout": "1h30m"},
        "spec.participation.roundTimeout",
        "Write roundTimeoutSeconds, a whole number.",
    ),
    # Rules across fields.
    "FedProx without mu": federation(
        {"spec.algorithm.name": "FedProx"},
        "spec.algorithm.proximalMu",
        "FedProx needs proximalMu (0.01",
        "Add it",
    ),
    "TrimmedMean without a fraction": federation(
        {"spec.algorithm.name": "TrimmedMean"},
        "spec.algorithm.trimFraction",
        "TrimmedMean needs trimFraction (0.2",
        "Add it",
    ),
    "a fraction without TrimmedMean": federation(
        {"spec.algorithm.trimFraction": 0.2}, "spec.algorithm.trimFraction", "TrimmedMean", "leave it out"
    ),
    "a trim of one half": federation(
        {"spec.algorithm": {"name": "TrimmedMean", "trimFraction": 0.5}}, "spec.algorithm.trimFraction", "0.5"
    ),
    "a server's rate without a server optimiser": federation(
        {"spec.algorithm.serverLearningRate": 0.1},
        "spec.algorithm.serverLearningRate",
        "FedAvgM and FedAdam",
        "Leave it out",
    ),
    "momentum with FedAdam": federation(
        {"spec.algorithm": {"name": "FedAdam", "momentum": 0.9}}, "spec.algorithm.momentum", "FedAvgM"
    ),
    "beta1 with FedAvgM": federation(
        {"spec.algorithm": {"name": "FedAvgM", "beta1": 0.9}}, "spec.algorithm.beta1", "FedAdam"
    ),
    "beta2 with FedAvg": federation(
        {"spec.algorithm": {"name": "FedAvg", "beta2": 0.9}}, "spec.algorithm.beta2", "FedAdam"
    ),
    "tau with FedAvg": federation(
        {"spec.algorithm": {"name": "FedAvg", "tau": 0.1}}, "spec.algorithm.tau", "FedAdam"
    ),
    "a weighted median": federation(
        {"spec.algorithm": {"name": "Median", "weights": "Cases"}},
        "spec.algorithm.weights",
        "give every site the same weight",
        "weights Uniform",
    ),
    "Central with an objective": federation(
        {"spec.algorithm.name": "Central", "spec.objective": "Marginal"},
        "spec.objective",
        "a loss of their own",
        "Leave objective out",
    ),
    "confidence without pseudo-labels": federation(
        {"spec.pseudoLabels": {"confidence": 0.8}}, "spec.pseudoLabels", "objective PseudoLabels"
    ),
    "a confidence that nothing reaches": federation(
        {"spec.objective": "PseudoLabels", "spec.pseudoLabels": {"confidence": 1}},
        "spec.pseudoLabels.confidence",
        "less than 1",
    ),
    "a temperature without distillation": federation(
        {"spec.distillation": {"temperature": 3}},
        "spec.distillation",
        "objective ConditionalDistillation",
        "Leave it out",
    ),
    "mu without FedProx": federation(
        {"spec.algorithm.proximalMu": 0.1}, "spec.algorithm.proximalMu", "0.1: FedProx needs", "leave it out"
    ),
    "Window without a window": federation(
        {"spec.preprocessing.intensity": {"method": "Window"}},
        "spec.preprocessing.intensity.window",
        "method Window needs window",
    ),
    "a window without Window": federation(
        {"spec.preprocessing.intensity": {"method": "ZScore", "window": [0, 1]}},
        "spec.preprocessing.intensity.window",
        "ZScore takes none",
    ),
    "a window upside down": federation(
        {"spec.preprocessing.intensity": {"method": "Window", "window": [304, -200]}},
        "spec.preprocessing.intensity.window",
        "[304, -200]: the first number",
        "Write the lower value first.",
    ),
    "an intensity without a method": federation(
        {"spec.preprocessing.intensity": {}}, "spec.preprocessing.intensity.method", "is missing"
    ),
    "two spacings": federation(
        {"spec.preprocessing.spacingMillimetres": [1, 2]},
        "spec.preprocessing.spacingMillimetres",
        "has 2 entries. Give exactly 3.",
    ),
    "a spacing of nothing": federation(
        {"spec.preprocessing.spacingMillimetres": [1, 0, 1]},
        "spec.preprocessing.spacingMillimetres[1]",
        "Give more than 0.",
    ),
    "a spacing in its old place": federation(
        {"spec.preprocessing.spacing": [1.5, 1.5, 2.0]},
        "spec.preprocessing.spacing",
        "Write numbers under spacingMillimetres",
    ),
    "a spacing of none": federation(
        {"spec.preprocessing": {"spacing": "Native", "spacingMillimetres": [1, 1, 1]}},
        "spec.preprocessing.spacingMillimetres",
        "Leave it out, or choose spacing Resampled.",
    ),
    "a number of rounds of all": federation(
        {"spec.store": {**STORE, "retention": {"policy": "KeepAll", "rounds": 5}}},
        "spec.store.retention.rounds",
        "Leave it out, or choose policy KeepNewest.",
    ),
    "strides that do not fit": federation(
        {"spec.model.strides": [2, 2]}, "spec.model.strides", "[2, 2]: strides has the wrong length"
    ),
    "a stride of three": federation(
        {"spec.model.strides": [2, 2, 2, 3]}, "spec.model.strides[3]", "3 is too large. Give at most 2."
    ),
    "strides by axis that do not fit": federation(
        {"spec.model.axisStrides": [[2, 2, 1], [2, 2, 2]]},
        "spec.model.axisStrides",
        "axisStrides has the wrong length",
        "one triple fewer than channels",
    ),
    "strides of two axes": federation(
        {"spec.model.axisStrides": [[2, 2, 1], [2, 2], [2, 2, 2], [2, 2, 2]]}, "spec.model.axisStrides[1]"
    ),
    "a patch that the strides of an axis do not divide": federation(
        {
            "spec.model.axisStrides": [[2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2]],
            "spec.training.patch": [128, 128, 9],
        },
        "spec.training.patch",
        "[128, 128, 9]: a side of the patch does not halve evenly",
    ),
    "kernels of a network that has none to choose": federation(
        {"spec.model.kernels": [[3, 3, 1]] * 5}, "spec.model.kernels", "belongs to presets PlainUNet"
    ),
    "kernels for too few levels": federation(
        {"spec.model": {"preset": "PlainUNet", "kernels": [[3, 3, 1], [3, 3, 3]]}},
        "spec.model.kernels",
        "one triple for each of channels",
    ),
    "an even kernel": federation(
        {"spec.model": {"preset": "PlainUNet", "kernels": [[3, 3, 2], *[[3, 3, 3]] * 4]}},
        "spec.model.kernels[0][2]",
    ),
    "a head deeper than the decoder": federation(
        {"spec.model": {"channels": [4, 8], "strides": [2], "headLevels": 2}},
        "spec.model.headLevels",
        "Lower headLevels,",
    ),
    "a patch that strides do not divide": federation(
        {"spec.training.patch": [128, 128, 24]},
        "spec.training.patch",
        "[128, 128, 24]: a side of the patch does not halve evenly",
        "Round each side up",
    ),
    "a patch that ends as one voxel": federation(
        {"spec.training.patch": [128, 128, 16]},
        "spec.training.patch",
        "[128, 128, 16]: a side of the patch is too short",
        "Enlarge the patch",
    ),
    "FedBN without BatchNorm": federation(
        {"spec.model.norm": "Instance"}, "spec.model.norm", "Choose algorithm.name FedAvg"
    ),
    "a loss of heads where there is one head for all": federation(
        {"spec.objective": "Marginal", "spec.training.loss": "Dice"},
        "spec.training.loss",
        "belongs to objective PerOrganHead",
        "Leave it out",
    ),
    "a loss of heads with Central": federation(
        {"spec.algorithm.name": "Central", "spec.training.loss": "DiceCrossEntropy"},
        "spec.training.loss",
        "have a loss of their own",
    ),
    "momentum with Adam": federation(
        {"spec.training.optimizer": {"momentum": 0.9}},
        "spec.training.optimizer.momentum",
        "belongs to SGD",
        "Leave it out",
    ),
    "a momentum of one": federation(
        {"spec.training.optimizer": {"name": "SGD", "momentum": 1}},
        "spec.training.optimizer.momentum",
        "less than 1",
    ),
    "a warm-up as long as the training": federation(
        {"spec.rounds": 3, "spec.localEpochs": 2, "spec.training.schedule": {"warmupEpochs": 6}},
        "spec.training.schedule.warmupEpochs",
        "takes all epochs",
        "Give fewer warmupEpochs",
    ),
    "no gradient at all": federation(
        {"spec.training.maxGradientNorm": 0}, "spec.training.maxGradientNorm", "Give more than 0."
    ),
    "more than every crop": federation(
        {"spec.training.foregroundShare": 1.5}, "spec.training.foregroundShare", "Give at most 1."
    ),
    "transforms that nobody asks for": federation(
        {"spec.training.transforms": {"noise": {}}},
        "spec.training.transforms",
        "augmentation Custom needs transforms",
        "leave them out",
    ),
    "Custom without transforms": federation(
        {"spec.training.augmentation": "Custom"}, "spec.training.transforms", "Add them"
    ),
    "a range upside down": federation(
        {"spec.training": {"augmentation": "Custom", "transforms": {"gamma": {"range": [1.5, 0.7]}}}},
        "spec.training.transforms.gamma.range",
        "Write the lower first.",
    ),
    "mirroring along nothing": federation(
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {}}}},
        "spec.training.transforms.mirroring.axes",
        "is missing",
    ),
    "an axis twice": federation(
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["A", "A"]}}}},
        "spec.training.transforms.mirroring.axes[1]",
        "Write it once.",
    ),
    "an axis that there is not": federation(
        {"spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["L"]}}}},
        "spec.training.transforms.mirroring.axes[0]",
        "Choose one of R, A, S.",
    ),
    "residual units where there are none": federation(
        {"spec.model": {"preset": "PlainUNet", "residualUnits": 3}},
        "spec.model.residualUnits",
        "belongs to preset ResidualUNet",
        "Leave it out",
    ),
    "blocks where there are none": federation(
        {"spec.model.encoderBlocks": [1, 3, 4, 6, 6]},
        "spec.model.encoderBlocks",
        "belongs to preset ResidualEncoder",
    ),
    "blocks for too few levels": federation(
        {"spec.model": {"preset": "ResidualEncoder", "encoderBlocks": [1, 3]}},
        "spec.model.encoderBlocks",
        "one number for each of channels",
    ),
    "deep supervision of one level": federation(
        {"spec.model": {"channels": [4, 8], "strides": [2], "deepSupervision": True}},
        "spec.model.deepSupervision",
        "needs a decoder of two levels",
    ),
    "a network that there is not": federation(
        {"spec.model.preset": "PlainUnet"}, "spec.model.preset", "Did you mean PlainUNet?"
    ),
    "mirrored windows for a model that never saw one": federation(
        {"spec.evaluation.mirroring": True},
        "spec.evaluation.mirroring",
        "never seen a mirrored image",
        "Leave mirroring out",
    ),
    "a component twice": federation(
        {"spec.evaluation": {"largestComponent": ["liver", "liver"]}},
        "spec.evaluation.largestComponent[1]",
        "Write it once.",
    ),
    "fine-tuning without epochs": federation(
        {"spec.fineTuning": {}}, "spec.fineTuning.epochs", "is missing. Add it: Epochs of fine-tuning."
    ),
    "an external alias used twice": federation(
        {"spec.evaluation.sites": [MEMBER, MEMBER]},
        "spec.evaluation.sites[1].alias",
        "is already used by spec.evaluation.sites[0]",
    ),
    # A site.
    "no volume": site({"spec.volume": {}}, "spec.volume", "exactly one source", "Give either"),
    "two volumes": site({"spec.volume.hostPath": {"path": "/data"}}, "spec.volume", "exactly one source"),
    "a relative host path": site(
        {"spec.volume": {"hostPath": {"path": "data"}}}, "spec.volume.hostPath.path", "absolute path"
    ),
    "a split of 110": site(
        {"spec.split": {"train": 80}}, "spec.split", "must add up to 100", "Give all three."
    ),
    "no data sets": site({"spec.dataSets": []}, "spec.dataSets", "has 0 entries. Give at least 1."),
    "a data set used twice": site(
        {"spec.dataSets[1]": {"name": "ct", "layout": "BTCV", "organs": {"spleen": [1]}}},
        "spec.dataSets[1].name",
        "Give each entry its own name.",
    ),
    "no organs for label ids": site({f"{DATA_SET}.organs": REMOVED}, f"{DATA_SET}.organs", "is missing"),
    "no structures for DICOM": site(
        {f"{DATA_SET}.layout": "DICOM", f"{DATA_SET}.organs": REMOVED}, f"{DATA_SET}.structures", "is missing"
    ),
    "label ids for DICOM": site(
        {f"{DATA_SET}.layout": "DICOM", f"{DATA_SET}.structures": {"liver": ["Liver"]}},
        f"{DATA_SET}.organs",
        "under structures instead",
    ),
    "structures for label ids": site(
        {f"{DATA_SET}.structures": {"liver": ["Liver"]}}, f"{DATA_SET}.structures", "under organs instead"
    ),
    "background for DICOM": site(
        {
            f"{DATA_SET}.layout": "DICOM",
            f"{DATA_SET}.organs": REMOVED,
            f"{DATA_SET}.structures": {"liver": ["Liver"]},
            f"{DATA_SET}.background": [3],
        },
        f"{DATA_SET}.background",
        "Remove background and ignored.",
    ),
    "an organ of structures in capitals": site(
        {
            f"{DATA_SET}.layout": "DICOM",
            f"{DATA_SET}.organs": REMOVED,
            f"{DATA_SET}.structures": {"Liver": ["Liver"]},
        },
        f"{DATA_SET}.structures",
        "lower-case letters",
    ),
    "no organs": site({f"{DATA_SET}.organs": {}}, f"{DATA_SET}.organs", "is missing"),
    "an organ in capitals": site(
        {f"{DATA_SET}.organs": {"Liver": [1]}}, f"{DATA_SET}.organs", "lower-case letters", "Rename it."
    ),
    "an organ called background": site(
        {f"{DATA_SET}.organs": {"background": [1]}}, f"{DATA_SET}.organs", 'not "background"'
    ),
    "an organ without ids": site(
        {f"{DATA_SET}.organs.liver": []}, f"{DATA_SET}.organs.liver", "Give at least 1."
    ),
    "an id twice in an organ": site(
        {f"{DATA_SET}.organs.liver": [1, 1]}, f"{DATA_SET}.organs.liver[1]", "Write it once."
    ),
    "an id of two organs": site(
        {f"{DATA_SET}.organs.spleen": [1, 2]}, f"{DATA_SET}.organs", "Give each id to one organ."
    ),
    "an id of an organ and of the background": site(
        {f"{DATA_SET}.background": [1]}, f"{DATA_SET}.background", "Remove it from one of the two."
    ),
    "an id of an organ that is ignored": site(
        {f"{DATA_SET}.ignored": [1]}, f"{DATA_SET}.ignored", "Remove it from one of them."
    ),
    "a background id that is ignored": site(
        {f"{DATA_SET}.background": [7], f"{DATA_SET}.ignored": [7]}, f"{DATA_SET}.ignored", "ignored and"
    ),
    "a data set's window upside down": site(
        {f"{DATA_SET}.window": [164, -57]}, f"{DATA_SET}.window", "Write the lower value first."
    ),
    "privacy without a norm": site(
        {"spec.privacy": {"noiseMultiplier": 1}}, "spec.privacy.clipNorm", "is missing"
    ),
    "a budget without noise": site(
        {"spec.privacy": {"clipNorm": 1, "maxEpsilon": 8}},
        "spec.privacy.maxEpsilon",
        "Add noiseMultiplier, or remove maxEpsilon.",
    ),
    "a budget of nothing": site(
        {"spec.privacy": {"clipNorm": 1, "noiseMultiplier": 5, "maxEpsilon": 0}},
        "spec.privacy.maxEpsilon",
        "more than 0",
    ),
    "site windows without a window": federation(
        {"spec.preprocessing.intensity": {"method": "ZScore", "siteWindows": True}},
        "spec.preprocessing.intensity.siteWindows",
        "belongs to method Window",
    ),
    "background as an organ's id": site(
        {f"{DATA_SET}.organs.liver": [0]}, f"{DATA_SET}.organs.liver[0]", "Give at least 1."
    ),
    "a path out of the volume": site(
        {f"{DATA_SET}.path": "a/../../b"}, f"{DATA_SET}.path", 'Write it without "..".'
    ),
    "an absolute path": site({f"{DATA_SET}.path": "/data"}, f"{DATA_SET}.path", "Folder inside the volume"),
    "an unknown layout": site({f"{DATA_SET}.layout": "KITS19"}, f"{DATA_SET}.layout", "Did you mean KiTS19?"),
    "an empty range of cases": site(
        {f"{DATA_SET}.cases": {"start": 70, "stop": 70}}, f"{DATA_SET}.cases.stop", "stop is not after start"
    ),
    "a release that YAML takes for a boolean": site({"spec.release": False}, "spec.release", "booleans"),
    "a federation without its namespace": site(
        {"spec.allowedFederations": [{"name": "abdomen"}]},
        "spec.allowedFederations[0].namespace",
        "is missing",
    ),
    "a federation allowed twice": site(
        {"spec.allowedFederations": [{"namespace": "a", "name": "b"}] * 2},
        "spec.allowedFederations[1].namespace",
        "is already used by spec.allowedFederations[0]",
    ),
    "a federation allowed as text": site(
        {"spec.allowedFederations": ["a/b"]},
        "spec.allowedFederations[0]",
        "such as {namespace: radiology, name: abdomen}.",
    ),
    "a UID that is none": site(
        {"spec.allowedFederations": [{"namespace": "a", "name": "b", "uid": "1234"}]},
        "spec.allowedFederations[0].uid",
        "It must match",
    ),
    "a UID in the name": site(
        {"spec.allowedFederations": [{"namespace": "a", "name": "b@0b6e5f8a-1111-2222-3333-444444444444"}]},
        "spec.allowedFederations[0].name",
        "It must match",
    ),
    "a limit that is misspelt": site(
        {"spec.limits.maxRound": 3}, "spec.limits.maxRound", "Did you mean maxRounds?"
    ),
    "an algorithm that there is none of": site(
        {"spec.limits.algorithms": ["FedAVG"]}, "spec.limits.algorithms[0]", "Did you mean FedAvg?"
    ),
    "no rounds at all": site({"spec.limits.maxRounds": 0}, "spec.limits.maxRounds", "1"),
    # Metadata.
    "a name in capitals": site({"metadata.name": "Liver"}, "metadata.name", "lower-case letters"),
    "a name with a newline": site({"metadata.name": "liver\n"}, "metadata.name", "lower-case letters"),
    "no name": site({"metadata.name": REMOVED}, "metadata.name", "is missing"),
    "metadata misspelt": site({"metadata.label": {}}, "metadata.label", "Did you mean labels?"),
    "a label that is no text": site({"metadata.labels": {"gpu": True}}, "metadata.labels", "quotes"),
}

VARIANTS: dict[str, dict[str, Any]] = {
    "a store with its own CA": changed(
        build_federation(), {"spec.store": {**STORE, "caBundle": {"configMapKeyRef": {"name": "ca"}}}}
    ),
    "a store by the operator's own identity": changed(
        build_federation(),
        {
            "spec.store": {
                "endpoint": "https://[2001:db8::1]:9000",
                "bucket": "segviz",
                "credentials": "WebIdentity",
            }
        },
    ),
    "a store with a role and somebody else's Secret": changed(
        build_federation(),
        {
            "spec.store": {
                **STORE,
                "secretRef": {"name": "rook", "keys": {"accessKey": "AWS_ACCESS_KEY_ID"}},
                "sts": {
                    "endpoint": "https://sts.eu-central-1.amazonaws.com",
                    "roleArn": "arn:aws:iam::123456789012:role/segviz",
                },
            }
        },
    ),
    "the shortest federation": build_federation(),
    "the shortest site": build_site(),
    "exact arithmetic on a GPU": changed(
        build_federation(), {"spec.training.tf32": "Disabled", "spec.training.determinism": "Strict"}
    ),
    "updates in eight bits": changed(build_federation(), {"spec.updates": {"precision": "Int8Delta"}}),
    "updates that say nothing": changed(build_federation(), {"spec.updates": {}}),
    "native spacing": changed(build_federation(), {"spec.preprocessing.spacing": "Native"}),
    "null where there is a default": changed(build_federation(), {"spec.rounds": None, "spec.model": None}),
    "null where there is none": changed(build_federation(), {"spec.fineTuning": None}),
    "a site with windows, tumours and noise": changed(
        build_site(),
        {
            f"{DATA_SET}.ignored": [2],
            f"{DATA_SET}.window": [-57, 164],
            "spec.privacy": {"clipNorm": 1, "noiseMultiplier": 0.5, "maxEpsilon": 8},
        },
    ),
    "a site with limits": changed(
        build_site(),
        {
            "spec.allowedFederations": [
                {"namespace": "a", "name": "b", "uid": "0b6e5f8a-1111-2222-3333-444444444444"},
                {"namespace": "a", "name": "c"},
            ],
            "spec.limits": {
                "algorithms": ["FedBN", "Median"],
                "objectives": ["PerOrganHead"],
                "starts": ["Seeded"],
                "maxRounds": 100,
                "minCases": 20,
                "minSteps": 100,
            },
        },
    ),
    "a site with DICOM": changed(
        build_site(),
        {
            f"{DATA_SET}.layout": "DICOM",
            f"{DATA_SET}.organs": REMOVED,
            f"{DATA_SET}.structures": {"liver": ["Liver", "liver_*", "SCT:10200004"]},
        },
    ),
    "the paper's preprocessing": changed(
        build_federation(),
        {
            "spec.preprocessing": {
                "resize": [256, 256, 128],
                "intensity": {"method": "Window", "window": [-200, 304], "siteWindows": True},
            },
            "spec.training.augmentation": "None",
        },
    ),
    "nnU-Net's way to train": changed(
        build_federation(),
        {
            "spec.training.loss": "DiceCrossEntropy",
            "spec.training.optimizer": {"name": "SGD", "momentum": 0.99, "weightDecay": 3e-5},
            "spec.training.schedule": {"name": "Poly", "warmupEpochs": 5},
            "spec.training.maxGradientNorm": 12,
            "spec.training.foregroundShare": 0.33,
        },
    ),
    "every transform": changed(
        build_federation(),
        {
            "spec.training.augmentation": "Custom",
            "spec.training.transforms": {
                "rotation": {"probability": 0.2, "degrees": [30, 30, 30]},
                "scaling": {"range": [0.7, 1.4]},
                "mirroring": {"axes": ["S", "A"]},
            }
            | {
                name: {}
                for name in (
                    *("noise", "blur", "brightness", "contrast"),
                    *("lowResolution", "gamma", "invertedGamma"),
                )
            },
        },
    ),
    "nnU-Net's network": changed(
        build_federation(),
        {"spec.algorithm.name": "FedAvg"}
        | {"spec.model": {"preset": "PlainUNet", "norm": "Instance", "deepSupervision": True}},
    ),
    "a residual encoder": changed(
        build_federation(),
        {"spec.model": {"preset": "ResidualEncoder", "encoderBlocks": [1, 3, 4, 6, 6]}},
    ),
    "how the finished model predicts": changed(
        build_federation(),
        {
            "spec.evaluation": {"mirroring": True, "largestComponent": ["liver"]},
            "spec.training": {"augmentation": "Custom", "transforms": {"mirroring": {"axes": ["A"]}}},
        },
    ),
    "a pretrained start": changed(build_federation(), {"spec.model.start": "Pretrained"}),
    "TrimmedMean": changed(
        build_federation(), {"spec.algorithm": {"name": "TrimmedMean", "trimFraction": 0.2}}
    ),
    "FedAvgM": changed(
        build_federation(),
        {"spec.algorithm": {"name": "FedAvgM", "serverLearningRate": 0.5, "momentum": 0}},
    ),
    "FedAdam": changed(
        build_federation(),
        {
            "spec.algorithm": {
                "name": "FedAdam",
                "serverLearningRate": 0.1,
                "beta1": 0.8,
                "beta2": 0.9,
                "tau": 0.01,
            }
        },
    ),
    "Median": changed(build_federation(), {"spec.algorithm.name": "Median"}),
    "Central": changed(build_federation(), {"spec.algorithm.name": "CentralMarginal"}),
    "pseudo-labels": changed(
        build_federation(), {"spec.objective": "PseudoLabels", "spec.pseudoLabels": {"confidence": 0.8}}
    ),
    "distillation": changed(
        build_federation(),
        {"spec.objective": "ConditionalDistillation", "spec.distillation": {"temperature": 3}},
    ),
    "FedProx": changed(build_federation(), {"spec.algorithm": {"name": "FedProx", "proximalMu": 1}}),
    "ZScore": changed(build_federation(), {"spec.preprocessing.intensity": {"method": "ZScore"}}),
    "fine-tuning": changed(build_federation(), {"spec.fineTuning.epochs": 3}),
    "a stride of one": changed(
        build_federation(), {"spec.model.strides": [2, 2, 2, 1], "spec.training.patch": [16, 16, 24]}
    ),
    "strides by axis": changed(
        build_federation(),
        {
            "spec.model": {
                "preset": "ResidualEncoder",
                "channels": [8, 16, 32],
                "axisStrides": [[2, 2, 1], [2, 2, 2]],
                "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
            },
            "spec.training.patch": [16, 16, 6],
        },
    ),
    "all the timing": changed(
        build_federation(),
        {
            "spec.participation": {"minSites": 1, "roundTimeoutSeconds": 5400},
            "spec.ttlSecondsAfterFinished": 0,
        },
    ),
    "external sites": changed(
        build_federation(), {"spec.evaluation": {"sites": [MEMBER], "norm": "Adapted"}}
    ),
    "cases from the end": changed(build_site(), {f"{DATA_SET}.cases": {"start": -60}}),
    "a plan of everything": changed(
        build_federation(),
        {"spec.preprocessing.plan": "Auto", "spec.model": {"plan": "Auto", "memoryMebibytes": 2048}},
    ),
    "a site that tells of its cases": changed(build_site(), {"spec.fingerprint": "Summary"}),
    "cases that turn": changed(build_site(), {f"{DATA_SET}.cases": {"stop": 5, "rotateBy": 10}}),
    "cases between": changed(build_site(), {f"{DATA_SET}.cases": {"start": 10, "stop": -10}}),
    "all cases": changed(build_site(), {f"{DATA_SET}.cases": {}}),
    "a folder with dots": changed(build_site(), {f"{DATA_SET}.path": "..a/b.."}),
    "a host path": changed(build_site(), {"spec.volume": {"hostPath": {"path": "/data"}}}),
    "an evaluation site": changed(build_site(), {"spec.role": "Evaluation"}),
    "a store": changed(build_federation(), {"spec.store": STORE}),
    "a store that keeps five": changed(
        build_federation(), {"spec.store": {**STORE, "retention": {"rounds": 5}}}
    ),
    "a store that keeps all": changed(
        build_federation(), {"spec.store": {**STORE, "retention": {"policy": "KeepAll"}}}
    ),
    "a site in a cluster": changed(
        build_site(),
        {"spec.trainer": TRAINER, "spec.state": {"persistentVolumeClaim": {"claimName": "state"}}},
    ),
    "a remote site": changed(build_site(), {"spec.remote": True, "spec.storeSecretRef": {"name": "bucket"}}),
    "a proxy": changed(
        build_site(), {"spec.proxy": {"url": "http://10.1.2.3:3128", "secretRef": {"name": "proxy"}}}
    ),
    "a split of its own": changed(build_site(), {"spec.split": {"train": 80, "validation": 20, "test": 0}}),
}

IMMUTABLE: dict[str, Any] = {
    "rounds": 7,
    "localEpochs": 7,
    "seed": 7,
    "algorithm": {"name": "FedAvg"},
    "objective": "Marginal",
    "distillation": {"temperature": 3},
    "pseudoLabels": {"confidence": 0.8},
    "model": {"residualUnits": 1},
    "preprocessing": {"spacing": "Native"},
    "training": {"batchSize": 7},
    "selection": "Last",
    "fineTuning": {"epochs": 7},
    "evaluation": {"norm": "Averaged"},
    "deletionPolicy": "Delete",
    "store": STORE,
}
MUTABLE: dict[str, Any] = {
    "sites": build_federation()["spec"]["sites"][::-1],
    "suspend": True,
    "participation": {"minSites": 1},
    "ttlSecondsAfterFinished": 60,
}
