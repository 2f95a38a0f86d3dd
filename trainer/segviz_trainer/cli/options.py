"""Options of the commands on data sets and images: from what people type to what is meant."""

import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import CaseRange
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal

if TYPE_CHECKING:
    from segviz_trainer.inference.options import InferenceOptions
    from segviz_trainer.models.result_files import Format

cases_option = click.option(
    "--cases",
    metavar="START:STOP",
    help="A range of the sorted cases, like a Python slice.  [default: all]",
)
structure_option = click.option(
    "--structure",
    "structures",
    multiple=True,
    metavar="ORGAN=NAME",
    help="A structure in DICOM that is this organ: its name (* stands for anything), or a code such as "
    "SCT:10200004; may be repeated.",
)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise Refusal(f"{option} {text}: write it as NAME=NUMBER, such as liver=1.")
    return name, value


def organ_ids(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The ids of an organ that is named twice add up."""
    organs: dict[str, tuple[int, ...]] = {}
    for name, value in (_pair(text, "--organ") for text in texts):
        organs[name] = organs.get(name, ()) + _ids(value, f"--organ {name}")
    return organs


def structure_names(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names of an organ that is named twice add up."""
    structures: dict[str, tuple[str, ...]] = {}
    for organ, name in (_pair(text, "--structure") for text in texts):
        structures[organ] = (*structures.get(organ, ()), name)
    return structures


def check_naming(layout: Layout, ids: Collection[str], structures: Collection[str]) -> None:
    """Raises Refusal where organs are not named as the layout names them."""
    if layout is Layout.DICOM and ids:
        raise Refusal("--organ: DICOM has no label ids. Name the structures: --structure liver=Liver.")
    if layout is not Layout.DICOM and structures:
        raise Refusal(f"--structure: the layout {layout} has no structures. Name label ids: --organ liver=1.")


def case_range(text: str | None) -> CaseRange | None:
    if text is None:
        return None
    start, sign, stop = text.partition(":")
    try:
        bounds = [int(each) if each else None for each in (start, stop)]
    except ValueError:
        bounds = []
    if not sign or not any(bound is not None for bound in bounds):
        raise Refusal(f"--cases {text}: write it as START:STOP, one of which may be left out, such as :210.")
    return CaseRange(*bounds)


def check_writable(file: Path | None, option: str) -> None:
    """Raises Refusal for a file that could not be written once the work is done."""
    if file is None:
        return
    if not file.parent.is_dir():
        raise Refusal(f"{option} {file}: the folder {file.parent} does not exist. Create it first.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise Refusal(f"{option} {file}: no permission to write there. Choose another path.")


def formats_of(text: str, images: Sequence[Path]) -> tuple["Format", ...]:
    """Raises Refusal for a format that there is not, or one of DICOM for an image that is none."""
    from segviz_trainer.models.result_files import Format

    known = {each.value: each for each in Format}
    for name in text.split(","):
        if name not in known:
            raise Refusal(f"--format {text}: {name!r} is not one of {', '.join(known)}. Write some of these.")
    formats = tuple(dict.fromkeys(known[name] for name in text.split(",")))
    belongs = [each for each in formats if each is not Format.NIFTI]
    for image in images:
        if belongs and not image.is_dir():
            raise Refusal(
                f"{image}: is not a folder with a DICOM series, from which {belongs[0]} takes patient and "
                "study. Name such a folder, or write --format nifti."
            )
    return formats


def tolerances_of(texts: Sequence[str], organs: Collection[str]) -> dict[str, float]:
    tolerances: dict[str, float] = {}
    for name, value in (_pair(text, "--tolerance") for text in texts):
        place = f"--tolerance {name}={value}"
        if name not in organs:
            raise Refusal(
                f"{place}: no --organ is named {name!r}, only {', '.join(organs)}. "
                f"Name one of them, or add --organ {name}=ID."
            )
        if name in tolerances:
            raise Refusal(
                f"{place}: {name} already has a tolerance, {tolerances[name]:g}. Give each organ only one."
            )
        try:
            millimetres = float(value)
        except ValueError:
            millimetres = math.nan
        # The range of a manifest's toleranceMillimetres; NaN is in none.
        if not 0 <= millimetres <= 1000:
            raise Refusal(f"{place}: {value!r} is not a length between 0 and 1000 mm. Write it as {name}=5.")
        tolerances[name] = millimetres
    return tolerances


def background_ids(text: str, organs: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    if text == "rest":
        named = {each for ids in organs.values() for each in ids}
        return tuple(each for each in range(1, 2**16) if each not in named)
    return _ids(text, "--background") if text else ()


def _ids(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise Refusal(f"{option}: {text!r} is not a list of label ids. Write them as 2,3.") from error


def layout_of(folder: Path) -> Layout:
    from segviz_trainer.data.guess import guess_layout

    layout = guess_layout(folder)
    if layout is None:
        raise Refusal(
            f"{folder}: has no dataset.json, case_* folders, img/ and label/, cases.csv or folders of "
            "DICOM. Give --layout, or list its cases in a cases.csv."
        )
    return layout


def options_of(
    spec: FederationSpec, organs: Sequence[str], mirroring: bool | None, largest: str | None
) -> "InferenceOptions":
    """The manifest's, but for what was typed. Raises Refusal for what the model cannot do."""
    from dataclasses import replace

    from segviz_trainer.inference.options import InferenceOptions

    options, transforms = InferenceOptions.of(spec), spec.training.transforms
    axes = transforms.mirrored_axes if transforms else ()
    if mirroring and not axes:
        raise Refusal("--mirroring: the model was trained on no mirrored image. Leave it out.")
    if mirroring is not None:
        options = replace(options, mirrored=axes if mirroring else ())
    if largest is None:
        return options
    named = () if largest == "none" else tuple(largest.split(","))
    for organ in named:
        if organ not in organs:
            raise Refusal(f"--largest-component {largest}: {organ!r} is not one of {', '.join(organs)}.")
    return replace(options, largest=named)
