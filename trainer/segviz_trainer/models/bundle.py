"""An exported model as a MONAI bundle: configs, TorchScript, model card.

The inference config uses MONAI's own parts and the TorchScript file alone, so that it runs where SegViz is
not installed:

    python -m monai.bundle run --config_file configs/inference.json --bundle_root . --images "['ct.nii.gz']"
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from segviz_exchange.contract.choices import Intensity
from segviz_exchange.contract.spec import Preprocessing
from segviz_trainer.models.modelcard import Sources, model_card
from segviz_trainer.models.scripted import Probabilities, probabilities_of, write_script
from segviz_trainer.models.trained import TrainedModel

Json = dict[str, Any]
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)


def write_bundle(folder: Path, trained: TrainedModel, sources: Sources) -> None:
    """Add what makes an exported folder a bundle."""
    docs = folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    docs.joinpath("README.md").write_text(model_card(trained.exported, sources), encoding="utf-8")
    script = probabilities_of(trained)
    if script is None:
        return
    patch = trained.exported.spec.training.patch
    described = metadata(trained, script, sources)
    write_script(script, patch, folder / "models" / "model.ts", described)
    configs = folder / "configs"
    configs.mkdir(exist_ok=True)
    _write(configs / "metadata.json", described)
    _write(configs / "inference.json", inference(trained, script))


def metadata(trained: TrainedModel, script: Probabilities, sources: Sources) -> Json:
    exported = trained.exported
    patch = list(exported.spec.training.patch)
    names = _channels(trained, script)
    common = {"format": "segmentation", "is_patch_data": True, "spatial_shape": patch, "dtype": "float32"}
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"round {exported.round}, {exported.variant}, sha256 {exported.blob}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": "5.3.0"},
        "name": f"SegViz {', '.join(exported.organs)}",
        "task": f"CT segmentation of {', '.join(exported.organs)}",
        "description": f"Trained by SegViz across {len(sources.sites)} sites; see docs/README.md.",
        "authors": "The sites named in docs/README.md",
        "copyright": "The sites named in docs/README.md",
        "intended_use": "Research. Not a medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield",
                    "modality": "CT",
                    "num_channels": 1,
                    "spatial_shape": patch,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": True,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "num_channels": len(names),
                    "value_range": [0, 1],
                    "channel_def": {str(index): name for index, name in enumerate(names)},
                    **common,
                }
            },
        },
    }


def inference(trained: TrainedModel, script: Probabilities) -> Json:
    spec = trained.exported.spec
    return {
        "imports": ["$import torch", "$import numpy as np"],
        "bundle_root": ".",
        "images": [],
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": "$@bundle_root + '/models/model.ts'",
            "map_location": "@device",
        },
        "network": "$@network_def.eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(spec.preprocessing)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': image} for image in @images]",
            "transform": "@preprocessing",
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(spec.training.patch),
            "sw_batch_size": 1,
            "overlap": spec.evaluation.overlap,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(trained, script)},
        "predict": (
            "$lambda item: @postprocessing({**item, "
            "'pred': @inferer(item['image'][None].to(@device), @network)[0].cpu()})"
        ),
        "initialize": ["$torch.set_grad_enabled(False)"],
        "run": ["$[@predict(item) for item in @dataset]"],
    }


def _preprocessing(preprocessing: Preprocessing) -> list[Json]:
    image = ["image"]
    steps: list[Json] = [
        {"_target_": "LoadImaged", "keys": image},
        {"_target_": "EnsureChannelFirstd", "keys": image},
        {
            "_target_": "Orientationd",
            "keys": image,
            "axcodes": "RAS",
            "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
        },
    ]
    if preprocessing.resize is not None:
        steps.append(
            {
                "_target_": "Resized",
                "keys": image,
                "spatial_size": list(preprocessing.resize),
                "mode": "trilinear",
                "align_corners": False,
            }
        )
    if preprocessing.target_spacing is not None:
        steps.append(
            {
                "_target_": "Spacingd",
                "keys": image,
                "pixdim": list(preprocessing.target_spacing),
                "mode": "bilinear",
                "padding_mode": "border",
                "dtype": "$np.float32",
            }
        )
    intensity = preprocessing.intensity
    if intensity.method is Intensity.WINDOW:
        assert intensity.window is not None
        low, high = intensity.window
        steps.append(
            {
                "_target_": "ScaleIntensityRanged",
                "keys": image,
                "a_min": low,
                "a_max": high,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            }
        )
    else:
        steps.append({"_target_": "NormalizeIntensityd", "keys": image})
    return steps


def _postprocessing(trained: TrainedModel, script: Probabilities) -> list[Json]:
    """From probabilities to a label map on the grid of the image's file."""
    image, pred = ["image"], ["pred"]
    post: list[Json] = [
        {
            "_target_": "Invertd",
            "keys": pred,
            "orig_keys": image,
            "transform": "@preprocessing",
            "nearest_interp": False,
            "to_tensor": True,
        }
    ]
    if not script.channels:
        # Background has what no organ claims.
        both = "$lambda p: torch.cat([torch.prod(1 - p, dim=0, keepdim=True), p])"
        post.append({"_target_": "Lambdad", "keys": pred, "func": both})
    post.append({"_target_": "AsDiscreted", "keys": pred, "argmax": True})
    if script.channels and trained.organs != trained.exported.all_organs:
        # Every channel is named: MONAI leaves a label that is not as it is, which is another organ's.
        targets = trained.label_of_channel
        post.append(
            {
                "_target_": "MapLabelValued",
                "keys": pred,
                "orig_labels": list(range(len(targets))),
                "target_labels": list(targets),
            }
        )
    largest = trained.exported.spec.evaluation.largest_component
    if kept := [number for number, organ in enumerate(trained.organs, start=1) if organ in largest]:
        post.append(
            {
                "_target_": "KeepLargestConnectedComponentd",
                "keys": pred,
                "applied_labels": kept,
                "is_onehot": False,
                "connectivity": 1,
            }
        )
    post.append(
        {
            "_target_": "SaveImaged",
            "keys": pred,
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_dtype": "$np.uint8",
            "resample": False,
            "separate_folder": False,
        }
    )
    return post


def _channels(trained: TrainedModel, script: Probabilities) -> list[str]:
    return ["background", *trained.exported.all_organs] if script.channels else list(trained.organs)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
