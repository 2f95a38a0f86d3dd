"""Clipping, noise and what they spend."""

import hashlib
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kstest

from builders.rig import Patience
from builders.synthetic import BASEL, deliver
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.records import Spent
from segviz_exchange.contract.site_spec import Privacy
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.network.tensors import to_tensors
from segviz_trainer.privacy.account import Account
from segviz_trainer.privacy.budget import epsilon_of
from segviz_trainer.privacy.noise import gaussian
from segviz_trainer.privacy.updates import PrivateUpdates, clip_scale

FLOATS = arrays(np.float64, 5, elements=st.floats(-1e6, 1e6))


# --- noise ----------------------------------------------------------------------------------------------


def drawn(count: int, seed: bytes = b"") -> np.ndarray:
    """Noise from known bytes, the same in every run of a test."""
    return gaussian(count, lambda size: hashlib.shake_256(seed).digest(size))


def strongest_repetition(draw: np.ndarray) -> float:
    """The largest correlation of the numbers, or of their squares, with themselves some way further on.

    In units of what chance gives, which of a hundred thousand distances takes one in a thousand beyond 6.
    """

    def of(values: np.ndarray) -> float:
        centred = values - values.mean()
        spectrum = np.fft.rfft(centred, 2 * centred.size)
        distances = np.arange(1, centred.size * 3 // 4)  # beyond, few pairs are left to compare
        correlation = np.fft.irfft(abs(spectrum) ** 2)[distances]
        pairs = centred.size - distances
        return float(abs(correlation / np.sqrt(pairs)).max() / centred.var())

    return max(of(draw), of(np.minimum(draw**2, 4.0)))


def test_noise_is_normal() -> None:
    draw = drawn(100_001)
    assert draw.shape == (100_001,)
    assert np.isfinite(draw).all()
    assert kstest(draw, "norm").pvalue > 0.001
    for part in np.array_split(draw, 7):
        assert kstest(part, "norm").pvalue > 0.001


def test_of_noise_no_part_follows_from_another() -> None:
    assert strongest_repetition(drawn(100_001)) < 6


@pytest.mark.parametrize("count", [100_000, 100_001])
@pytest.mark.parametrize(("second", "found"), [(np.sin, False), (np.cos, True)], ids=["sin", "cos"])
def test_a_generator_that_uses_its_randomness_twice_would_be_found(
    second: np.ufunc, found: bool, count: int
) -> None:
    """Box and Muller's has a sine. With a cosine in its place, each number is there twice."""
    one, other = np.random.default_rng(0).random((2, -(-count // 2)))
    radius, angle = np.sqrt(-2 * np.log(one)), 2 * np.pi * other
    draw = np.concatenate([radius * np.cos(angle), radius * second(angle)])[:count]
    assert (strongest_repetition(draw) > 6) is found
    assert kstest(draw, "norm").pvalue > 0.001  # which sees nothing of it


def test_every_bit_pattern_is_a_number() -> None:
    least, most = (gaussian(1, lambda size, byte=byte: byte * size)[0] for byte in (b"\0", b"\xff"))
    assert -8.3 < least == -most < -8.1


def test_noise_is_never_drawn_again() -> None:
    one, other = gaussian(10_000), gaussian(10_000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.07  # seven deviations


# --- clipping -------------------------------------------------------------------------------------------


def test_clipping_by_hand() -> None:
    changes = [np.array([3.0, 0.0]), np.array([[4.0]])]  # the norm of all is 5
    assert clip_scale(changes, 1.0) == 0.2
    assert clip_scale(changes, 5.0) == 1.0
    assert clip_scale([np.zeros(3)], 1.0) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_of_a_change_that_cannot_be_bounded_no_number_leaves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: float
) -> None:
    """Nor that it cannot: what leaves looks as after any other round."""
    made = updates(tmp_path, FolderStore(tmp_path / "bucket"), noise=0.5, norm=2.0)
    diverged = {"var": torch.tensor([bad, 0.0], dtype=torch.float64), "w": torch.full((1000,), 10.0)}
    state, _ = protect(made, trained=diverged)
    assert kstest(state["w"].double().numpy(), "norm", (0, 0.5 * 2.0)).pvalue > 1e-6
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert "diverged" in caplog.text


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


CASES = frozenset({"case 1", "case 2"})


def updates(
    folder: Path,
    store: FolderStore,
    noise: float | None = 1.0,
    norm: float = 1.0,
    *,
    state: str = "state",
    federation: str = "radiology/abdomen-11111111/",
    cases: frozenset[str] = CASES,
    most: float | None = None,
) -> PrivateUpdates:
    """A process of the site. Its account lies in `folder`, of one federation all else in `state` there."""
    account = Account(folder / "account", federation, BASEL, cases)
    policy = Privacy(norm, 1e-5, noise, most)
    return PrivateUpdates(policy, folder / state / "privacy", account, store, BASEL, Patience())


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


def test_no_noise_is_that_of_another_site_or_process(tmp_path: Path, store: FolderStore) -> None:
    """Equal manifests, equal data, equal rounds: whoever knows all of it knows nothing of the noise."""
    one, other = (protect(updates(tmp_path / name, store))[0] for name in ("one", "other"))
    assert abs(np.corrcoef(one["w"], other["w"])[0, 1]) < 0.2
    assert not list(tmp_path.rglob("secret"))


def released(made: PrivateUpdates, *rounds: int) -> None:
    for round_ in rounds:
        protect(made, round_)


def test_what_was_released_is_refused_once_its_file_is_gone(tmp_path: Path, store: FolderStore) -> None:
    """Whoever runs the bucket removes the records of two rounds, and asks for the first one again."""
    made = updates(tmp_path, store)
    first, _ = protect(made, 1)
    again, _ = protect(made, 1)
    assert torch.equal(first["w"], again["w"])
    released(made, 2)
    # The next round is not committed: an earlier self may still have to send it.
    assert torch.equal(protect(made, 1)[0]["w"], first["w"])
    released(made, 3)
    with pytest.raises(Refusal, match=r"round 1, attempt 1 has been released before"):
        protect(made, 1)


def test_a_kept_file_that_was_changed_is_refused(tmp_path: Path, store: FolderStore) -> None:
    made = updates(tmp_path, store)
    released(made, 1)
    other = updates(tmp_path / "other", store)
    released(other, 1)
    name = "0001-1.safetensors"
    (made.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(Refusal, match="released before"):
        protect(made, 1)


def test_two_releases_do_not_show_the_change_between_them(tmp_path: Path, store: FolderStore) -> None:
    """The attack on noise that can be computed again: once as trained, once with a learning rate of 0."""
    change = torch.tensor(np.random.default_rng(0).normal(0, 0.005, 1000), dtype=torch.float32)
    made = updates(tmp_path, store, noise=10.0)
    trained, _ = protect(made, trained={"var": TRAINED["var"], "w": change})
    released(made, 2, 3)
    with pytest.raises(Refusal):
        protect(made, trained={"var": TRAINED["var"], "w": torch.zeros(1000)})
    # Where the account is lost with the disk, and so the refusal, the noise is another one all the same.
    anew = updates(tmp_path / "new disk", store, noise=10.0)
    idle, _ = protect(anew, trained={"var": TRAINED["var"], "w": torch.zeros(1000)})
    assert abs(np.corrcoef(trained["w"] - idle["w"], change)[0, 1]) < 0.2


def test_killed_before_it_was_counted_the_kept_file_counts(tmp_path: Path, store: FolderStore) -> None:
    made = updates(tmp_path, store)
    first, _ = protect(made)
    (entry,) = (tmp_path / "account" / "updates").rglob("*.json")
    entry.unlink()
    again, spent = protect(updates(tmp_path, store))
    assert torch.equal(first["w"], again["w"])
    assert spent.releases == 1
    assert entry.exists()


# --- the account ----------------------------------------------------------------------------------------


def again(folder: Path, **changes: object) -> PrivateUpdates:
    """The next federation of the same site: another bucket, another state."""
    other = FolderStore(folder / "other bucket")
    named = {"federation": "radiology/abdomen-22222222/", "state": "other state", **changes}
    return updates(folder, other, **named)


def test_the_account_goes_on_in_the_next_federation(tmp_path: Path, store: FolderStore) -> None:
    released(updates(tmp_path, store), 1, 2)
    _, spent = protect(again(tmp_path))
    assert (spent.releases, spent.epsilon) == (3, epsilon_of([1.0] * 3, 1e-5))


def test_of_other_data_nothing_was_told(tmp_path: Path, store: FolderStore) -> None:
    released(updates(tmp_path, store), 1, 2)
    assert protect(again(tmp_path, cases=frozenset({"case 9"})))[1].releases == 1


def test_one_more_case_does_not_begin_a_new_account(tmp_path: Path, store: FolderStore) -> None:
    released(updates(tmp_path, store), 1, 2)
    assert protect(again(tmp_path, cases=CASES | {"case 3"}))[1].releases == 3
    # Of data that the account no longer knows, the worst.
    for known in (tmp_path / "account" / "data").glob("*.json"):
        known.unlink()
    assert protect(again(tmp_path, cases=frozenset({"case 9"})), round_=2)[1].releases == 4


def test_before_the_budget_is_exceeded_no_noise_is_drawn(tmp_path: Path, store: FolderStore) -> None:
    two = epsilon_of([1.0] * 2, 1e-5)
    made = updates(tmp_path, store, most=two)
    released(made, 1, 2)
    with pytest.raises(Refusal, match=r"maxEpsilon is .* 2 protected updates .* epsilon would be"):
        protect(made, 3)
    assert not (made.folder / "0003-1.safetensors").exists()
    # What was counted may still be sent, as after a crash.
    assert protect(made, 2)[1].epsilon == two
    with pytest.raises(Refusal, match="maxEpsilon"):
        protect(again(tmp_path, most=two))
    assert protect(again(tmp_path, most=two * 2))[1].releases == 3


def test_what_has_no_bound_is_beyond_every_budget(tmp_path: Path, store: FolderStore) -> None:
    deliver(store, BASEL, 1, {"w": np.float32([1])})
    with pytest.raises(Refusal, match="epsilon would have no bound"):
        protect(updates(tmp_path, store, most=1e6), 2)


def test_another_federation_s_update_in_between_is_seen_before_this_one_counts(
    tmp_path: Path, store: FolderStore
) -> None:
    one = epsilon_of([1.0], 1e-5)
    made = updates(tmp_path, store, most=one)
    released(made, 1)
    (entry,) = (tmp_path / "account" / "updates").rglob("*.json")
    entry.unlink()  # killed between the file and its count
    released(again(tmp_path), 1)
    with pytest.raises(Refusal, match="maxEpsilon"):
        protect(made, 1)


@pytest.mark.parametrize(("disk", "bucket"), [(1.0, 50.0), (50.0, 1.0)])
def test_of_disk_and_bucket_the_smaller_noise_counts(
    tmp_path: Path, store: FolderStore, disk: float, bucket: float
) -> None:
    _, spent = protect(updates(tmp_path, store, noise=disk))
    told = msgspec.structs.replace(spent, noise_multiplier=bucket)
    deliver(store, BASEL, 1, {"w": np.float32([1])}, privacy=told)
    _, after = protect(updates(tmp_path, store, noise=20.0), 2)
    assert after.epsilon == epsilon_of([1.0, 20.0], 1e-5)


def test_what_an_earlier_version_counted_still_counts(tmp_path: Path, store: FolderStore) -> None:
    made = updates(tmp_path, store)
    old = made.folder / "released"
    old.mkdir(parents=True)
    (old / "0001-1.json").write_text("1.0", encoding="utf-8")
    (old / "0002-1.json").write_text("null", encoding="utf-8")
    (made.folder / "secret").write_bytes(bytes(32))
    _, spent = protect(made, 3)
    assert (spent.releases, spent.epsilon) == (3, None)
    assert not (made.folder / "secret").exists()
    assert protect(updates(tmp_path, store), 4)[1].releases == 4
    with pytest.raises(Refusal, match="released before"):
        protect(made, 1)


def test_a_damaged_account_is_refused_in_a_sentence(tmp_path: Path, store: FolderStore) -> None:
    made = updates(tmp_path, store)
    released(made, 1)
    (entry,) = (tmp_path / "account" / "updates").rglob("*.json")
    entry.write_text("{", encoding="utf-8")
    with pytest.raises(Refusal, match=r"the privacy account is damaged: 0001-1.json: it is empty or cut"):
        protect(made, 2)


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
