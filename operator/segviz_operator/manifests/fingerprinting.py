"""Whether sites tell what a plan is made from."""

from collections.abc import Iterator

from segviz_exchange.contract.choices import FingerprintPolicy
from segviz_operator.manifests.case import Case
from segviz_operator.manifests.problem import Problem

FINGERPRINT_WITHHELD = "FingerprintWithheld"
"""The federation is to be planned from fingerprints, and a site tells none."""


def fingerprint_withheld(case: Case) -> Iterator[Problem]:
    """A plan from some sites alone would be pressed on those that had no say."""
    if not case.federation.spec.awaits_plan:
        return
    for entry in case.members:
        if entry.site is None:
            continue
        if entry.site.spec.privacy is not None:
            what = "has privacy on, and plan Auto asks for its fingerprint, which no noise covers"
            fix = "Write the numbers in place of plan Auto (see `segviz plan`), or leave the site out."
        elif entry.site.spec.fingerprint is not FingerprintPolicy.SUMMARY:
            what = "tells nothing of its cases (fingerprint None), and plan Auto plans for all sites alike"
            fix = "Ask its owner for fingerprint Summary, or write the numbers in place of plan Auto."
        else:
            continue
        yield case.problem(FINGERPRINT_WITHHELD, entry.path, what, fix, entry.member.alias)
