"""Plans against cases computed by hand."""

import random
import time
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from builders.federations import build_spec
from segviz_exchange.contract.choices import Intensity, Planning, Preset, Spacing
from segviz_exchange.contract.fingerprint import Fingerprint, Intensities, OrganSize, Spread
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.planning.memory import activation_bytes, step_bytes
from segviz_operator.planning.plan import Plan, Unplannable, make_plan

Triple = tuple[float, float, float]

CT = (-32.0, -17.0, 22.0, 68.0, 95.0, 117.0, 155.0, 205.0, 234.0)
MR = (83.0, 95.0, 152.0, 296.0, 363.0, 419.0, 538.0, 664.0, 719.0)


def spread(*values: float) -> Spread:
    return Spread(*values) if len(values) == 3 else Spread(*values * 3)


def site(
    name: str,
    cases: int,
    spacing: Triple,
    extent: Triple,
    *,
    finest: Triple | None = None,
    ct: bool = True,
    values: tuple[float, ...] | None = None,
) -> Fingerprint:
    """Of cases that are all alike, but for a tenth with the finest spacing."""
    fine = finest or spacing
    return Fingerprint(
        site=name,
        cases=cases,
        spacing=tuple(spread(f, s, s) for f, s in zip(fine, spacing, strict=True)),
        shape=tuple(spread(round(e / s)) for e, s in zip(extent, spacing, strict=True)),
        extent=tuple(spread(each) for each in extent),
        orientations={"LAS": cases},
        below_zero=ct,
        intensities=Intensities(10_000 * cases, 90.0, 40.0, values or (CT if ct else MR)),
        organs={"liver": OrganSize(cases, spread(1500.0))},
    )


def asking(memory: int = 8192, **changes: Any) -> FederationSpec:
    spec = build_spec(**changes)
    return replace(
        spec,
        preprocessing=replace(spec.preprocessing, plan=Planning.AUTO),
        model=replace(spec.model, plan=Planning.AUTO, memory_mebibytes=memory),
    )


def planned(*sites: Fingerprint, memory: int = 8192, heads: int = 1) -> Plan:
    return make_plan(asking(memory), sites, heads)


HIPPOCAMPUS = site("both", 200, (1.0, 1.0, 1.0), (35.0, 50.0, 36.0), ct=False)
BTCV = site("btcv", 30, (3.0, 3.0, 3.0), (340.5, 340.5, 444.0))
THICK_MR = site("mr", 40, (0.625, 0.625, 3.6), (400.0, 400.0, 108.0), finest=(0.625, 0.625, 3.0), ct=False)


def test_the_hippocampus_fits_whole() -> None:
    """35 × 50 × 36 voxels: 35 is halved 3 times before less than 4 are left, so edges are multiples of 8.
    nnU-Net publishes the same patch, 40 × 56 × 40. A batch sees 5 % of 200 × 63,000 voxels, 7 × 89,600."""
    spec = planned(HIPPOCAMPUS, heads=2).spec
    assert spec.preprocessing.spacing_millimetres == (1.0, 1.0, 1.0)
    assert spec.preprocessing.intensity.method is Intensity.Z_SCORE
    assert spec.training.patch == (40, 56, 40)
    assert (spec.model.channels, spec.model.strides) == ((32, 64, 128, 256), (2, 2, 2))
    assert (spec.training.batch_size, spec.training.crops_per_volume) == (7, 1)


def test_a_ct_is_windowed_by_what_lies_inside_organs() -> None:
    """At 3 mm the median image has 114 × 114 × 148 voxels (113.5 rounds up, to even). 80 × 96 × 112 are the
    most that two patches of 32 features leave room for in 1 GiB; in 8 GiB all of it has room."""
    assert planned(BTCV, heads=4).spec.training.patch == (128, 128, 160)
    spec = planned(BTCV, memory=1024, heads=4).spec
    assert spec.preprocessing.spacing_millimetres == (3.0, 3.0, 3.0)
    assert spec.preprocessing.intensity.window == (-32.0, 234.0)
    assert spec.training.patch == (80, 96, 112)
    assert spec.model.channels == (32, 64, 128, 256, 320)
    assert spec.training.batch_size == 2
    channels = spec.model.channels
    assert step_bytes((80, 96, 112), channels, 2, 4) <= 1024 * 2**20
    # The next larger one, a step of 16 along any axis.
    for larger in ((96, 96, 112), (80, 112, 112), (80, 96, 128)):
        assert step_bytes(larger, channels, 2, 4) > 1024 * 2**20


