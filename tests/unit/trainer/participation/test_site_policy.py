"""What a trainer takes from its site's own object, and from nobody else."""

import logging
from pathlib import Path

import msgspec
import pytest

from builders.rig import site_spec
from segviz_exchange.contract.choices import AlgorithmName, Release, Scores
from segviz_exchange.contract.site_spec import Limits, Privacy, SitePolicy, SiteSpec
from segviz_exchange.process.errors import Refusal
from segviz_trainer.process.site import read_site_spec

TOLD = site_spec(("liver",), release=Release.HEADS_AND_NORM, scores=Scores.PER_CASE)
OWN = SitePolicy(
    Release.NONE,
    Scores.SUMMARY,
    Privacy(1.0, 1e-5, 10.0, 8.0),
    Limits((AlgorithmName.FED_AVG,), max_rounds=20),
)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "site.json"
    path.write_bytes(msgspec.json.encode(TOLD))
    return path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy.json"
    path.write_bytes(msgspec.json.encode(OWN))
    monkeypatch.setenv("SEGVIZ_SITE_POLICY", str(path))
    return path


def test_whatever_the_operator_tells_the_sites_own_policy_holds(
    told: Path, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec = read_site_spec(told)
    assert (spec.release, spec.scores, spec.privacy, spec.limits) == (
        OWN.release,
        OWN.scores,
        OWN.privacy,
        OWN.limits,
    )
    assert spec.data_sets == TOLD.data_sets
    assert "spec.release: the site's own policy holds, not what the operator tells" in caplog.text


def test_what_the_operator_adds_does_not_hold_either(told: Path, own: Path) -> None:
    told.write_bytes(msgspec.json.encode(TOLD.under(OWN)))
    own.write_bytes(msgspec.json.encode(SitePolicy(Release.NONE, Scores.SUMMARY)))
    assert read_site_spec(told) == TOLD.under(SitePolicy(Release.NONE, Scores.SUMMARY))


def test_a_site_without_such_an_object_is_as_it_is_told(told: Path, own: Path) -> None:
    own.unlink()
    assert read_site_spec(told) == TOLD


@pytest.mark.parametrize("text", ["", "{}", '{"release": "None", "scores": "Summary", "more": 1}', "\xff"])
def test_a_policy_that_is_none_refuses_the_site(told: Path, own: Path, text: str) -> None:
    own.write_bytes(text.encode("latin-1"))
    with pytest.raises(Refusal, match=r"the site's policy .* Install the site's chart again"):
        read_site_spec(told)


def test_every_field_that_a_policy_has_is_a_sites() -> None:
    assert set(SitePolicy.__struct_fields__) <= set(SiteSpec.__struct_fields__)
