"""Our sliding windows beside MONAI's inferer on one CT, paired: same model, same windows, taking turns.

    python bench/inference.py --model MODEL --image ct.nii.gz --label seg.nii.gz --organ liver=5 ...

MODEL has one head for all organs (examples/totalsegmentator makes one). Plain is what a MONAI script does:
FP32, contiguous; the second MONAI line has the network as ours runs it. Dice is of each line's own label map.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import nibabel as nib
import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer
from torch import Tensor

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.preprocess import prepare_image
from segviz_trainer.inference.predictor import to_native
from segviz_trainer.metrics.overlap import dice
from segviz_trainer.models.trained import Model, TrainedModel, load_organ

Run = Callable[[], Tensor]


@click.command()
@click.option("--model", "folder", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--image", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--label", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--organ", "organs", multiple=True, required=True, metavar="NAME=ID")
@click.option("--repeats", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(folder: Path, image: Path, label: Path, organs: tuple[str, ...], repeats: int, threads: int) -> None:
    """Time each and print the table; by CPU time too, which other processes disturb less."""
    trained = TrainedModel.open(folder)
    if not trained.exported.spec.shared_head or len(trained.passes) > 1:
        raise Refusal(f"{folder}: has a head for each organ. Name a model with one head for all.")
    ours = Model(trained, torch.device("cpu"), threads)
    load_organ(ours.predictor.model, trained.organs[0], trained.tensors)
    prepared = prepare_image(image, ours.preprocessing, 4096)
    voxels = torch.from_numpy(prepared.voxels)[None]
    spec = trained.exported.spec
    theirs = SlidingWindowInferer(
        spec.training.patch, sw_batch_size=1, overlap=spec.evaluation.overlap, mode="gaussian"
    )
    plain, placed = trained.network_of(trained.organs[0]), ours.predictor.model.eval()

    def probabilities(net: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        def of(window: Tensor) -> Tensor:
            logits = net(window)[SHARED_HEAD]
            return torch.softmax(logits.float(), dim=1)

        return of

    def fast_monai() -> Tensor:
        with ours.device.autocast():
            return torch.as_tensor(theirs(ours.device.place(voxels), probabilities(placed)))

    runs: dict[str, Run] = {
        "MONAI, plain": lambda: torch.as_tensor(theirs(voxels, probabilities(plain))),
        "MONAI, our network": fast_monai,
        "SegViz": lambda: ours.predictor.probabilities(voxels, trained.organs)[None],
    }
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for _ in range(repeats):
            for name, run in runs.items():
                began, used = time.perf_counter(), time.process_time()
                found[name] = run()
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - used)
    truth = nib.load(label).get_fdata(dtype=np.float32)  # type: ignore[attr-defined]
    ids = {name: int(number) for name, _, number in (each.partition("=") for each in organs)}
    print("| | seconds | x plain | x plain by CPU time | " + " | ".join(ids) + " |")
    print("|:--|--:|--:|--:|" + "--:|" * len(ids))
    first = next(iter(runs))
    for name in runs:
        winner = to_native(found[name][0].cpu(), prepared).argmax(axis=0)
        scores = [
            dice(winner == 1 + trained.exported.all_organs.index(o), truth == i) for o, i in ids.items()
        ]
        speed = statistics.median(a / b for a, b in zip(wall[first], wall[name], strict=True))
        work = statistics.median(a / b for a, b in zip(cpu[first], cpu[name], strict=True))
        cells = " | ".join(f"{score:.4f}" for score in scores)
        print(f"| {name} | {statistics.median(wall[name]):.1f} | {speed:.2f} | {work:.2f} | {cells} |")


if __name__ == "__main__":
    main()
