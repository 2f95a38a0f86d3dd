"""How far off a surface may lie and still count as found, by organ."""

from collections.abc import Mapping

DEFAULT_MILLIMETRES = 3.0
_BY_ORGAN_MILLIMETRES = {"liver": 5.0, "pancreas": 5.0}


def tolerance_of(organ: str, chosen: Mapping[str, float]) -> float:
    """NSD's tolerance in mm: what the manifest chose, or 5 for liver and pancreas and 3 for the others."""
    return chosen.get(organ, _BY_ORGAN_MILLIMETRES.get(organ, DEFAULT_MILLIMETRES))
