"""Torch as it was, whatever a test has settled."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _settings() -> object:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
