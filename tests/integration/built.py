"""Servers and clients that `make tools` builds, since it takes minutes."""

from pathlib import Path

import pytest
from build import tool_path


def built_tool(name: str) -> Path:
    path = tool_path(name)
    if path is None:
        pytest.skip(f"{name} is not built: run `make tools`")
    return path
