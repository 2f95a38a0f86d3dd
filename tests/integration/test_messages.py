"""What a user is told after a mistake: seventy of them, made with the real commands.

pytest -s tests/integration/test_messages.py        # prints each mistake with its message, to be read
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from builders.mistakes import build_federation, build_site, changed
from segviz_exchange.cli import main

CLUSTERLESS = {"KUBECONFIG": "none", "KUBERNETES_SERVICE_HOST": ""}
FEDERATION, SITE = build_federation(), build_site()


def of_federation(path: str, value: object) -> dict[str, Any]:
    return changed(FEDERATION, {path: value})


def of_site(path: str, value: object) -> dict[str, Any]:
    return changed(SITE, {path: value})


DATA_SET = "spec.dataSets[0]"
MANIFESTS: Mapping[str, dict[str, Any] | str] = {
    "empty": "",
    "indented": "spec:\n  rounds: 3\n   localEpochs: 1\n",
    "tabs": "spec:\n\trounds: 3\n",
    "twice": "spec: {}\nspec: {}\n",
    "list": "- a\n- b\n",
    "kind": changed(FEDERATION, {"kind": "SegVizFederatoin"}),
    "version": changed(FEDERATION, {"apiVersion": "segviz.dev/v1"}),
    "nameless": changed(FEDERATION, {"metadata": {}}),
    "zero-rounds": of_federation("spec.rounds", 0),
    "rounds-in-words": of_federation("spec.rounds", "ten"),
    "misspelt-field": of_federation("spec.localEpoch", 2),
    "misspelt-choice": of_federation("spec.algorithm", {"name": "FedBn"}),
    "alias-twice": of_federation("spec.sites[1].alias", "basel"),
    "siteless": of_federation("spec.sites", []),
    "without-mu": of_federation("spec.algorithm", {"name": "FedProx"}),
    "fedbn-instance": changed(
        FEDERATION, {"spec.algorithm": {"name": "FedBN"}, "spec.model": {"norm": "Instance"}}
    ),
    "odd-patch": of_federation("spec.training", {"patch": [50, 50, 32]}),
    "plain-http": of_federation("spec.store", {"endpoint": "minio:9000", "bucket": "b"}),
    "duration": of_federation("spec.participation", {"roundTimeout": "an hour"}),
    "organ-name": of_site(f"{DATA_SET}.organs", {"Left Kidney": [1]}),
    "id-zero": of_site(f"{DATA_SET}.organs", {"liver": [0]}),
    "same-id": of_site(f"{DATA_SET}.organs", {"liver": [1], "spleen": [1]}),
    "layout": of_site(f"{DATA_SET}.layout", "NIfTI"),
    "split": of_site("spec.split", {"train": 80, "validation": 30, "test": 10}),
    "half-a-core": of_site("spec.trainer", {"resources": {"limits": {"cpu": 0.5}}}),
    "volumeless": of_site("spec.volume", {}),
}

MISTAKES: Mapping[str, str] = {
    "a misspelt command": "valdate m/empty.yaml",
    "no file": "validate none.yaml",
    **{f"manifest: {name}": f"validate m/{name}.yaml" for name in MANIFESTS},
    "a site that is not there": "validate pair.yaml",
    "a run without sites": "run m/misspelt-choice.yaml",
    "a run of a federation alone": "run federation.yaml",
    "a run without images": "run here.yaml",
    "images that are not there": "run here.yaml --data none",
    "images of nobody": "run here.yaml --data basel=csv --data nobody=csv",
    "half an option": "run here.yaml --data basel=",
    "no consent": "run unasked.yaml --data csv",
    "no number": "run here.yaml --poll-seconds nan",
    "no such store": "run here.yaml --data csv --store ftp://host/bucket",
    "a bucket without a name": "store check s3://host",
    "no run": "status none",
    "watching no cluster": "status none --watch",
    "no cluster": "status -n radiology abdomen",
    "doctor without a cluster": "doctor -n radiology abdomen",
    "logs without a namespace": "logs abdomen",
    "a study that is none": "study federation.yaml",
    "fetching nothing": "fetch none -o out",
    "no join file": "join none.json --site site.yaml --data csv --state state",
    "a join file that is none": "join broken.json --site site.yaml --data csv --state state",
    "a folder that is full": "data phantom csv",
    "two cases": "data phantom new --cases 2",
    "a folder where none can be": "data phantom csv/cases.csv/new",
    "a folder of data sets": "data check sets",
    "a site without its namespace": "doctor --site basel",
    "a site's file without a join file": "doctor --site-file site.yaml",
    "no folder": "data check none",
    "an empty folder": "data check bare",
    "an organ without ids": "data check csv --organ liver",
    "an organ whose ids are words": "data check csv --organ liver=one",
    "a range that is none": "data check csv --cases five",
    "structures outside DICOM": "data check csv --structure liver=Liver",
    "columns of other names": "data check columns --organ liver=1",
    "a listing of nnU-Net's second version": "data check nnunet --organ liver=1",
    "an image cut short": "data check csv --organ liver=1",
    "no model": "predict none csv/image.nii.gz -o out",
    "a model that is none": "predict csv csv/image.nii.gz -o out",
    "no image": "predict csv none.nii.gz -o out",
    "a format of nobody": "predict csv csv/image.nii.gz -o out --format pdf",
    "DICOM from NIfTI": "predict csv csv/image.nii.gz -o out --format dicom-seg",
    "probabilities as DICOM": "predict csv series -o out --format rtstruct --probabilities",
    "no organ to score": "evaluate csv csv",
    "a tolerance of nobody": "evaluate csv csv --organ liver=1 --tolerance spleen=3",
    "a store of nothing": "init --from csv --store bare",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mistakes")
    for name in ("m", "csv", "columns", "nnunet", "bare", "series", "sets/liver"):
        (root / name).mkdir(parents=True)
    for name, manifest in MANIFESTS.items():
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        (root / f"m/{name}.yaml").write_text(text, encoding="utf-8")
    write(root / "federation.yaml", FEDERATION)
    write(root / "site.yaml", SITE)
    write(root / "pair.yaml", FEDERATION, SITE)
    member = {"alias": "basel", "siteRef": {"namespace": "default", "name": "liver"}}
    alone, site = of_federation("spec.sites", [member]), of_site(f"{DATA_SET}.layout", "List")
    consents = changed(site, {"spec.allowedFederations": [{"namespace": "default", "name": "abdomen"}]})
    write(root / "here.yaml", alone, consents)
    write(root / "unasked.yaml", alone, site)
    (root / "broken.json").write_text('{"version": 1', encoding="utf-8")
    (root / "csv/cases.csv").write_text("image,label\nimage.nii.gz,label.nii.gz\n", encoding="utf-8")
    image = nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4))
    nib.save(image, root / "csv/label.nii.gz")
    nib.save(image, root / "csv/image.nii.gz")
    whole = (root / "csv/image.nii.gz").read_bytes()
    (root / "csv/image.nii.gz").write_bytes(whole[: len(whole) // 2])
    (root / "columns/cases.csv").write_text("Image;Label\na.nii.gz;b.nii.gz\n", encoding="utf-8")
    second = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 3}
    (root / "sets/liver/dataset.json").write_text("{}", encoding="utf-8")
    (root / "nnunet/dataset.json").write_text(json.dumps(second), encoding="utf-8")
    return root


def write(path: Path, *manifests: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_plain_sentences(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.chdir(folder)
    for name, value in CLUSTERLESS.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(main, MISTAKES[mistake].split(), prog_name="segviz")
    print(f"\n$ segviz {MISTAKES[mistake]}\n{result.output}".rstrip())
    assert result.exit_code in (1, 2), result.exception
    told = result.output.strip()
    assert told.endswith((".", "?", ".yaml")), "no sentence"
    assert not any(sign in told for sign in ("Traceback", "Error(", "<class", "object at 0x", "None"))
