"""Which of the offered start models is the federation's: that of most sites, whoever comes first by alias.

There is no torch here, and so no seeded model to compare with: the offers are held against each other. Each
trainer then holds what was chosen against the model that it has seeded itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from segviz_aggregator.schema import Schema
from segviz_exchange.contract.codec import TensorFile
from segviz_exchange.contract.numbers import START_TOLERANCE, farthest
from segviz_exchange.contract.sharing import COUNTER


@dataclass(frozen=True)
class Offer:
    site: str
    digest: str
    file: TensorFile
    schema: Schema
    """With heads for the organs that have joined since."""


@dataclass(frozen=True)
class Agreement:
    chosen: Offer
    agreeing: tuple[str, ...]
    """Sites whose offers are as good as the chosen one, by alias."""
    decided: bool
    """Whether these are more than half of all."""


def agree(offers: Sequence[Offer]) -> Agreement:
    """The most frequent digest among those that more than half of the sites agree with; ties go by alias.

    Where no offer has so many, the one that most agree with. It depends on the offers alone.
    """
    by_digest: dict[str, list[Offer]] = {}
    for offer in sorted(offers, key=lambda offer: offer.site):
        by_digest.setdefault(offer.digest, []).append(offer)
    groups = sorted(by_digest.values(), key=lambda group: (-len(group), group[0].site))
    best = Agreement(groups[0][0], (), False)
    for group in groups:
        agreeing = [each for other in groups if _agree(group[0], other[0]) for each in other]
        sites = tuple(sorted(each.site for each in agreeing))
        if 2 * len(sites) > len(offers):
            return Agreement(group[0], sites, True)
        if len(sites) > len(best.agreeing):
            best = Agreement(group[0], sites, False)
    return best


def difference(offer: Offer, chosen: Offer) -> str | None:
    """How an offer differs from the chosen one, in the first tensor that does; None where it does not."""
    for name in sorted(offer.file.infos.keys() & chosen.file.infos.keys()):
        if offer.schema.groups[name].kind == COUNTER:
            continue
        far = farthest(offer.file.chunks(name), chosen.file.chunks(name))
        if not far <= START_TOLERANCE:
            return f"tensor {name!r} differs by up to {far:.3g}"
    return None


def _agree(one: Offer, other: Offer) -> bool:
    if one.digest == other.digest:
        return True
    return one.schema.difference(other.schema) is None and difference(one, other) is None
