"""A federation on a GPU: trained, stopped, gone on with, predicted, scored; and what does not fit.

Where torch sees no GPU each test is skipped and says so. "The same bytes" are those of one card and one
build of torch.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from builders.rig import Patience, Rig, small_federation
from segviz_exchange.contract.choices import Augmentation, Determinism, Norm, Precision, Tf32
from segviz_exchange.contract.ledger import newest_control
from segviz_exchange.contract.progress import Severity
from segviz_exchange.contract.spec import FederationSpec, FineTuning, Model
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stopped
from segviz_trainer.batches.sampling import batch_makers
from segviz_trainer.network.device import Device
from segviz_trainer.participation.preflight import Facts, check_gpu
from segviz_trainer.process.site import Site

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU: torch.cuda.is_available()"),
]

TWO = {"basel": ("liver",), "bern": ("spleen",)}
BEYOND = 1 << 16
"""Crops of a volume: a step of them fits no card."""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = torch.get_deterministic_debug_mode()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.set_deterministic_debug_mode(before)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def federation(**training: object) -> FederationSpec:
    base = small_federation(fine_tuning=FineTuning(1, 1e-2))
    settings = {"determinism": Determinism.STRICT, "precision": Precision.BF16, **training}
    return msgspec.structs.replace(base, training=msgspec.structs.replace(base.training, **settings))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    rig = Rig(tmp_path_factory.mktemp("undisturbed"), federation(), TWO)
    rig.control()
    rig.run()
    return rig


def test_training_computes_on_the_gpu(undisturbed: Rig) -> None:
    assert undisturbed.site("basel").me.device.environment().device == torch.cuda.get_device_name()
    moved = undisturbed.global_tensors(2)
    assert all(np.isfinite(value).all() for value in moved.values())


def test_the_same_card_and_build_give_the_same_bytes(tmp_path: Path, undisturbed: Rig) -> None:
    rig = Rig(tmp_path, federation(), TWO)
    rig.control()
    rig.run()
    assert rig.digests() == undisturbed.digests()


def test_batches_are_resampled_on_the_gpu_and_are_those_of_the_processor(undisturbed: Rig) -> None:
    asked = federation(crops_per_volume=6, augmentation=Augmentation.DEFAULT).training
    cases = undisturbed.data["basel"].training
    ways = (
        batch_makers(cases, asked, 1, "basel", 2, 3, resampled_on=at) for at in (None, torch.device("cuda"))
    )
    for host, device in zip(*ways, strict=True):
        expected, batch = host(), device()
        assert batch.image.is_cuda
        torch.testing.assert_close(batch.image.cpu(), expected.image, rtol=0, atol=2e-6)
        assert torch.equal(batch.label.cpu(), expected.label)


@pytest.mark.parametrize("steps", [2, 5, 11])
def test_a_site_stopped_at_any_step_goes_on_bit_for_bit(tmp_path: Path, undisturbed: Rig, steps: int) -> None:
    rig = Rig(tmp_path, federation(), TWO)
    rig.control()
    sites = {"basel": rig.site("basel", stop=Patience(steps)), "bern": rig.site("bern")}
    with pytest.raises(Stopped):
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    rig.run()
    assert rig.digests() == undisturbed.digests()


def test_the_finished_model_is_scored_on_an_external_set(undisturbed: Rig) -> None:
    scores = undisturbed.evaluate("bern")
    assert scores.variants


def test_a_prediction_on_the_gpu_is_that_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In FP32 without TF32; a voxel on the border may fall on either side."""
    spec = federation(precision=Precision.FP32, tf32=Tf32.DISABLED)
    rig = Rig(tmp_path, spec, TWO)
    rig.control()
    sites = {alias: rig.site(alias) for alias in TWO}
    rig.drive(sites, rig.aggregator(), until_round=0)
    masks = []
    case = rig.data["basel"].validation[0]
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda now=available: now)
        me = rig.site("basel").me
        me.model.load(me.initial, {})
        masks.append(me.predictor.masks(case, me.site.organs))
    apart = [np.mean(np.asarray(masks[0][organ]) != np.asarray(masks[1][organ])) for organ in masks[0]]
    assert max(apart) < 1e-3


def test_what_does_not_fit_names_the_setting_to_lower(tmp_path: Path) -> None:
    model = Model((64, 128), (2,), 2, Norm.BATCH, 1)
    spec = msgspec.structs.replace(federation(crops_per_volume=BEYOND), model=model)
    rig = Rig(tmp_path, spec, {"basel": ("liver",)})
    rig.control()
    with pytest.raises(Refusal, match=f"batchSize \\(2\\) or cropsPerVolume \\({BEYOND}\\)"):
        rig.drive({"basel": rig.site("basel")}, rig.aggregator())


def test_preflight_says_which_card_and_how_much_is_free(tmp_path: Path) -> None:
    rig = Rig(tmp_path, federation(), {"basel": ("liver",)})
    rig.control()
    control = newest_control(rig.store)
    assert control is not None
    site = Site("basel", rig.site_spec("basel"), rig.folder, rig.folder / "state")
    (finding,) = check_gpu(Facts(rig.store, site, control, 1, 1, ()))
    assert finding.severity in (Severity.INFO, Severity.WARNING)
    assert torch.cuda.get_device_name() in finding.message
    assert "free" in finding.message


@pytest.mark.parametrize(("tf32", "allowed"), [(Tf32.ALLOWED, True), (Tf32.DISABLED, False)])
def test_tf32_is_what_the_manifest_says(tf32: Tf32, allowed: bool) -> None:
    Device.choose(federation(tf32=tf32).training).settle()
    assert torch.backends.cudnn.allow_tf32 is allowed
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
