"""Whether a fast device would wait for its batches, and how an epoch compares with MONAI's loader.

    python bench/pipeline.py

The step is a sleep of --step-milliseconds, as a GPU's is to the processor. All pipelines cut the same kind
of crops out of the same prepared volumes and take turns; a turn is a round of --epochs, its start included.
MONAI's is CacheDataset, with all volumes and the indices of their voxels in memory, and ThreadDataLoader with
its one thread, as its guide to fast training has it; ours maps files. Where a GPU resamples the crops, the
processor copies what they look at and gives its orders; here torch's device "meta" takes them and computes
nothing. The other table trains on more and more cases: what a process holds must not grow with them.

nnU-Net's batchgeneratorsv2, in a folder of its own, uses this environment's torch:

    uv pip install --no-deps --target .batchgenerators batchgeneratorsv2 batchgenerators threadpoolctl \\
        fft-conv-pytorch pandas python-dateutil six
    python bench/pipeline.py --batchgenerators .batchgenerators
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
import pipeline_nnunet
import psutil
import torch
from monai.data.dataset import CacheDataset
from monai.data.thread_buffer import ThreadDataLoader
from monai.data.utils import list_data_collate
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld
from monai.transforms.intensity.dictionary import RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.spatial.dictionary import RandAffined
from monai.transforms.utility.dictionary import FgBgToIndicesd

from segviz_exchange.contract import training_spec
from segviz_exchange.contract.choices import Augmentation, MemoryFormat, OptimizerState, Precision
from segviz_trainer.batches.prefetch import Prefetch
from segviz_trainer.batches.sampling import Batch, batch_makers
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.grids import Grid
from segviz_trainer.process.pulse import Pulse

SEED = 7
SHAPE = (256, 256, 160)
SPACING = (1.5, 1.5, 2.0)
TRAINING = training_spec.Training(
    patch=(128, 128, 32),
    crops_per_volume=4,
    batch_size=2,
    learning_rate=1e-4,
    augmentation=Augmentation.DEFAULT,
    optimizer_state=OptimizerState.KEEP,
    precision=Precision.BF16,
    memory_format=MemoryFormat.CHANNELS_LAST_3D,
    threads=1,
)
"""What the schema fills in, as far as a batch goes."""


@dataclass(frozen=True)
class Round:
    seconds: float
    cpu_seconds: float
    waited: float
    """As a share of the time in steps, the waiting included."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=20, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=5, help="of a round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each pipeline")
    parser.add_argument("--step-milliseconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=Prefetch.beside(torch.device("cuda")).workers)
    parser.add_argument("--batchgenerators", type=Path, help="the folder that batchgeneratorsv2 is in")
    parser.add_argument("--many", type=int, default=300, help="cases of the table of memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as folder:
        cases = write_cases(Path(folder), options.cases)
        show_memory(cases, options)  # before MONAI holds all volumes
        print()
        compare(cases, options)
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, ", end="")
    print(f"MONAI {version('monai')}, numpy {np.__version__}.")


def write_cases(folder: Path, count: int) -> list[PreparedCase]:
    """Noise with a box for an organ, laid out as the cache lays out a case."""
    chance = np.random.default_rng(SEED)
    affine = np.diag([*SPACING, 1.0])
    grid = Grid.of(SHAPE, affine)
    image = chance.random((1, *SHAPE), dtype=np.float32)
    label = np.zeros((1, *SHAPE), np.uint8)
    label[0, 60:140, 60:140, 40:110] = 1
    cases = []
    for number in range(count):
        place = folder / f"case{number:03d}"
        place.mkdir()
        np.save(place / "image.npy", np.roll(image, 7 * number, axis=1))
        np.save(place / "label.npy", label)
        np.save(place / "foreground.npy", np.flatnonzero(label).astype(np.int32))
        organs, indices = frozenset({"liver"}), frozenset({0})
        cases.append(PreparedCase(place.name, "bench", organs, indices, grid, grid, "", place))
    return cases


# --- an epoch beside MONAI's ------------------------------------------------------------------------------


def compare(cases: list[PreparedCase], options: argparse.Namespace) -> None:
    threads = options.workers
    prefetch = Prefetch(threads, 2 * threads)
    data = monai_data(cases)

    def makers(round_: int, resampled_on: torch.device | None = None) -> Iterator[Callable[[], Batch]]:
        epochs = (
            batch_makers(cases, TRAINING, SEED, "bench", round_, each, resampled_on=resampled_on)
            for each in range(options.epochs)
        )
        return chain.from_iterable(epochs)

    def monai() -> Iterator[object]:
        return chain.from_iterable(monai_loader(data) for _ in range(options.epochs))

    pipelines: dict[str, Callable[[int], Iterator[object]]] = {
        "MONAI CacheDataset + ThreadDataLoader": lambda round_: monai(),
        "SegViz, each when asked for": lambda round_: (make() for make in makers(round_)),
        f"SegViz, ahead by {threads} threads": lambda round_: prefetch.run(makers(round_)),
        f"SegViz, ahead by {threads} threads, a device resamples": lambda round_: prefetch.run(
            makers(round_, torch.device("meta"))
        ),
    }
    if options.batchgenerators:

        def nnunet() -> Iterator[Callable[[], object]]:
            epochs = (
                pipeline_nnunet.batch_makers(cases, TRAINING, options.batchgenerators)
                for _ in range(options.epochs)
            )
            return chain.from_iterable(epochs)

        pipelines[f"nnU-Net's batchgeneratorsv2, ahead by {threads} threads"] = lambda round_: prefetch.run(
            nnunet()
        )
    rounds: dict[str, list[Round]] = {name: [] for name in pipelines}
    for number in range(options.repeats + 1):
        for name, pipeline in pipelines.items():
            rounds[name].append(measure(pipeline(number), options))
    print_table({name: measured[1:] for name, measured in rounds.items()}, options)  # the first warms up


def print_table(rounds: dict[str, list[Round]], options: argparse.Namespace) -> None:
    steps = options.epochs * -(-options.cases // TRAINING.batch_size)
    plain = next(iter(rounds.values()))
    print(f"{options.repeats} rounds of {steps} steps of {options.step_milliseconds:g} ms.\n")
    print("| batches | data wait, of a step | ms a step | CPU ms a step | x MONAI's epoch (range) |")
    print("|:--|--:|--:|--:|--:|")
    for name, measured in rounds.items():
        ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(measured, plain, strict=True)]
        print(
            f"| {name} | {100 * statistics.median(each.waited for each in measured):.0f} % "
            f"| {1000 * statistics.median(each.seconds for each in measured) / steps:.1f} "
            f"| {1000 * statistics.median(each.cpu_seconds for each in measured) / steps:.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) |"
        )


def measure(batches: Iterable[object], options: argparse.Namespace) -> Round:
    pulse = Pulse()
    began, cpu = time.perf_counter(), time.process_time()
    for _ in pulse.timed(batches):
        time.sleep(options.step_milliseconds / 1000)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Round(seconds, cpu, pulse.wait_seconds / pulse.step_seconds)


def monai_data(cases: list[PreparedCase]) -> CacheDataset:
    """The transforms whose definitions ours are (batches/sampling.py)."""
    keys = ("image", "label")
    transforms = Compose(
        [
            FgBgToIndicesd("label"),
            RandCropByPosNegLabeld(
                keys,
                "label",
                TRAINING.patch,
                num_samples=TRAINING.crops_per_volume,
                fg_indices_key="label_fg_indices",
                bg_indices_key="label_bg_indices",
            ),
            RandAffined(
                keys,
                prob=0.5,
                rotate_range=(0.0, 0.0, np.pi / 15),
                scale_range=(0.1, 0.1, 0.1),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
                spatial_size=TRAINING.patch,
                cache_grid=True,
            ),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
    )
    held = [{"image": case.mapped_image().copy(), "label": case.mapped_label().copy()} for case in cases]
    return CacheDataset(held, transforms, progress=False, copy_cache=False)


def monai_loader(data: CacheDataset) -> ThreadDataLoader:
    return ThreadDataLoader(
        data, batch_size=TRAINING.batch_size, shuffle=True, num_workers=0, collate_fn=list_data_collate
    )


# --- memory -----------------------------------------------------------------------------------------------


def show_memory(cases: list[PreparedCase], options: argparse.Namespace) -> None:
    prefetch = Prefetch(options.workers, 2 * options.workers)
    site = [replace(cases[number % len(cases)], id=f"{number:03d}") for number in range(options.many)]
    print("| cases trained on, files mapped | most memory of the process, MB |")
    print("|--:|--:|")
    for count in (options.many // 10, options.many // 3, options.many):
        with closing(prefetch.run(batch_makers(site[:count], TRAINING, SEED, "bench", 1, 0))) as batches:
            most = max(held_megabytes() for _ in batches)
        print(f"| {count} | {most:.0f} |")


def held_megabytes() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


if __name__ == "__main__":
    main()
