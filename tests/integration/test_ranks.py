"""Several processes of one Pod train one model: as one would, and with the same bytes every time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from segviz_trainer.batches.sampling import Batch
from segviz_trainer.training.ranks import shares_of

WORKER = Path(__file__).with_name("rank_worker.py")
PATIENCE_SECONDS = 240


@pytest.fixture(scope="module", params=[2, 4])
def answer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One launch for all questions: torch takes seconds to import, in each process."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={request.param}", str(WORKER), str(folder)]
    paths = [str(WORKER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return answer


def test_fifty_steps_together_end_where_fifty_alone_do(answer: dict[str, Any]) -> None:
    assert 0 < answer["apart"] < 1e-9


def test_the_shipped_defaults_repeat_themselves_bit_for_bit(answer: dict[str, Any]) -> None:
    first, again, _ = answer["digests"]
    assert again == first


def test_going_on_in_the_middle_gives_the_same_bytes(answer: dict[str, Any]) -> None:
    first, _, resumed = answer["digests"]
    assert resumed == first


@pytest.mark.parametrize("world", [2, 3, 4, 7])
@pytest.mark.parametrize("patches", [1, 2, 5, 8])
def test_every_patch_is_computed_once_and_counts_alike(patches: int, world: int) -> None:
    values = torch.arange(1.0, patches + 1)[:, None]
    batch = Batch(values, values.to(torch.uint8), tuple(frozenset({n}) for n in range(patches)), values)
    shares = shares_of(patches, world)
    parts = [share.of(batch) for share in shares]
    assert all(len(part.image) == len(part.annotated) >= 1 for part in parts)
    counted = [part for part, share in zip(parts, shares, strict=True) if share.weight]
    assert torch.cat([part.label for part in counted]).flatten().tolist() == list(range(1, patches + 1))
    means = [float(part.image.mean()) * share.weight for part, share in zip(parts, shares, strict=True)]
    assert sum(means) / world == pytest.approx(float(values.mean()))
