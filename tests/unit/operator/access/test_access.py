"""What the policy of a role's credentials allows, read as a store reads it: a denial wins."""

import json
from fnmatch import fnmatchcase

import pytest

from segviz_exchange.contract import keys
from segviz_operator.access.rights import AGGREGATOR, EXPORT, OPERATOR, Access, policy, site_access

PREFIX = "radiology/abdomen-uid/"
BASEL = site_access("basel")
EXTERNAL = site_access("chur", reads_export=True)
OWN = keys.update("basel", 1, 1)
OTHERS = keys.update("bern", 1, 1)
NEXT = keys.credential("basel", 7)


def may(access: Access, action: str, key: str, prefix: str = PREFIX) -> bool:
    statements = json.loads(policy(access, "segviz", PREFIX))["Statement"]
    arn = f"arn:aws:s3:::segviz/{prefix}{key}"
    effects = {
        each["Effect"]
        for each in statements
        if f"s3:{action}Object" in each["Action"] and any(fnmatchcase(arn, mask) for mask in each["Resource"])
    }
    return effects == {"Allow"}


CASES: dict[str, tuple[Access, str, str, bool]] = {
    "a site writes what is its own": (BASEL, "Put", OWN, True),
    "a site reads no other site's": (BASEL, "Get", OTHERS, False),
    "a site writes no other site's": (BASEL, "Put", OTHERS, False),
    "a site reads the global model": (BASEL, "Get", keys.round_record(3), True),
    "a site writes no global model": (BASEL, "Put", keys.round_record(3), False),
    "a site reads what people want": (BASEL, "Get", keys.control(1), True),
    "a site reads its next credentials": (BASEL, "Get", NEXT, True),
    "a site plants no credentials": (BASEL, "Put", NEXT, False),
    "a training site reads no export": (BASEL, "Get", keys.exported("base"), False),
    "an external one reads the export": (EXTERNAL, "Get", keys.exported("base"), True),
    "a site deletes nothing": (BASEL, "Delete", OWN, False),
    "the aggregator reads updates": (AGGREGATOR, "Get", OWN, True),
    "the aggregator writes no update": (AGGREGATOR, "Put", OWN, False),
    "the aggregator writes rounds": (AGGREGATOR, "Put", keys.round_record(3), True),
    "the aggregator sees no credentials": (AGGREGATOR, "Get", NEXT, False),
    "the export reads what sites released": (EXPORT, "Get", keys.outcome("basel"), True),
    "the export sees no credentials": (EXPORT, "Get", NEXT, False),
    "the operator leaves credentials": (OPERATOR, "Put", NEXT, True),
    "the operator writes what people want": (OPERATOR, "Put", keys.control(1), True),
    "the operator writes no round": (OPERATOR, "Put", keys.round_record(3), False),
    "the operator deletes": (OPERATOR, "Delete", OWN, True),
}


@pytest.mark.parametrize(("access", "action", "key", "allowed"), CASES.values(), ids=CASES)
def test_a_right(access: Access, action: str, key: str, allowed: bool):
    assert may(access, action, key) is allowed


def test_no_right_reaches_beyond_the_federations_prefix():
    for access in (BASEL, EXTERNAL, AGGREGATOR, EXPORT, OPERATOR):
        for action in ("Get", "Put", "Delete"):
            assert not may(access, action, OWN, prefix="radiology/another-uid/")
