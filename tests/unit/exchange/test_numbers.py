"""Numbers that no model has."""

import numpy as np
import pytest

from segviz_exchange.contract.numbers import fault_of

FAULTS = {
    "NaN": ("weight", [1.0, np.nan], "NaN or an infinity"),
    "infinity": ("weight", [1.0, -np.inf], "NaN or an infinity"),
    "a negative variance": ("norm.running_var", [1.0, -1e-6], "negative variances"),
    "NaN as variance": ("norm.running_var", [np.nan], "NaN or an infinity"),
}


@pytest.mark.parametrize(("name", "values", "told"), FAULTS.values(), ids=FAULTS)
def test_it_is_told(name: str, values: list[float], told: str) -> None:
    fault = fault_of(name, [np.zeros(2), np.array(values)])
    assert fault is not None
    assert told in fault


@pytest.mark.parametrize("name", ["weight", "norm.running_mean"])
def test_other_negative_numbers_are_numbers(name: str) -> None:
    assert fault_of(name, [np.array([-1.0])]) is None
