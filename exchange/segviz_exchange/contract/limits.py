"""What a site's owner has agreed to, beside the name of a federation: how much it may ask of the site."""

from collections.abc import Iterator

from segviz_exchange.contract.site_spec import Limits
from segviz_exchange.contract.spec import FederationSpec


def beyond(limits: Limits | None, spec: FederationSpec) -> Iterator[str]:
    """A sentence for each limit that a federation is beyond, as far as its manifest alone tells."""
    if limits is None:
        return
    for name, allowed, field, asked in (
        ("algorithms", limits.algorithms, "algorithm.name", spec.algorithm.name),
        ("objectives", limits.objectives, "objective", spec.objective),
        ("starts", limits.starts, "model.start", spec.model.start),
    ):
        if allowed and asked not in allowed:
            yield f"spec.limits.{name} allows {', '.join(allowed)}, and the federation's {field} is {asked}"
    if limits.max_rounds is not None and spec.rounds > limits.max_rounds:
        yield f"spec.limits.maxRounds is {limits.max_rounds}, and the federation has {spec.rounds} rounds"


def too_little(limits: Limits | None, cases: int, steps: int) -> Iterator[str]:
    """The same of what a round would be made of, which only the site itself can count.

    The fewer images and steps an update is made of, the more of them can be read in it.

    Args:
        cases: that the site trains with in a round.
        steps: of the optimizer in a round.
    """
    if limits is None:
        return
    if limits.min_cases is not None and cases < limits.min_cases:
        yield f"spec.limits.minCases is {limits.min_cases}, and a round would train with {cases} cases"
    if limits.min_steps is not None and steps < limits.min_steps:
        yield f"spec.limits.minSteps is {limits.min_steps}, and a round would have {steps} steps"
