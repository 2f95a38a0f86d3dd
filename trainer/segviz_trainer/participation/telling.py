"""A site's fingerprint on its way out: measured once, and told only where the site's own manifest says so."""

import logging
from collections.abc import Callable

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import FingerprintPolicy
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.ledger import commit, find, newest_control
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Control
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.waiting import Waiting
from segviz_exchange.stores.store import Store
from segviz_trainer.data.dataset import find_all
from segviz_trainer.data.fingerprint import fingerprint
from segviz_trainer.data.splits import split_cases
from segviz_trainer.process.heartbeat import Heartbeat
from segviz_trainer.process.site import Site

log = logging.getLogger(__name__)

Report = Callable[[int, int, str], None]
"""Told cases done, cases in all, and the case's id."""


def await_plan(store: Store, site: Site, control: Control, heartbeat: Heartbeat, waiting: Waiting) -> Control:
    """A control that leaves no number to a plan; where it does, tell what the cases are like and wait.

    Raises:
        Refusal: the site's manifest lets out no fingerprint, or its cases cannot be used.
    """
    if not control.spec.awaits_plan:
        return control

    def report(done: int, cases: int, case: str) -> None:
        # Not which: a case's name may be a patient's.
        heartbeat.beat(Phase.PREPARING, step=done, steps=cases, message="measuring its cases for the plan")

    tell(store, site, control, report)
    while control.spec.awaits_plan:
        heartbeat.beat(Phase.WAITING, message="for the plan, which needs every site's fingerprint")
        waiting.pause()
        control = newest_control(store) or control
    waiting.moved()
    return control


def tell(store: Store, site: Site, control: Control, report: Report) -> Fingerprint:
    """Of the training cases alone: a plan must not know the test.

    Raises:
        Refusal: as `await_plan`.
    """
    check_policy(site)
    told = find(store, keys.fingerprint(site.alias), Fingerprint)
    if told is not None:
        return told  # an earlier self said it, and the plan may rest on it already
    measured = measured_of(site, control.spec.seed, report)
    log.info("tells the fingerprint of %d training cases: spec.fingerprint is Summary", measured.cases)
    return commit(store, keys.fingerprint(site.alias), measured)


def check_policy(site: Site) -> None:
    """Who writes controls is not who owns the images."""
    asked = f"{site.alias}: plan: Auto asks for a fingerprint of the cases"
    if site.spec.privacy is not None:
        raise Refusal(
            f"{asked}, and spec.privacy is on: the noise on updates does not cover it. Ask the coordinator "
            "for plain numbers."
        )
    if site.spec.fingerprint is not FingerprintPolicy.SUMMARY:
        raise Refusal(
            f"{asked}, and spec.fingerprint lets out none. Set it to Summary, or ask the coordinator for "
            "plain numbers."
        )


def measured_of(site: Site, seed: int, report: Report) -> Fingerprint:
    spec = site.spec
    train = split_cases(find_all(site), spec.split, seed).train
    limit = spec.max_case_mebibytes
    return fingerprint(site.alias, train, site.organs, limit, spec.on_bad_case, report)