def test_less_memory_takes_features_before_voxels_get_coarser() -> None:
    spec = planned(BTCV, memory=512, heads=4).spec
    assert spec.model.channels[0] == 16
    assert spec.preprocessing.spacing_millimetres == (3.0, 3.0, 3.0)
    small = planned(BTCV, memory=256, heads=4)
    # Five steps of 3 %: 3 × 1.03^5.
    assert small.spec.preprocessing.spacing_millimetres == (3.4778, 3.4778, 3.4778)
    assert any("made coarser by steps of 3 %" in reason for reason in small.reasons)


def test_thick_slices_take_the_finest_tenth_of_their_spacing() -> None:
    """3.6 mm is more than 3 × 0.625, and 30 slices are less than a third of 640 voxels: anisotropic.

    The first cube is 256 × (0.625² × 3)^⅓ = 270 mm wide: 432 voxels, and all 36 slices. R and A are halved
    six times, S three times, so these are padded to 448 and 40. Two of them do not fit 8 GiB, nor after a cut
    of 8 slices along S, which they cover most of. 24 slices are halved twice (24, 12, 6), and fit.
    """
    plan = planned(THICK_MR, memory=8192)
    spec = plan.spec
    assert spec.preprocessing.spacing_millimetres[2] == 3.0
    assert spec.training.patch == (448, 448, 24)
    assert spec.model.channels == (32, 64, 128, 256, 320, 320, 320)
    flat, whole = (2, 2, 1), (2, 2, 2)
    assert spec.model.axis_strides == (flat, flat, whole, whole, flat, flat)
    assert spec.model.kernels is None, "of the residual U-Net they are 3"
    thrice = (flat, flat, whole, whole, whole, flat)
    assert step_bytes((448, 448, 32), spec.model.channels, 2, 1, thrice) > 8192 * 2**20
    assert any("halved 6 along R, 6 along A, 2 along S" in reason for reason in plan.reasons)
    assert any("where slices are 3.6 mm apart" in reason for reason in plan.reasons)


def test_thick_slices_of_a_long_image_keep_the_median() -> None:
    """4 mm is more than 3 × 1, but 200 slices are as many as the 200 voxels across."""
    long = site("long", 20, (1.0, 1.0, 4.0), (200.0, 200.0, 800.0), finest=(1.0, 1.0, 2.0))
    spec = planned(long, memory=65536).spec
    assert spec.preprocessing.spacing_millimetres == (1.0, 1.0, 4.0)


def test_a_tenth_is_never_finer_than_the_other_axes() -> None:
    odd = site("odd", 20, (1.0, 1.0, 6.0), (300.0, 300.0, 120.0), finest=(1.0, 1.0, 0.5))
    assert planned(odd, memory=65536).spec.preprocessing.spacing_millimetres[2] == 1.0


def test_hospitals_of_two_modalities_share_no_window() -> None:
    mr = site("mr", 20, (1.5, 1.5, 1.5), (340.0, 340.0, 300.0), ct=False)
    spec = planned(BTCV, mr).spec
    assert spec.preprocessing.intensity.method is Intensity.Z_SCORE
    assert spec.preprocessing.spacing_millimetres == (3.0, 3.0, 3.0), "30 cases outweigh 20"
    assert planned(BTCV, replace(mr, cases=40)).spec.preprocessing.spacing_millimetres[0] == 1.5


def test_two_windows_become_one_by_cases() -> None:
    """Both sites weigh the same, and the second one's organs are 100 units brighter."""
    brighter = site("bern", 30, (3.0, 3.0, 3.0), (340.5, 340.5, 444.0), values=tuple(v + 100 for v in CT))
    window = planned(BTCV, brighter).spec.preprocessing.intensity.window
    assert window is not None
    # Half a per cent of all is one per cent of the darker site, which has nothing darker; likewise on top.
    assert window[0] == -17.0
    assert window[1] == 205.0 + 100


def test_thin_images_are_padded_to_what_can_be_halved() -> None:
    thin = site("thin", 30, (1.0, 1.0, 8.0), (128.0, 128.0, 40.0))
    spec = planned(thin, memory=65536).spec
    assert spec.training.patch == (128, 128, 8)
    # R and A reach the 8 mm of S after three halvings; S has 4 of its 8 voxels left after the next.
    assert spec.model.axis_strides == ((2, 2, 1),) * 3 + ((2, 2, 2), (2, 2, 1))


