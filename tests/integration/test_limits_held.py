"""A control that asks more than a site's owner has agreed to, written after the first rounds: the site trains
no step by it."""

from pathlib import Path

import msgspec
import pytest

from builders.rig import Rig, small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.ledger import find
from segviz_exchange.contract.records import Update
from segviz_exchange.contract.site_spec import Limits
from segviz_exchange.process.errors import Refusal

SITES = {"basel": ("liver",), "bern": ("spleen",)}
LIMITS = Limits(starts=(Start.SEEDED,), max_rounds=3, min_cases=6, min_steps=6)
"""What the federation asks, and no more: six cases in two epochs of three batches."""


@pytest.fixture
def begun(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, small_federation(rounds=3), SITES, changes={"limits": LIMITS})
    rig.control()
    return rig


def test_within_its_limits_a_site_trains_to_the_end(begun: Rig) -> None:
    assert begun.run().round <= 3


ATTACKS = {
    "one epoch": ({"local_epochs": 1}, "spec.limits.minSteps is 6, and a round would have 3 steps"),
    "more rounds": ({"rounds": 1000}, "spec.limits.maxRounds is 3, and the federation has 1000 rounds"),
}


@pytest.mark.parametrize(("change", "said"), ATTACKS.values(), ids=ATTACKS)
def test_a_later_control_beyond_them_gets_no_update(begun: Rig, change: dict[str, object], said: str) -> None:
    sites = {alias: begun.site(alias) for alias in SITES}
    aggregator = begun.aggregator()
    begun.drive(sites, aggregator, until_round=1)
    begun.control(**change)
    begun.drive(sites, aggregator, until_round=2)  # the open round is still the first control's
    with pytest.raises(Refusal, match=said):
        for _ in range(20):
            for site in sites.values():
                site.take_turn()
            aggregator.step()
    for alias in SITES:
        assert find(begun.store, keys.update(alias, 3, 1), Update) is None


def test_at_the_start_a_control_beyond_them_gets_no_model_either(tmp_path: Path) -> None:
    spec = small_federation(rounds=3)
    rig = Rig(tmp_path, spec, SITES, changes={"limits": LIMITS})
    rig.control(training=msgspec.structs.replace(spec.training, batch_size=6))
    with pytest.raises(Refusal, match=r"spec\.limits\.minSteps is 6, and a round would have 2 steps"):
        rig.site("basel").take_turn()
    assert find(rig.store, keys.update("basel", 0, 1), Update) is None
