"""What a federation asks of organs that it names, or would do to them."""

import re
from collections.abc import Iterator

from segviz_exchange.contract.choices import Axis
from segviz_operator.manifests.case import Case
from segviz_operator.manifests.problem import Problem

SIDE_MIRRORED = "SideMirrored"
"""Left and right are to be mirrored, but an organ is one of a pair."""


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
