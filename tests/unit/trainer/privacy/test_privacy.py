"""Clipping, noise and what they spend."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from builders.synthetic import BASEL, deliver
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.records import Spent
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.network.tensors import to_tensors
from segviz_trainer.privacy.budget import epsilon_of
from segviz_trainer.privacy.noise import gaussian, noise_secret
from segviz_trainer.privacy.updates import PrivateUpdates, clip_scale

SECRET = bytes(range(32))
FLOATS = arrays(np.float64, 5, elements=st.floats(-1e6, 1e6))


# --- noise ----------------------------------------------------------------------------------------------


def test_noise_is_normal() -> None:
    draw = gaussian(SECRET, "0001-1/w", 100_001)
    assert draw.shape == (100_001,)
    assert kstest(draw, "norm").pvalue > 0.001
    halves = draw[:50_000], draw[50_000:100_000]
    assert abs(np.corrcoef(*halves)[0, 1]) < 0.02
    assert np.isfinite(draw).all()


def test_noise_is_the_secrets_and_the_positions() -> None:
    one = gaussian(SECRET, "0001-1/w", 1000)
    assert np.array_equal(one, gaussian(SECRET, "0001-1/w", 1000))
    for secret, position in ((SECRET, "0001-2/w"), (SECRET, "0001-1/v"), (SECRET[::-1], "0001-1/w")):
        assert abs(np.corrcoef(one, gaussian(secret, position, 1000))[0, 1]) < 0.15


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "privacy" / "secret"
    assert noise_secret(path) == noise_secret(path)
    assert len(noise_secret(path)) == 32
    assert path.stat().st_mode & 0o077 == 0
    assert noise_secret(tmp_path / "other") != noise_secret(path)


# --- clipping -------------------------------------------------------------------------------------------


def test_clipping_by_hand() -> None:
    changes = [np.array([3.0, 0.0]), np.array([[4.0]])]  # the norm of all is 5
    assert clip_scale(changes, 1.0) == 0.2
    assert clip_scale(changes, 5.0) == 1.0
    assert clip_scale([np.zeros(3)], 1.0) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_of_a_change_that_cannot_be_bounded_no_number_leaves(tmp_path: Path, bad: float) -> None:
    state, _ = protect(
        updates(tmp_path, FolderStore(tmp_path)), trained={**TRAINED, "var": TRAINED["var"] + bad}
    )
    assert all(bool(value.isnan().all()) for value in state.values())


@given(one=FLOATS, other=FLOATS, norm=st.floats(1e-3, 1e3))
def test_a_clipped_change_is_never_longer_and_never_turned(
    one: np.ndarray, other: np.ndarray, norm: float
) -> None:
    scale = clip_scale([one, other], norm)
    assert 0 < scale <= 1
    assert scale * math.sqrt(float((one**2).sum() + (other**2).sum())) <= norm * (1 + 1e-9)


# --- the budget -----------------------------------------------------------------------------------------


def test_nothing_released_spends_nothing_and_no_noise_has_no_bound() -> None:
    assert epsilon_of([], 1e-5) == 0.0
    assert epsilon_of([1.0, None, 1.0], 1e-5) is None


def slow_epsilon(multipliers: list[float], delta: float) -> float:
    """Of Gaussian releases with sensitivity 2, by Mironov's (2017) conversion; an upper bound of ours."""
    orders = np.linspace(1.01, 512, 20_000)
    spent = sum(orders * 4 / (2 * multiplier**2) for multiplier in multipliers)
    return float(np.min(spent + math.log(1 / delta) / (orders - 1)))


@pytest.mark.parametrize("multipliers", [[2.0], [10.0] * 50, [5.0, 8.0, 13.0]], ids=str)
def test_epsilon_is_just_below_the_textbooks_bound(multipliers: list[float]) -> None:
    epsilon, bound = epsilon_of(multipliers, 1e-5), slow_epsilon(multipliers, 1e-5)
    assert 0.7 * bound < epsilon <= bound * 1.001  # dp-accounting converts more tightly


