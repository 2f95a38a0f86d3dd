"""Our training step beside a plain MONAI script's: same first weights, same batches, taking turns.

    python bench/train.py                                        # on a phantom made on the spot
    python bench/train.py --data ../shared/data/msd-hippocampus  # on real images (MSD Task04)

Prints a markdown table. Fails if a variant's final loss is not the plain script's within --tolerance.
"""

import argparse
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, count, islice
from pathlib import Path

import torch
from monai.losses.dice import DiceLoss
from monai.networks.nets.unet import UNet
from torch import Tensor

from segviz_exchange.contract import choices, spec, training_spec
from segviz_exchange.contract.choices import Intensity, MemoryFormat, Precision
from segviz_exchange.contract.site_spec import CaseRange, DataSet
from segviz_trainer.batches.sampling import Batch, epoch_batches
from segviz_trainer.data.cache import PreparedCase, prepare
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.phantom.generate import generate
from segviz_trainer.training.optimizer import build_optimizer
from segviz_trainer.training.trainer import Trainer

MODEL = spec.Model((16, 32, 64, 128, 256), (2, 2, 2, 2), 2, choices.Norm.BATCH, 1)
RATE = 1e-3
SEED = 7
WARM_UP = 2
LAST = 5
"""The final loss is the mean over this many steps."""

Step = Callable[[Batch], float]


@dataclass(frozen=True)
class Run:
    wall: float
    cpu: float
    loss: float


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as folder:
        batches = draw_batches(options, Path(folder))
    runs: dict[tuple[int, str], list[Run]] = defaultdict(list)
    turns = [(n, name) for _ in range(options.repeats) for n in options.threads for name in VARIANTS]
    began = time.monotonic()
    for done, (threads, name) in enumerate(turns, start=1):
        runs[threads, name].append(measure(VARIANTS[name](options, threads), batches))
        if time.monotonic() - began > 2:
            print(f"run {done}/{len(turns)}: {name}, {threads} threads \033[K", end="\r", file=sys.stderr)
    print("\033[K", end="", file=sys.stderr)
    print_table(options, runs)
    apart = [
        f"{name}, {threads} threads: {run.loss:.4f} beside {plain.loss:.4f}"
        for (threads, name), held in runs.items()
        for run, plain in zip(held, runs[threads, PLAIN], strict=True)
        if not abs(run.loss - plain.loss) <= options.tolerance
    ]
    if apart:
        sys.exit("final losses differ by more than --tolerance:\n" + "\n".join(apart))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="MSD Task04 hippocampus; default: a phantom")
    parser.add_argument("--steps", type=int, default=20, help=f"of a run, {WARM_UP} of them not timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--patch", type=int, nargs=3, help="default 64 64 32; 48 64 48 with --data")
    parser.add_argument("--batch", type=int, default=2, help="patches in a batch")
    parser.add_argument("--tolerance", type=float, default=0.03, help="of the final loss (Dice loss, 0 to 1)")
    options = parser.parse_args()
    options.patch = tuple(options.patch or ((48, 64, 48) if options.data else (64, 64, 32)))
    if options.steps <= WARM_UP:
        parser.error(f"--steps {options.steps}: must be more than {WARM_UP}")
    # oneDNN's BF16 gradients are wrong where a level is one voxel thick (torch 2.15).
    if min(options.patch) < 2 * math.prod(MODEL.strides):
        parser.error(f"--patch {options.patch}: a side must be at least {2 * math.prod(MODEL.strides)}")
    return options


def draw_batches(options: argparse.Namespace, folder: Path) -> list[Batch]:
    """One organ's batches, cropped beforehand: what is compared is the step, not the way to it."""
    if options.data:
        data = DataSet("d", ".", choices.Layout.MSD, {"anterior": (1,)}, (2,), CaseRange(0, 16))
        root, intensity = options.data, spec.IntensityScaling(Intensity.Z_SCORE)
    else:
        generate(folder, SEED, cases=4, external_cases=0, size=(72, 72, 48))
        data = DataSet("d", "liver", choices.Layout.MSD, {"liver": (1,)}, ())
        root, intensity = folder, spec.IntensityScaling(Intensity.WINDOW, (-200.0, 304.0))
    found = find_cases(root, data, "--data")
    preprocessing = spec.Preprocessing(intensity, choices.Spacing.NATIVE)
    prepared = prepare(
        found, preprocessing, tuple(data.organs), 512, folder / "cache", choices.OnBadCase.REFUSE, silent
    )
    return list(islice(endless(prepared.cases, training_of(options, 1)), options.steps))


def silent(done: int, cases: int, case: str) -> None:
    pass


def endless(cases: tuple[PreparedCase, ...], training: training_spec.Training) -> Iterator[Batch]:
    epochs = (epoch_batches(cases, training, SEED, "bench", 1, epoch) for epoch in count())
    # A last, smaller batch would make the steps' costs differ.
    return (batch for batch in chain.from_iterable(epochs) if len(batch.image) == training.batch_size)


