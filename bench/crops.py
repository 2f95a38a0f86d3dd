"""What a random patch costs: as it is by default, and with every transform of nnU-Net.

    python bench/crops.py

Both cut the same crops out of one prepared volume, by turns, on one thread.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from pipeline import SEED, TRAINING, write_cases

from segviz_exchange.contract.choices import Augmentation, Axis
from segviz_exchange.contract.training_spec import Mirroring, Rotation, Training, Transforms, Varied
from segviz_trainer.batches.sampling import batch_makers
from segviz_trainer.data.cache import PreparedCase

NNUNET = Transforms(
    rotation=Rotation(),
    scaling=Varied(),
    noise=Varied(),
    blur=Varied(),
    brightness=Varied(),
    contrast=Varied(),
    low_resolution=Varied(),
    gamma=Varied(),
    inverted_gamma=Varied(),
    mirroring=Mirroring((Axis.RIGHT, Axis.ANTERIOR, Axis.SUPERIOR)),
)
RECIPES: dict[str, dict[str, Any]] = {
    "None": {"augmentation": Augmentation.NONE},
    "Default": {},
    "every transform": {"augmentation": Augmentation.CUSTOM, "transforms": NNUNET},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--crops", type=int, default=100, help="of a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--patch", type=int, nargs=3, default=TRAINING.patch, help="voxels along R, A, S")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = msgspec.structs.replace(TRAINING, patch=tuple(options.patch), crops_per_volume=1, batch_size=1)
    trained = {name: msgspec.structs.replace(base, **changes) for name, changes in RECIPES.items()}
    spent: dict[str, list[float]] = {name: [] for name in trained}
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as folder:
        (case,) = write_cases(Path(folder), 1)
        for turn in range(options.repeats + 1):
            for name, training in trained.items():
                spent[name].append(milliseconds(case, training, turn, options.crops))
    medians = {name: statistics.median(turns[1:]) for name, turns in spent.items()}  # the first warms up
    print(f"{options.repeats} turns of {options.crops} crops of {list(base.patch)}.\n")
    print("| augmentation | CPU ms a patch | x Default |")
    print("|:--|--:|--:|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['Default']:.2f} |")
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}.")


def milliseconds(case: PreparedCase, training: Training, turn: int, crops: int) -> float:
    makers = [next(batch_makers([case], training, SEED, "bench", turn, epoch)) for epoch in range(crops)]
    began = time.process_time()
    for make in makers:
        make()
    return (time.process_time() - began) * 1000 / crops


if __name__ == "__main__":
    main()
