"""Fields that had another name or form before: whoever writes the old one is told the new one."""

from collections.abc import Iterator, Mapping

from segviz_operator.manifests.defaulting import Json
from segviz_operator.manifests.problem import Problem

NOW: Mapping[str, str] = {
    "spec.store.existingSecret": "Write secretRef: {name: NAME}.",
    "spec.store.caBundle.configMap": "Write configMapKeyRef: {name: NAME, key: ca.crt}.",
    "spec.storeSecret": "Write storeSecretRef: {name: NAME}.",
    "spec.participation.roundTimeout": "Write roundTimeoutSeconds, a whole number.",
    "spec.preprocessing.spacing": "Write numbers under spacingMillimetres: [1.5, 1.5, 2.0].",
}
"""By the path of the old field: what to write today."""

_NULL: Mapping[str, str] = {
    "spec.preprocessing.spacing": "Write spacing: Native to keep each image's own spacing.",
    "spec.store.retention.rounds": "Write policy: KeepAll to keep the models of all rounds.",
}
"""Where null once meant something. To the API server it is a field that is left out, so a manifest that
meant to keep its models would lose them without a word."""


def meaningful_nulls(raw: Mapping[str, Json], subject: str) -> Iterator[Problem]:
    for path, fix in _NULL.items():
        *parents, last = path.split(".")
        place: Json = raw
        for name in parents:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict) and last in place and place[last] is None:
            yield Problem(subject, path, "is null, which means that it is left out", fix)
