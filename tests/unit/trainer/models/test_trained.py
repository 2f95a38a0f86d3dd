"""A small exported model, from its folder to label maps, scores and a bundle that runs without SegViz."""

import json
from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from click.testing import CliRunner
from monai.bundle import ConfigParser, load, verify_net_in_out

from builders.rig import small_federation
from segviz_exchange.contract import codec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Exported
from segviz_exchange.contract.sharing import GROUPS, encode_groups
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.model import evaluate, predict
from segviz_trainer.dicom.series import series_to_nifti
from segviz_trainer.models.bundle import write_bundle
from segviz_trainer.models.modelcard import Sources
from segviz_trainer.models.predict import predict_files
from segviz_trainer.models.scripted import probabilities_of
from segviz_trainer.models.trained import Model, TrainedModel, resolve
from segviz_trainer.network import segnet as network
from segviz_trainer.network.tensors import to_arrays
from segviz_trainer.process.errors import BadCase

ORGANS = ("liver", "spleen")
THREE = ("kidneys", "liver", "spleen")
SHAPE = (22, 20, 18)
OBLIQUE_FREE = np.array([[-2.0, 0, 0, 30.0], [0, 1.5, 0, -20.0], [0, 0, 2.5, 5.0], [0, 0, 0, 1]])
SOURCES = Sources({"basel": ("liver",), "bern": ("spleen",)}, {"basel": 12, "bern": 7}, {})


def export(folder: Path, own_norm: bool = True) -> Path:
    """Untrained, but whole: under FedBN each organ has BN of its own."""
    spec = small_federation()
    if own_norm:
        algorithm = msgspec.structs.replace(spec.algorithm, name=AlgorithmName.FED_BN)
        spec = msgspec.structs.replace(spec, algorithm=algorithm)
    net = network.build(spec, ORGANS)
    groups = network.groups_of(net)
    tensors = to_arrays(net.state_dict())
    chance = np.random.default_rng(0)
    for name, group in groups.items():
        if own_norm and group.kind == "norm" and group.block == "representation":
            for organ in ORGANS:
                moved = tensors[name] * chance.uniform(0.5, 1.5, tensors[name].shape)
                tensors[f"organ/{organ}/{name}"] = (moved + 0.1).astype(np.float32)
    folder.mkdir(parents=True)
    digest = codec.save(folder / "model.safetensors", tensors, {GROUPS: encode_groups(groups)})
    exported = Exported("base", 3, digest, 1, ORGANS, ORGANS, spec)
    (folder / "model.json").write_bytes(encode(exported))
    return folder