def training_of(options: argparse.Namespace, threads: int) -> training_spec.Training:
    return training_spec.Training(
        patch=options.patch,
        crops_per_volume=1,
        batch_size=options.batch,
        learning_rate=RATE,
        augmentation=choices.Augmentation.NONE,
        optimizer_state=choices.OptimizerState.KEEP,
        precision=Precision.BF16,
        memory_format=MemoryFormat.CHANNELS_LAST_3D,
        threads=threads,
    )


# --- The variants -----------------------------------------------------------------------------------------


def plain_step(threads: int, channels_last: bool = False, bf16: bool = False, fused: bool = False) -> Step:
    """A straightforward MONAI script, and what one may switch on in it."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    model = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=MODEL.channels,
        strides=MODEL.strides,
        num_res_units=MODEL.residual_units,
        norm="batch",
    )
    first = SegNet(MODEL, {"organ": 2}, SEED).state_dict()
    model.load_state_dict({monai_name(name): value for name, value in first.items()})
    model = model.to(device).to(memory_format=layout).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=fused or None)
    loss_function = DiceLoss(softmax=True, to_onehot_y=True)

    def step(batch: Batch) -> float:
        image = batch.image.to(device).contiguous(memory_format=layout)
        label = batch.label.to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(image)
        loss: Tensor = loss_function(logits.float(), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def monai_name(ours: str) -> str:
    """MONAI nests a level in the one above it; we keep lists."""
    block, rest = ours.removeprefix("representation.").split(".", 1)
    if block == "bottom":
        return "model." + "1.submodule." * len(MODEL.strides) + rest
    level, rest = rest.removeprefix("organ.").split(".", 1)
    depth = int(level) + (MODEL.head_levels if block == "ups" else 0)
    return "model." + "1.submodule." * depth + ("0." if block == "downs" else "2.") + rest


def our_step(options: argparse.Namespace, threads: int) -> Step:
    """What a site runs."""
    device = Device.choose(training_of(options, threads)).settle()
    net = device.move(SegNet(MODEL, {"organ": 2}, SEED)).train()
    parameters = dict(sorted(net.named_parameters()))
    optimizer = build_optimizer(parameters, device.training.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    trainer = Trainer(net, parameters, optimizer, PerOrganHead(("organ",)), device, "bench", SEED)
    return lambda batch: float(trainer._step(batch))


PLAIN = "(a) plain MONAI: FP32, contiguous"
VARIANTS: dict[str, Callable[[argparse.Namespace, int], Step]] = {
    PLAIN: lambda options, threads: plain_step(threads),
    "(b) + channels last": lambda options, threads: plain_step(threads, channels_last=True),
    "(c) + BF16 autocast": lambda options, threads: plain_step(threads, channels_last=True, bf16=True),
    "(d) + fused Adam": lambda options, threads: plain_step(threads, True, True, True),
    "SegViz: (d), heads, deterministic": our_step,
}


# --- Measuring and printing ---------------------------------------------------------------------------------


def measure(step: Step, batches: list[Batch]) -> Run:
    losses = [step(batch) for batch in batches[:WARM_UP]]
    wall, cpu = time.perf_counter(), time.process_time()
    losses += [step(batch) for batch in batches[WARM_UP:]]  # each ends with its loss read: none is queued
    timed = len(batches) - WARM_UP
    wall, cpu = (time.perf_counter() - wall) / timed, (time.process_time() - cpu) / timed
    return Run(wall, cpu, statistics.mean(losses[-LAST:]))


def print_table(options: argparse.Namespace, runs: dict[tuple[int, str], list[Run]]) -> None:
    data = "MSD hippocampus" if options.data else "phantom"
    patch = "×".join(map(str, options.patch))
    print(f"{data}, {options.batch} patches of {patch}, {options.steps} steps, {options.repeats} repeats.\n")
    print(f"{machine()}.\n")
    print("| threads | variant | × plain (range) | × plain by CPU time | ms a step | final loss |")
    print("|--:|:--|--:|--:|--:|--:|")
    for (threads, name), held in runs.items():
        plain = runs[threads, PLAIN]
        wall = [p.wall / run.wall for p, run in zip(plain, held, strict=True)]
        cpu = [p.cpu / run.cpu for p, run in zip(plain, held, strict=True)]
        print(
            f"| {threads} | {name} | {statistics.median(wall):.2f} ({min(wall):.2f}–{max(wall):.2f}) "
            f"| {statistics.median(cpu):.2f} | {1000 * statistics.median(run.wall for run in held):.0f} "
            f"| {statistics.median(run.loss for run in held):.4f} |"
        )


def machine() -> str:
    info = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    fields = {name.strip(): value.strip() for name, value in info.items()}
    amx = " ".join(flag for flag in fields.get("flags", "").split() if flag.startswith("amx")) or "no amx"
    parts = [f"{fields.get('model name', platform.machine())} (model {fields.get('model')}, {amx})"]
    parts += [f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"]
    parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    parts += [f"Python {platform.python_version()}, torch {torch.__version__}, MONAI {version('monai')}"]
    return "; ".join(parts)


if __name__ == "__main__":
    main()
