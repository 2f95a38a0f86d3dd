"""What noisy updates have spent, by Rényi differential privacy (Mironov, 2017), reckoned by dp-accounting."""

from collections import Counter
from collections.abc import Sequence

_SENSITIVITY_IN_CLIP_NORMS = 2.0
"""Two data sets of one site can move its clipped change from one end of the ball to the other."""


def epsilon_of(multipliers: Sequence[float | None], delta: float) -> float | None:
    """The epsilon of all these releases together; none (no bound) where one of them had no noise.

    Args:
        multipliers: of each release, the noise's standard deviation in units of the clip norm.
    """
    known = [multiplier for multiplier in multipliers if multiplier is not None]
    if len(known) < len(multipliers):
        return None
    if not known:
        return 0.0
    # Seconds to import, and only sites that add noise need it.
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant()
    for multiplier, count in sorted(Counter(known).items()):
        event = dp_accounting.GaussianDpEvent(multiplier / _SENSITIVITY_IN_CLIP_NORMS)
        accountant.compose(event, count)
    return float(accountant.get_epsilon(delta))