def scan(path: Path, affine: np.ndarray = OBLIQUE_FREE) -> Path:
    chance = np.random.default_rng(1)
    voxels = chance.normal(50, 80, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def model(folder: Path) -> Model:
    return Model(TrainedModel.open(folder), torch.device("cpu"), threads=1)


def run(folder: Path, image: Path, output: Path, probabilities: bool = False) -> np.ndarray:
    (written,) = predict_files(
        model(folder), [image], output, probabilities, lambda image, done, windows: None
    )
    return np.asarray(nib.load(written.files[0]).dataobj)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = export(tmp_path_factory.mktemp("exported") / "base")
    write_bundle(folder, TrainedModel.open(folder), SOURCES)
    return folder


def export_shared(
    folder: Path,
    organs: tuple[str, ...] = ORGANS,
    channels: tuple[str, ...] = ORGANS,
    chances: tuple[float, ...] | None = None,
) -> Path:
    """One head for all organs: `channels` are the founding ones, `organs` those that are left.

    With `chances`, what it says of every voxel: background's, then the channels'.
    """
    fed_avg = msgspec.structs.replace(small_federation().algorithm, name=AlgorithmName.FED_AVG)
    spec = small_federation(algorithm=fed_avg, objective=Objective.MARGINAL)
    net = network.build(spec, channels)
    if chances is not None:
        # Nothing comes through the last BN, so the logits are the last convolution's bias.
        state = net.state_dict()
        state["heads._all.0.0.adn.N.weight"].zero_()
        state["heads._all.0.1.conv.unit0.conv.bias"].copy_(torch.tensor(chances).log())
    folder.mkdir(parents=True)
    metadata = {GROUPS: encode_groups(network.groups_of(net))}
    digest = codec.save(folder / "model.safetensors", to_arrays(net.state_dict()), metadata)
    (folder / "model.json").write_bytes(encode(Exported("base", 3, digest, 1, organs, channels, spec)))
    write_bundle(folder, TrainedModel.open(folder), SOURCES)
    return folder


# --- one label map --------------------------------------------------------------------------------------


def test_where_organs_overlap_the_most_probable_wins_over_what_nobody_claims() -> None:
    # Columns: nobody, one, both (the second more), three weak claims that together beat background.
    first, second = [0.1, 0.9, 0.6, 0.45], [0.2, 0.1, 0.8, 0.40]
    labels = resolve(np.float32([first, second]).reshape(2, 4, 1, 1))
    assert labels.ravel().tolist() == [0, 1, 2, 1]  # 0.45 > 0.55 · 0.60 = 0.33


def test_a_tie_is_background() -> None:
    assert resolve(np.float32([[[[0.5]]]])).item() == 0


def test_the_label_map_of_a_shared_head_is_its_argmax(tmp_path: Path) -> None:
    """With a head for each organ, background would win by (1 - .4)(1 - .3) = .42."""
    folder = export_shared(tmp_path / "model", chances=(0.3, 0.4, 0.3))
    labels = run(folder, scan(tmp_path / "ct.nii.gz"), tmp_path / "out")
    assert np.unique(labels).tolist() == [1]


def test_an_organ_that_is_not_exported_is_background_where_it_wins(tmp_path: Path) -> None:
    left = ("kidneys", "spleen")
    folder = export_shared(tmp_path / "model", left, THREE, chances=(0.1, 0.2, 0.4, 0.3))
    labels = run(folder, scan(tmp_path / "ct.nii.gz"), tmp_path / "out")
    assert np.unique(labels).tolist() == [0]


# --- predicting -----------------------------------------------------------------------------------------


def test_labels_lie_on_the_grid_of_the_image(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz")
    run(bundle, image, tmp_path / "out", probabilities=True)
    for name in ("ct", "ct_liver", "ct_spleen"):
        written = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        assert written.shape == SHAPE
        assert np.allclose(written.affine, OBLIQUE_FREE)
    assert json.loads((tmp_path / "out/labels.json").read_text(encoding="utf-8")) == {
        "background": 0,
        "liver": 1,
        "spleen": 2,
    }


def test_the_label_map_follows_from_the_probabilities(bundle: Path, tmp_path: Path) -> None:
    labels = run(bundle, scan(tmp_path / "ct.nii.gz"), tmp_path / "out", probabilities=True)
    organs = [
        nib.load(tmp_path / "out" / f"ct_{organ}.nii.gz").get_fdata(dtype=np.float32) for organ in ORGANS
    ]
    assert np.array_equal(labels, resolve(np.stack(organs)))
    assert 0 < (labels > 0).mean() < 1


def test_each_organ_is_predicted_with_its_own_norm(bundle: Path, tmp_path: Path) -> None:
    shared = export(tmp_path / "shared", own_norm=False)
    assert TrainedModel.open(shared).passes == (ORGANS,)
    assert TrainedModel.open(bundle).passes == (("liver",), ("spleen",))
    image = scan(tmp_path / "ct.nii.gz")
    assert not np.array_equal(run(bundle, image, tmp_path / "a"), run(shared, image, tmp_path / "b"))


def test_a_dicom_series_gives_what_its_nifti_gives(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz", np.diag([-2.0, -1.5, 2.5, 1.0]))
    write_series(image, tmp_path / "series")
    expected = run(bundle, image, tmp_path / "nifti")
    found = run(bundle, tmp_path / "series", tmp_path / "dicom")
    assert np.array_equal(found, expected)


def test_a_series_with_a_missing_slice_is_refused(bundle: Path, tmp_path: Path) -> None:
    write_series(scan(tmp_path / "ct.nii.gz"), tmp_path / "series")
    sorted((tmp_path / "series").iterdir())[5].unlink()
    with pytest.raises(Refusal, match=r"series: its slices lie .* some are missing"):
        run(bundle, tmp_path / "series", tmp_path / "out")


@pytest.mark.parametrize(("degrees", "fits"), [(0.0, True), (0.03, True), (0.2, False), (12.0, False)])
def test_a_series_of_a_tilted_gantry_is_refused(degrees: float, fits: bool, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz", np.diag([-2.0, -1.5, 2.5, 1.0]))
    write_series(image, tmp_path / "series", lean=float(np.tan(np.radians(degrees))))
    if fits:
        series_to_nifti(tmp_path / "series", tmp_path / "out.nii.gz", 64)
        return
    with pytest.raises(Refusal, match=rf"series: its slices are stacked {degrees:.1f} degrees off"):
        series_to_nifti(tmp_path / "series", tmp_path / "out.nii.gz", 64)


def test_places_rounded_by_a_scanner_are_no_tilt(tmp_path: Path) -> None:
    """Half a millimetre along an oblique normal, to a hundredth: single steps point a degree elsewhere."""
    turn, flat = np.radians(20), np.diag([-2.0, -1.5, 0.5])
    oblique = np.eye(4)
    oblique[:3, :3] = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]] @ flat
    write_series(scan(tmp_path / "ct.nii.gz", oblique), tmp_path / "series", decimals=2)
    series_to_nifti(tmp_path / "series", tmp_path / "out.nii.gz", 64)


def test_a_folder_without_a_series_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="empty: holds no DICOM series"):
        run(bundle, tmp_path / "empty", tmp_path / "out")


def test_an_unusable_image_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    with pytest.raises(BadCase, match=r"broken\.nii: is not a NIfTI file"):
        run(bundle, tmp_path / "broken.nii", tmp_path / "out")


def test_two_images_of_one_name_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Refusal, match=r"ct\.nii\.gz: would hold a result of a/ct\.nii and one of b/ct\.nii\.gz"
    ):
        list(predict_files(model(bundle), [Path("a/ct.nii"), Path("b/ct.nii.gz")], tmp_path, False, print))