def test_a_network_that_may_is_given_flat_kernels() -> None:
    spec = asking()
    plain = replace(spec, model=replace(spec.model, preset=Preset.PLAIN_UNET))
    planned_model = make_plan(plain, [THICK_MR], 1).spec.model
    assert planned_model.kernels is not None
    assert planned_model.kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert make_plan(plain, [BTCV], 1).spec.model.kernels is None, "3 along each axis is what it means"


def test_a_site_with_few_cases_is_planned_for_without_a_word_from_it() -> None:
    plan = planned(BTCV, Fingerprint("small", 3))
    assert plan.spec == planned(BTCV).spec
    assert "Without small: fewer than 5 cases" in plan.reasons[0]


def test_nobody_tells_enough() -> None:
    with pytest.raises(Unplannable, match="no site has 5 training cases or more"):
        planned(Fingerprint("a", 3), Fingerprint("b", 4))


def test_a_spacing_that_the_manifest_gives_stays_as_it_is() -> None:
    spec = asking(memory=300)
    fixed = replace(spec, preprocessing=replace(spec.preprocessing, plan=None))
    plan = make_plan(fixed, [BTCV], 1)
    assert plan.spec.preprocessing == fixed.preprocessing
    assert not any(reason.startswith("preprocessing") for reason in plan.reasons)
    with pytest.raises(Unplannable, match=r"fits 300 MiB\. Raise spec\.model\.memoryMebibytes"):
        make_plan(fixed, [BTCV], 100_000)


def test_a_network_that_the_manifest_gives_stays_as_it_is() -> None:
    spec = asking()
    fixed = replace(spec, model=replace(spec.model, plan=None, memory_mebibytes=None))
    plan = make_plan(fixed, [BTCV], 1)
    assert (plan.spec.model, plan.spec.training) == (fixed.model, fixed.training)
    assert plan.spec.preprocessing.spacing is Spacing.RESAMPLED


def test_nothing_is_left_to_plan() -> None:
    spec = planned(BTCV).spec
    assert not spec.awaits_plan
    assert spec.model.memory_mebibytes is None


def test_the_order_of_sites_is_no_matter_and_bytes_are_the_same() -> None:
    sites = [
        BTCV,
        HIPPOCAMPUS,
        THICK_MR,
        site("zug", 12, (0.8, 0.8, 2.5), (380.0, 380.0, 300.0)),
        site("uri", 9, (1.2, 1.2, 5.0), (350.0, 350.0, 250.0)),
    ]
    told = {
        msgspec.json.encode((plan.spec, plan.reasons), order="deterministic")
        for seed in range(5)
        for plan in [planned(*random.Random(seed).sample(sites, len(sites)))]
    }
    assert len(told) == 1


def test_a_plan_takes_less_than_a_second() -> None:
    sites = [
        site(f"s{n}", 5 + n, (0.5 + n / 50, 0.5, 1 + n / 20), (350.0, 350.0, 300.0 + n)) for n in range(50)
    ]
    began = time.process_time()
    planned(*sites, memory=512)
    assert time.process_time() - began < 1


def test_a_site_that_lies_makes_no_plan_that_nobody_can_carry_out() -> None:
    wild = site("wild", 1_000_000, (1e-6, 1e-6, 1e-6), (1e6, 1e6, 1e6), values=(-1e9,) * 4 + (1e9,) * 5)
    with pytest.raises(Unplannable, match=r"voxels of more than 100 mm\. Look at what the sites tell"):
        planned(wild)
    honest = [replace(BTCV, site=name) for name in ("a", "b", "c", "d", "e", "f")]
    spec = planned(wild, *honest).spec
    assert spec.preprocessing.spacing_millimetres == (3.0, 3.0, 3.0), "it weighs no more than five of them"
    assert spec.training.patch == planned(*honest).spec.training.patch


def test_memory_by_hand() -> None:
    """Two levels over 8³ voxels. Level and bottom work at 4³. Six tensors of 4 and 8 channels wait on the way
    down, the 12 joined before the head, six of the head at 8³, and the image: 4,608 + 768 + 3,072 + 512."""
    assert activation_bytes((8, 8, 8), (4, 8), 1) == 4 * 8960
    assert activation_bytes((8, 8, 8), (4, 8), 2) == 4 * (8960 + 768 + 3072)
    # Halved along R and A alone, level and bottom work at 4·4·8 voxels, twice as many: all but the head's six
    # tensors and the image are twice as much.
    assert activation_bytes((8, 8, 8), (4, 8), 1, [(2, 2, 1)]) == 4 * (2 * (4608 + 768) + 3072 + 512)
