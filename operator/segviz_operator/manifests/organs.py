"""What a federation asks of organs that it names, or would do to them."""

import re
from collections.abc import Iterator

from segviz_exchange.contract.choices import Axis
from segviz_operator.manifests.case import Case
from segviz_operator.manifests.problem import Problem

SIDE_MIRRORED = "SideMirrored"
"""Left and right are to be mirrored, but an organ is one of a pair."""
COMPONENT_OF_NOTHING = "ComponentOfNothing"
"""The largest component is asked for of an organ that no site annotates."""


def component_of_nothing(case: Case) -> Iterator[Problem]:
    """A misspelt organ would keep its false parts, and nobody would be told."""
    known = sorted({organ for entry in case.members if entry.site for organ in entry.site.spec.organs})
    for index, organ in enumerate(case.federation.spec.evaluation.largest_component):
        if known and organ not in known:
            what = f"is {organ}, which no training site annotates; they annotate {', '.join(known)}"
            path = f"spec.evaluation.largestComponent[{index}]"
            yield case.problem(COMPONENT_OF_NOTHING, path, what, "Name one of those, or remove it.")


def side_mirrored(case: Case) -> Iterator[Problem]:
    """A mirrored left kidney looks like a right one, and would be taught as a left one."""
    transforms = case.federation.spec.training.transforms
    if transforms is None or transforms.mirroring is None or Axis.RIGHT not in transforms.mirroring.axes:
        return
    for entry in case.members:
        for organ in entry.site.spec.organs if entry.site else ():
            if {"left", "right"} & set(re.split("[^a-z]+", organ)):
                what = f"annotates {organ}, which mirroring along R would turn into its counterpart"
                fix = "Remove R from spec.training.transforms.mirroring.axes."
                yield case.problem(SIDE_MIRRORED, entry.path, what, fix, entry.member.alias)
