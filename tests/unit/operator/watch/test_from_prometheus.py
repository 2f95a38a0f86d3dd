"""The address of a Prometheus, which may hold a password."""

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_operator.watch.from_prometheus import PrometheusCurves

ADDRESSES = {
    "none": ("http://127.0.0.1:9090/", "http://127.0.0.1:9090", {}),
    "a name and a password": (
        "https://anna:s%40cret@prometheus.example:9090/x/",
        "https://prometheus.example:9090/x",
        {"Authorization": "Basic YW5uYTpzQGNyZXQ="},
    ),
    "a name": (
        "http://anna@prometheus.example",
        "http://prometheus.example",
        {"Authorization": "Basic YW5uYTo="},
    ),
}


@pytest.mark.parametrize(("given", "shown", "headers"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_password_is_sent_and_never_shown(given: str, shown: str, headers: dict[str, str]) -> None:
    curves = PrometheusCurves(given)
    assert (curves.url, curves._headers) == (shown, headers)


@pytest.mark.parametrize("given", ["ftp://anna:s3cret@prometheus.example", "http://anna:s3cret@[::1"])
def test_a_refusal_does_not_repeat_it(given: str) -> None:
    with pytest.raises(Refusal) as refusal:
        PrometheusCurves(given)
    assert "s3cret" not in str(refusal.value)
