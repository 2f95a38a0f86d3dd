"""Runs each case of a JSON list through the pipeline, one JSON line of outcome and peak memory per case."""

import json
import resource
import sys
from pathlib import Path

import torch

from segviz_exchange.contract.choices import Intensity, OnBadCase
from segviz_exchange.contract.spec import IntensityScaling, Preprocessing
from segviz_trainer.data.cache import prepare
from segviz_trainer.data.layouts import Case

PREPROCESSING = Preprocessing(
    intensity=IntensityScaling(method=Intensity.Z_SCORE), spacing_millimetres=(1.5, 1.5, 2.0)
)
CAP_MEBIBYTES = 512


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(listing: Path) -> None:
    torch.set_num_threads(1)
    print(json.dumps({"idle_mebibytes": peak_mebibytes()}), flush=True)
    for row in json.loads(listing.read_text(encoding="utf-8")):
        case = Case(row["id"], Path(row["image"]), Path(row["label"]), "odd", {"liver": (1,)}, (9,))
        prepared = prepare(
            [case], PREPROCESSING, ("liver",), CAP_MEBIBYTES, listing.parent / "cache", OnBadCase.SKIP,
            lambda *_: None,
        )  # fmt: skip
        outcome = {
            "accepted": [accepted.id for accepted in prepared.cases],
            "refused": [str(bad) for bad in prepared.skipped],
            "peak_mebibytes": peak_mebibytes(),
        }
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
