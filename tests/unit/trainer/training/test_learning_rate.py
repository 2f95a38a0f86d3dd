"""The learning rate's path from the first epoch of a federation to its last."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segviz_exchange.contract.choices import ScheduleName
from segviz_exchange.contract.training_spec import Schedule
from segviz_trainer.training.learning_rate import learning_rate


def test_the_first_epoch_has_the_first_learning_rate() -> None:
    assert learning_rate(1e-4, 0, 500) == pytest.approx(1e-4)


def test_the_last_epoch_has_a_hundredth_of_it() -> None:
    assert learning_rate(1e-4, 499, 500) == pytest.approx(1e-6)


def test_the_middle_epoch_has_the_mean_of_both() -> None:
    assert learning_rate(1e-4, 250, 501) == pytest.approx((1e-4 + 1e-6) / 2)


@given(epochs=st.integers(2, 600), first=st.floats(1e-6, 1.0))
def test_the_learning_rate_never_rises(epochs: int, first: float) -> None:
    rates = [learning_rate(first, epoch, epochs) for epoch in range(epochs)]
    assert all(before > after for before, after in itertools.pairwise(rates))


def test_a_single_epoch_has_the_first_learning_rate() -> None:
    assert learning_rate(1e-4, 0, 1) == 1e-4


def test_of_two_epochs_the_second_has_the_minimum() -> None:
    assert [learning_rate(1.0, epoch, 2) for epoch in (0, 1)] == pytest.approx([1.0, 0.01])


def test_five_epochs_by_hand() -> None:
    """0.01 + 0.99 * (1 + cos(k * 45 degrees)) / 2."""
    side = 0.99 * math.sqrt(0.5) / 2
    expected = [1.0, 0.505 + side, 0.505, 0.505 - side, 0.01]
    assert [learning_rate(1.0, epoch, 5) for epoch in range(5)] == pytest.approx(expected)


def test_poly_by_hand() -> None:
    """(1 - k/4) to the power of 0.9."""
    poly = Schedule(ScheduleName.POLY)
    expected = [1.0, 0.7718, 0.5359, 0.2872]
    assert [learning_rate(1.0, epoch, 4, poly) for epoch in range(4)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ScheduleName)
def test_a_warm_up_rises_in_equal_steps_and_then_the_curve_begins(name: ScheduleName) -> None:
    warm = Schedule(name, warmup_epochs=3)
    rates = [learning_rate(1.0, epoch, 10, warm) for epoch in range(10)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[3:] == [learning_rate(1.0, epoch, 7, Schedule(name)) for epoch in range(7)]


@pytest.mark.parametrize("name", ScheduleName)
def test_no_epoch_trains_at_nothing(name: ScheduleName) -> None:
    assert all(learning_rate(1e-2, epoch, 9, Schedule(name, 2)) > 0 for epoch in range(9))