def test_a_probability_and_a_label_map_of_one_name_are_refused(bundle: Path, tmp_path: Path) -> None:
    images = [scan(tmp_path / "ct.nii.gz"), scan(tmp_path / "ct_liver.nii.gz")]
    with pytest.raises(Refusal, match=r"ct_liver\.nii\.gz: would hold a result of .*ct\.nii\.gz and one of"):
        list(predict_files(model(bundle), images, tmp_path / "out", True, print))
    assert not (tmp_path / "out").exists()


def test_a_result_never_replaces_an_image(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz")
    before = image.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for output in (tmp_path, tmp_path / "link"):
        with pytest.raises(Refusal, match=r"ct\.nii\.gz: is an input, and a result of"):
            run(bundle, image, output)
    assert image.read_bytes() == before


def test_a_result_never_replaces_the_image_that_comes_next(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    images = [scan(tmp_path / "other/ct.nii"), scan(tmp_path / "ct_spleen.nii.gz")]
    with pytest.raises(Refusal, match=r"ct_spleen\.nii\.gz: is an input, and a result of .*other/ct\.nii"):
        list(predict_files(model(bundle), images, tmp_path, True, print))


def test_a_result_never_replaces_a_file_of_a_series(bundle: Path, tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    (series / "series.nii.gz").write_bytes(b"somebody's own")
    with pytest.raises(Refusal, match=r"series\.nii\.gz: is an input, and a result of"):
        run(bundle, series, series)


def test_an_output_that_cannot_be_written_is_refused(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz")
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match=r"file/out: cannot be written \(Not a directory\)"):
        run(bundle, image, tmp_path / "file/out")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"has no model\.safetensors"):
        TrainedModel.open(tmp_path)


def test_a_model_without_organs_is_refused(tmp_path: Path) -> None:
    folder = export(tmp_path / "model")
    record = msgspec.json.decode((folder / "model.json").read_bytes(), type=Exported)
    (folder / "model.json").write_bytes(encode(msgspec.structs.replace(record, organs=(), all_organs=())))
    with pytest.raises(Refusal, match=r"model\.json: lists no organs.* HeadsAndNorm"):
        TrainedModel.open(folder)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = export(tmp_path / "model")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(Refusal, match=r"model\.safetensors: is damaged"):
        TrainedModel.open(folder)


def test_the_commands_predict_and_evaluate(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz")
    done = CliRunner().invoke(
        predict, [str(bundle), str(image), "-o", str(tmp_path / "out"), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    assert "claimed by two organs or more" in done.output
    label = np.zeros(SHAPE, np.uint8)
    label[5:9, 5:9, 5:9] = 1
    nib.save(nib.Nifti1Image(label, OBLIQUE_FREE), tmp_path / "seg.nii.gz")
    (tmp_path / "cases.csv").write_text("image,label\nct.nii.gz,seg.nii.gz\n", encoding="utf-8")
    files = ["--csv", str(tmp_path / "rows.csv"), "--json", str(tmp_path / "all.json")]
    options = ["--organ", "liver=1", "--tolerance", "liver=4", "--cases", "0:1"]
    done = CliRunner().invoke(evaluate, [str(bundle), str(tmp_path), *options, *files])
    assert done.exit_code == 0, done.output
    header, row = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert header == "case,organ,dice,hd95,nsd,missed"
    summary = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert row.split(",")[:3] == ["ct", "liver", repr(summary["liver"]["mean"])]


# --- the bundle -----------------------------------------------------------------------------------------


def test_monai_loads_the_torchscript_with_its_metadata(bundle: Path) -> None:
    net, metadata, _ = load(bundle.name, bundle_dir=bundle.parent, load_ts_module=True, device="cpu")
    patch = torch.rand(1, 1, *TrainedModel.open(bundle).exported.spec.training.patch)
    script = probabilities_of(TrainedModel.open(bundle))
    assert script is not None
    with torch.no_grad():
        torch.testing.assert_close(net(patch), script(patch))
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "liver", "1": "spleen"}


def test_monai_verifies_the_network_against_the_metadata(bundle: Path) -> None:
    verify_net_in_out(
        "network",
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.json"),
        bundle_root=str(bundle),
    )


def by_monai(bundle: Path, image: Path, output: Path) -> nib.Nifti1Image:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    parser.update({"bundle_root": str(bundle), "images": [str(image)], "output_dir": str(output)})
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    torch.set_grad_enabled(True)
    return nib.load(output / "ct.nii.gz")


def test_monais_inference_gives_our_label_map(bundle: Path, tmp_path: Path) -> None:
    image = scan(tmp_path / "ct.nii.gz")
    theirs = by_monai(bundle, image, tmp_path / "monai")
    ours = run(bundle, image, tmp_path / "ours")
    assert np.allclose(theirs.affine, OBLIQUE_FREE)
    assert (np.asarray(theirs.dataobj) == ours).mean() > 0.999


@pytest.mark.parametrize("organs", [THREE, ("kidneys", "spleen"), ("kidneys",)], ids=",".join)
def test_monais_inference_gives_our_label_map_of_a_shared_head(
    organs: tuple[str, ...], tmp_path: Path
) -> None:
    """Whether all founding organs are exported or not."""
    folder = export_shared(tmp_path / "model", organs, THREE)
    image = scan(tmp_path / "ct.nii.gz")
    theirs = np.asarray(by_monai(folder, image, tmp_path / "monai").dataobj)
    ours = run(folder, image, tmp_path / "ours")
    assert np.unique(ours).tolist() == list(range(len(organs) + 1))
    assert (theirs == ours).mean() > 0.999


def test_the_bundle_makes_background_of_an_organ_that_is_not_exported(tmp_path: Path) -> None:
    folder = export_shared(tmp_path / "model", ("kidneys", "spleen"), THREE, chances=(0.1, 0.2, 0.4, 0.3))
    image = scan(tmp_path / "ct.nii.gz")
    theirs = by_monai(folder, image, tmp_path / "monai")
    assert np.unique(np.asarray(theirs.dataobj)).tolist() == [0]


def test_the_model_card_names_sites_cases_and_limits(bundle: Path) -> None:
    card = (bundle / "docs/README.md").read_text(encoding="utf-8")
    assert "| basel | liver | 12 |" in card
    assert "FedBN" in card
    assert "not a medical device" in card


def test_the_metadata_has_what_monais_schema_requires(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
    required = {
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "description",
        "authors",
    }
    assert required | {"copyright", "network_data_format", "schema", "changelog"} <= metadata.keys()


def write_series(image: Path, folder: Path, lean: float = 0.0, decimals: int = 9) -> None:
    """`lean`: how far each slice is shifted along its columns, by its distance from the first."""
    folder.mkdir()
    volume = sitk.ReadImage(str(image), sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.GetDirection()
    orientation = "\\".join(str(direction[index]) for index in (0, 3, 6, 1, 4, 7))
    for number in range(volume.GetDepth()):
        slice_ = volume[:, :, number]
        shift = lean * number * volume.GetSpacing()[2] / volume.GetSpacing()[1]
        place = np.round(
            volume.TransformContinuousIndexToPhysicalPoint((0.0, shift, float(number))), decimals
        )
        for tag, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0008|0018": f"1.2.3.4.{number + 1}",
            "0020|0013": str(number + 1),
            "0020|0032": "\\".join(map(str, place)),
            "0020|0037": orientation,
            "0018|0050": str(volume.GetSpacing()[2]),
        }.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(slice_)