def test_more_releases_spend_more_and_more_noise_spends_less() -> None:
    spent = [epsilon_of([multiplier] * count, 1e-5) for multiplier, count in ((4, 1), (4, 2), (8, 2))]
    assert spent[0] < spent[1]
    assert spent[2] < spent[1]


# --- updates --------------------------------------------------------------------------------------------


def updates(folder: Path, store: FolderStore, noise: float | None = 1.0, norm: float = 1.0) -> PrivateUpdates:
    return PrivateUpdates(Privacy(norm, 1e-5, noise), folder / "privacy", store, BASEL)


TRAINED = {"var": torch.tensor([0.0, 0.0]), "w": torch.full((1000,), 10.0)}
PUBLIC = {"var": np.float32([0.0, 0.0]), "w": np.zeros(1000, np.float32)}


def protect(made: PrivateUpdates, round_: int = 1, attempt: int = 1, trained=None) -> tuple[dict, Spent]:
    file, spent = made.protect((round_, attempt), lambda: trained or TRAINED, lambda: PUBLIC, {"var"})
    return to_tensors(open_tensors(file).read_all()), spent


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket")


def test_what_leaves_is_the_clipped_change_and_noise(tmp_path: Path, store: FolderStore) -> None:
    state, spent = protect(updates(tmp_path, store, noise=0.5, norm=2.0))
    noise = state["w"].double().numpy() - 2.0 / math.sqrt(1000)
    assert kstest(noise / (0.5 * 2.0), "norm").pvalue > 0.001
    assert (state["var"] >= 0).all()
    assert spent == Spent(2.0, 0.5, 1, 1e-5, epsilon_of([0.5], 1e-5))


def test_without_noise_it_is_clipped_and_has_no_bound(tmp_path: Path, store: FolderStore) -> None:
    state, spent = protect(updates(tmp_path, store, noise=None))
    assert float(state["w"].norm()) == pytest.approx(1.0)
    assert (spent.epsilon, spent.releases) == (None, 1)


def test_asked_again_it_gives_the_same_bytes_and_spends_nothing(tmp_path: Path, store: FolderStore) -> None:
    first, spent = protect(updates(tmp_path, store))
    # Another process, whose training came out otherwise; even the owner has changed the noise.
    other = {"var": TRAINED["var"], "w": torch.full((1000,), -3.0)}
    again, after = protect(updates(tmp_path, store, noise=9.0), trained=other)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert (after.releases, after.noise_multiplier) == (spent.releases, spent.noise_multiplier)


def test_every_attempt_counts_and_has_noise_of_its_own(tmp_path: Path, store: FolderStore) -> None:
    made = updates(tmp_path, store)
    states, spents = zip(*(protect(made, *at) for at in ((1, 1), (1, 2), (2, 1))), strict=True)
    assert [spent.releases for spent in spents] == [1, 2, 3]
    assert spents[2].epsilon == epsilon_of([1.0] * 3, 1e-5)
    assert abs(np.corrcoef(states[0]["w"], states[1]["w"])[0, 1]) < 0.15


def test_what_left_before_there_was_noise_leaves_no_bound(tmp_path: Path, store: FolderStore) -> None:
    deliver(store, BASEL, 1, {"w": np.float32([1])})
    _, spent = protect(updates(tmp_path, store), round_=2)
    assert (spent.releases, spent.epsilon) == (2, None)


def test_a_site_that_lost_its_disk_counts_one_more(tmp_path: Path, store: FolderStore) -> None:
    _, spent = protect(updates(tmp_path / "lost", store))
    deliver(store, BASEL, 1, {"w": np.float32([1])}, privacy=spent)
    _, after = protect(updates(tmp_path / "new", store), round_=2)
    # Round 1's, one that may have been uploaded and never committed, and this one.
    assert (after.releases, after.epsilon) == (3, epsilon_of([1.0] * 3, 1e-5))


def test_round_0_holds_no_data_and_is_not_counted(tmp_path: Path, store: FolderStore) -> None:
    deliver(store, BASEL, 0, {"w": np.float32([1])})
    assert protect(updates(tmp_path, store))[1].releases == 1
