"""What a person should know before using a model."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from segviz_exchange.contract.choices import Preset
from segviz_exchange.contract.records import Exported, Outcome, Variant
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.words import plain
from segviz_trainer.models.exported import WEIGHTS

LIMITS = (
    "A research model, not a medical device: no diagnosis and no treatment may rest on it alone.",
    "It knows the organs, scanners and patients of its sites. Score it on labelled cases of your own first "
    "(`segviz evaluate`).",
    "Its images are CT in Hounsfield units unless its preprocessing says otherwise, with axes at right "
    "angles.",
    "Organs that it does not name are background to it. It always answers, also where it was never trained "
    "to.",
)
"""What nobody may forget who uses a model."""


_NETWORKS = {
    Preset.RESIDUAL_UNET: "Residual U-Net",
    Preset.PLAIN_UNET: "U-Net with two convolutions a level",
    Preset.RESIDUAL_ENCODER: "U-Net with a residual encoder",
}


@dataclass(frozen=True)
class Sources:
    """Where a model comes from."""

    sites: Mapping[str, tuple[str, ...]]
    """Organs by alias of the sites that took part."""
    cases: Mapping[str, int]
    """Training cases by alias, as the final round's updates say."""
    outcomes: Mapping[str, Outcome]


def model_card(exported: Exported, sources: Sources) -> str:
    spec = exported.spec
    organs = ", ".join(map(_text, exported.organs))
    tuned = ", heads fine-tuned afterwards" if exported.variant is Variant.TUNED else ""
    lines = [
        f"# {organs}",
        "",
        f"Segments {organs} in 3-D images. Trained across sites that each annotated some of these",
        "organs; no image left its site.",
        "",
        "## Data",
        "",
        "| site | organs | training cases |",
        "|---|---|--:|",
        *(
            f"| {_text(alias)} | {', '.join(map(_text, annotated))} | {sources.cases.get(alias, '-')} |"
            for alias, annotated in sorted(sources.sites.items())
        ),
        "",
        "## Method",
        "",
        f"- {spec.algorithm.name}, objective {spec.objective}, seed {spec.seed}; round {exported.round} of "
        f"{spec.rounds}, {spec.local_epochs} local epochs each{tuned}.",
        f"- {_NETWORKS[spec.model.preset]}, channels {list(spec.model.channels)}, norm {spec.model.norm}; "
        f"patch {list(spec.training.patch)}.",
        f"- Preprocessing: RAS, spacing {_spacing(spec.preprocessing.target_spacing)}, intensity "
        f"{spec.preprocessing.intensity.method} {_window(spec.preprocessing.intensity.window)}.",
        f"- Inference: windows that overlap by {spec.evaluation.overlap:g}{_more(spec)}.",
        f"- Weights: `{WEIGHTS}`, sha256 `{exported.blob}`.",
        "",
        "## Scores",
        "",
        "On each site's held-back test part; mean ± SD over its cases.",
        "",
        "| site | organ | Dice | HD95, mm | NSD | misses | cases |",
        "|---|---|--:|--:|--:|--:|--:|",
        *_scores(exported, sources),
        "",
        "## Licence",
        "",
        "The code is Apache-2.0. The weights are under the terms of the data that they were trained on:",
        "ask the sites above.",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in LIMITS),
        "",
    ]
    return "\n".join(lines)


def _scores(exported: Exported, sources: Sources) -> list[str]:
    rows = []
    for alias, outcome in sorted(sources.outcomes.items()):
        variant = outcome.variants.get(exported.variant)
        if variant is None:
            continue
        for organ, dice in sorted(variant.test.items()):
            surface = variant.surface.get(organ)
            more = "- | - | -"
            if surface is not None:
                hd95 = f"{surface.hd95:.1f} ± {surface.hd95_sd:.1f}"
                more = f"{hd95} | {surface.nsd:.3f} ± {surface.nsd_sd:.3f} | {surface.misses}"
            place = f"| {_text(alias)} | {_text(organ)}"
            rows.append(f"{place} | {dice.mean:.3f} ± {dice.sd:.3f} | {more} | {dice.cases} |")
    return rows or ["| - | no site has a test part | - | - | - | - | - |"]


def _text(name: str) -> str:
    """A name of a record as words of Markdown: neither HTML nor a link, a picture or a further cell."""
    return re.sub(r"([\\`\[\]|!])", r"\\\1", html.escape(plain(name), quote=False))


def _more(spec: FederationSpec) -> str:
    asked, transforms = spec.evaluation, spec.training.transforms
    mirrored = transforms.mirroring.axes if asked.mirroring and transforms and transforms.mirroring else ()
    told = f"; the mean over flips along {', '.join(sorted(mirrored))}" if mirrored else ""
    largest = ", ".join(map(_text, asked.largest_component))
    return told + (f"; the largest component alone of {largest}" if largest else "")


def _spacing(spacing: tuple[float, float, float] | None) -> str:
    return "as the image has it" if spacing is None else f"{list(spacing)} mm"


def _window(window: tuple[float, float] | None) -> str:
    return "" if window is None else f"{list(window)}"
