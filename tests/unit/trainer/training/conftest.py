"""Torch as it was, whatever a test has settled."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _settings() -> object:
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(before[0])
    torch.set_deterministic_debug_mode(before[1])
