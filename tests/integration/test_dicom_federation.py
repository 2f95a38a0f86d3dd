"""The same cases as NIfTI and as DICOM with RTSTRUCT: prepared alike, and trained to the same model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from builders.clinic import write_study
from builders.volumes import WINDOWED
from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import DataSet
from segviz_trainer.data.cache import prepare_case
from segviz_trainer.data.layouts import find_cases

BTCV = Path(__file__).resolve().parents[2] / "../shared/data/btcv-3mm"
SITES = {
    "basel": ("liver", (6,), "Liver", "0001 0002 0003"),
    "bern": ("spleen", (1,), "Milz", "0004 0005 0007"),
}
OTHERS = tuple(range(1, 14))

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not BTCV.is_dir(), reason="the CTs of ../shared/data/btcv-3mm are not here"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`nifti/SITE` in BTCV's layout and `dicom/SITE` with a folder a case."""
    root = tmp_path_factory.mktemp("clinics")
    for site, (_, ids, name, cases) in SITES.items():
        for case in cases.split():
            files = [BTCV / kind / f"{kind}{case}.nii.gz" for kind in ("img", "label")]
            for file in files:
                place = root / "nifti" / site / file.parent.name
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place)
            write_study(root / "dicom" / site / case, *files, {name: ids, "Aorta": (8,)})
    return root


def data_set(kind: str, site: str) -> DataSet:
    organ, ids, name, _ = SITES[site]
    if kind == "nifti":
        others = tuple(each for each in OTHERS if each not in ids)
        return DataSet("ct", site, Layout.BTCV, {organ: ids}, others)
    return DataSet("ct", site, Layout.DICOM, {}, (), structures={organ: (name,)})


def test_the_prepared_voxels_are_the_same(data: Path, tmp_path: Path) -> None:
    total = equal = 0
    for site, (organ, *_) in SITES.items():
        pairs = zip(
            *(find_cases(data / kind, data_set(kind, site), "") for kind in ("nifti", "dicom")), strict=True
        )
        for pair in pairs:
            one, other = (prepare_case(case, WINDOWED, (organ,), 2048, tmp_path) for case in pair)
            assert one.id == other.id
            total += one.mapped_label().size
            equal += int((one.mapped_label() == other.mapped_label()).sum())
            assert np.array_equal(one.mapped_image(), other.mapped_image())
            assert np.allclose(one.grid.matrix, other.grid.matrix, atol=1e-3)
    print(f"{equal} of {total} voxels of the labels are equal")
    assert equal / total >= 0.999


def manifest(kind: str) -> list[dict[str, Any]]:
    def of(what: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        api = "segviz.dev/v1alpha1"
        return {"apiVersion": api, "kind": what, "metadata": {"name": name}, "spec": spec}

    sites = [{"alias": site, "siteRef": {"namespace": "default", "name": site}} for site in SITES]
    federation = {
        "sites": sites,
        "rounds": 2,
        "localEpochs": 1,
        "model": {"channels": [4, 8], "strides": [2]},
        "preprocessing": {
            "spacingMillimetres": [6, 6, 6],
            "intensity": {"method": "Window", "window": [-125, 275]},
        },
        "training": {"patch": [32, 32, 32], "cropsPerVolume": 1, "batchSize": 1, "threads": 1},
    }
    described = []
    for site in SITES:
        given = data_set(kind, site)
        fields: dict[str, Any] = {"name": given.name, "path": given.path, "layout": str(given.layout)}
        if kind == "nifti":
            fields |= {
                "organs": {o: list(i) for o, i in given.organs.items()},
                "background": list(given.background),
            }
        else:
            fields["structures"] = {organ: list(names) for organ, names in given.structures.items()}
        spec = {
            "volume": {"persistentVolumeClaim": {"claimName": "ct"}},
            "dataSets": [fields],
            "split": {"train": 34, "validation": 33, "test": 33},
            "allowedFederations": [{"namespace": "default", "name": "abdomen"}],
        }
        described.append(of("SegVizSite", site, spec))
    return [of("SegVizFederation", "abdomen", federation), *described]


def test_a_federation_on_dicom_is_the_one_on_nifti(data: Path, tmp_path: Path) -> None:
    blobs = {}
    for kind in ("nifti", "dicom"):
        file, workdir = tmp_path / f"{kind}.yaml", tmp_path / kind
        file.write_text(yaml.safe_dump_all(manifest(kind)), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("segviz")), "run", str(file)]
        done = subprocess.run(
            [*command, "--data", str(data / kind), "--workdir", str(workdir)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rounds = sorted((workdir / "bucket").rglob("global/rounds/*.json"))
        blobs[kind] = [json.loads(each.read_bytes().splitlines()[0])["blob"] for each in rounds]
    assert len(blobs["nifti"]) == 3
    assert blobs["dicom"] == blobs["nifti"]
