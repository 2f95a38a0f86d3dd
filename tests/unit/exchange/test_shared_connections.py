"""Many stores of one server share its connections; what they trust is never shared."""

from pathlib import Path

import certifi
import pytest

from segviz_exchange.stores.s3_access import shared_connections

AUTHORITY = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----")
PEM = AUTHORITY[0] + AUTHORITY[1]


def test_buckets_of_one_server_share_their_connections() -> None:
    one = shared_connections("https://s3.example.org", None)
    assert shared_connections("https://s3.example.org", None) is one


@pytest.mark.parametrize(
    ("address", "ca_pem"),
    [
        ("https://other.example.org", None),
        ("http://s3.example.org", None),
        ("https://s3.example.org", PEM),
    ],
    ids=["another server", "without TLS", "another authority"],
)
def test_another_server_or_trust_has_its_own(address: str, ca_pem: str | None) -> None:
    assert shared_connections(address, ca_pem) is not shared_connections("https://s3.example.org", None)
