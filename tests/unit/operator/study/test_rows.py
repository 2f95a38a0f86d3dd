from typing import Any

import pytest

from builders.mistakes import build_federation, build_site
from segviz_operator.manifests.manifest import Federation, Manifests, Site, Study, parse
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.study.rows import expand, merge_patch
from segviz_operator.study.view import Progress


def build_study(*rows: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizStudy",
        "metadata": {"name": "paper", "namespace": "default"},
        "spec": {"rows": list(rows), **spec},
    }


def _site(name: str, organ: str) -> Site:
    raw = build_site(name, organ)
    raw["metadata"]["namespace"] = {"liver": "basel", "spleen": "bern"}[name]
    raw["spec"]["allowedFederations"] = [{"namespace": "default", "name": "abdomen"}]
    site = parse(raw)
    assert isinstance(site, Site)
    return site


def _manifests() -> Manifests:
    federation = parse(build_federation())
    assert isinstance(federation, Federation)
    return Manifests((federation,), (_site("liver", "liver"), _site("spleen", "spleen")))


def _study(*rows: dict[str, Any], **spec: Any) -> Study:
    study = parse(build_study(*rows, **spec))
    assert isinstance(study, Study)
    return study


def _complaint(*rows: dict[str, Any], **spec: Any) -> str:
    with pytest.raises(InvalidManifest) as refusal:
        expand(_study(*rows, **spec), _manifests())
    return str(refusal.value)


def test_a_row_is_the_federation_with_its_patch() -> None:
    patch = {"algorithm": {"name": "FedProx", "proximalMu": 0.1}, "training": {"batchSize": 4}}
    rows = ({"name": "Local", "spec": {"algorithm": {"name": "Local"}}}, {"name": "mu 0.1", "spec": patch})
    local, prox = expand(_study(*rows), _manifests(), {"seed": 7})
    assert (local.name, local.folder, prox.folder) == ("Local", "local", "mu-0-1")
    spec = prox.accepted.federation.spec
    assert (spec.algorithm.proximal_mu, spec.training.batch_size, spec.training.patch) == (
        0.1,
        4,
        (128, 128, 32),
    )
    assert [row.accepted.federation.spec.seed for row in (local, prox)] == [7, 7]
    assert local.accepted.federation.key == "default/abdomen", "sites consent to a federation by its name"


def test_merge_patch_follows_rfc_7386() -> None:
    """Cases of its appendix A."""
    assert merge_patch({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merge_patch({"a": "b"}, {"b": "c"}) == {"a": "b", "b": "c"}
    assert merge_patch({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merge_patch({"a": ["b"]}, {"a": "c"}) == {"a": "c"}
    assert merge_patch({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merge_patch({"a": "foo"}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}
    assert merge_patch([1, 2], {"a": "b"}) == {"a": "b"}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a field of the study": (
        {"baselin": "Local"},
        "spec.baselin is an unknown field. Did you mean base",
    ),
    "a name": (
        {"rows": [{"name": "Local+FT"}]},
        'spec.rows[0].name "Local+FT" has the wrong form',
    ),
    "no rows": ({"rows": []}, "spec.rows [] has 0 entries"),
    "a row twice": (
        {"rows": [{"name": "Local"}, {"name": "Local"}]},
        'spec.rows[1].name "Local" is already used by spec.rows[0]. Give each entry its own name.',
    ),
}


@pytest.mark.parametrize(("change", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_study_is_told_with_its_place(change: dict[str, Any], says: str) -> None:
    raw = build_study({"name": "Local"})
    raw["spec"] |= change
    with pytest.raises(InvalidManifest) as refusal:
        parse(raw)
    assert f"SegVizStudy default/paper: {says}" in str(refusal.value)


def test_a_mistake_in_a_row_is_told_with_the_row() -> None:
    said = _complaint(
        {"name": "Local", "spec": {"algorithm": {"name": "Locl"}}},
        {"name": "prox", "spec": {"algorithm": {"name": "FedBN", "proximalMu": 1}, "round": 3}},
    )
    assert "SegVizStudy default/paper: spec.rows[0].spec.algorithm.name" in said
    assert '"Locl" is not a valid choice. Did you mean Local?' in said
    assert "spec.rows[1].spec.round is an unknown field. Did you mean rounds?" in said
    assert "spec.rows[1].spec.algorithm.proximalMu" in said


def test_a_row_that_does_not_fit_its_sites_is_told_with_the_row() -> None:
    member = {"alias": "chur", "siteRef": {"namespace": "bern", "name": "spleenn"}}
    said = _complaint({"name": "a"}, {"name": "b", "spec": {"sites": [member]}})
    assert "spec.rows[1].spec.sites[0].siteRef" in said
    assert "Did you mean bern/spleen?" in said


def test_references_must_be_rows() -> None:
    said = _complaint({"name": "Local"}, {"name": "FedBN"}, baseline="Locall", central="zzz")
    assert 'spec.baseline "Locall" is not a row of this study. Did you mean Local?' in said
    assert 'spec.central "zzz" is not a row of this study. The rows are Local, FedBN.' in said


FEDERATED = ({"name": "Local", "spec": {"algorithm": {"name": "Local"}}}, {"name": "FedBN"})


def test_what_is_under_test_is_named_ahead() -> None:
    tuned = {"name": "tuned", "spec": {"fineTuning": {"epochs": 1}}}
    for named in ("FedBN", "tuned", "tuned+FT"):
        study = _study(*FEDERATED, tuned, underTest=named)
        assert (study.spec.under_test, len(expand(study, _manifests()))) == (named, 3)


def test_what_is_under_test_is_a_federated_row_of_the_study() -> None:
    said = _complaint(*FEDERATED, underTest="FedBM")
    assert 'spec.underTest "FedBM" is not a method of this study. Did you mean FedBN?' in said
    said = _complaint(*FEDERATED, underTest="FedBN+FT")
    assert 'spec.underTest "FedBN+FT" is not a method of this study.' in said, "it has no fineTuning"
    said = _complaint(*FEDERATED, underTest="Local")
    assert 'spec.underTest "Local" is a row with algorithm Local, which shares nothing.' in said


def test_names_that_would_share_a_folder_are_told_apart() -> None:
    said = _complaint({"name": "Fed AVG"}, {"name": "fed-avg"})
    assert "spec.rows[1].name" in said
    assert "both would use the folder fed-avg" in said


def test_a_federation_that_is_not_there_is_told() -> None:
    said = _complaint({"name": "a"}, federation="abdomn")
    assert 'spec.federation "abdomn" refers to a SegVizFederation that does not exist.' in said
    assert "Did you mean abdomen?" in said


def test_the_eta_goes_by_epochs_trained_here() -> None:
    rows = expand(
        _study(
            {"name": "a", "spec": {"rounds": 10, "localEpochs": 1}},
            {"name": "b", "spec": {"rounds": 10, "localEpochs": 2}},
        ),
        _manifests(),
    )
    now = 100.0
    progress = Progress(rows, clock=lambda: now)
    assert progress.eta_seconds() is None
    progress.begin(rows[0])
    progress.advance(0.5)  # an earlier process did this half
    assert progress.eta_seconds() is None
    now = 110.0
    progress.advance(0.75)  # 2.5 epochs in 10 seconds; 2.5 and 20 are ahead
    assert progress.eta_seconds() == pytest.approx(4 * 22.5)
    now = 120.0
    progress.end(rows[0], "complete")
    assert progress.eta_seconds() == pytest.approx(20 / 5 * 20)
