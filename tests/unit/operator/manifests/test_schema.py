import contextlib
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.mistakes import (
    IMMUTABLE,
    MISTAKES,
    MUTABLE,
    STORE,
    VARIANTS,
    Mistake,
    build_federation,
    build_site,
    changed,
)
from segviz_exchange.contract.choices import Norm
from segviz_exchange.contract.part import Part
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.manifests.defaulting import with_defaults
from segviz_operator.manifests.manifest import parse
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.manifests.schema import FEDERATION, SITE, check, crd_files, schemas
from segviz_operator.plan.phase import FederationPhase


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_field_and_its_fix(mistake: Mistake):
    with pytest.raises(InvalidManifest) as refusal:
        parse(mistake.manifest)
    told = [str(each) for each in refusal.value.problems if each.path == mistake.path]
    assert any(all(words in text for words in mistake.says) for text in told), str(refusal.value)


@pytest.mark.parametrize("manifest", VARIANTS.values(), ids=VARIANTS)
def test_a_good_manifest_becomes_typed(manifest: dict[str, Any]):
    assert parse(manifest).name == manifest["metadata"]["name"]


def test_every_mistake_is_told_at_once():
    many = changed(build_federation(), {"spec.rounds": 0, "spec.seeed": 1, "spec.model.strides": [2]})
    with pytest.raises(InvalidManifest) as refusal:
        parse(many)
    paths = {each.path for each in refusal.value.problems}
    assert paths == {"spec.rounds", "spec.seeed", "spec.model.strides"}


def test_defaults_are_the_papers():
    spec = parse(build_federation()).spec
    assert isinstance(spec, FederationSpec)
    assert (spec.rounds, spec.local_epochs, spec.seed) == (50, 10, 0)
    assert (spec.algorithm.name, spec.objective, spec.selection) == ("FedBN", "PerOrganHead", "Best")
    assert spec.model.channels == (16, 32, 64, 128, 256)
    assert (spec.model.norm, spec.model.residual_units, spec.model.head_levels) == (Norm.BATCH, 2, 1)
    assert spec.preprocessing.target_spacing == (1.5, 1.5, 2.0)
    assert spec.preprocessing.intensity.window == (-200, 304)
    assert (spec.training.patch, spec.training.learning_rate) == ((128, 128, 32), 1e-4)
    assert (spec.evaluation.sites, spec.evaluation.norm, spec.fine_tuning) == ((), "OwnSite", None)


def test_a_site_shares_nothing_unless_it_says_so():
    spec = parse(build_site()).spec
    assert isinstance(spec, SiteSpec)
    assert (spec.allowed_federations, spec.release, spec.scores) == ((), "None", "Summary")
    assert (spec.split.train, spec.split.validation, spec.split.test) == (70, 15, 15)


def test_native_spacing_is_the_images_own():
    spec = parse(VARIANTS["native spacing"]).spec
    assert isinstance(spec, FederationSpec)
    assert spec.preprocessing.target_spacing is None


def test_a_store_keeps_two_rounds_unless_it_says_so():
    kept = {}
    for name in ("a store", "a store that keeps five", "a store that keeps all"):
        spec = parse(VARIANTS[name]).spec
        assert isinstance(spec, FederationSpec)
        assert spec.store is not None
        kept[name] = spec.store.retention.kept_rounds
    assert kept == {"a store": 2, "a store that keeps five": 5, "a store that keeps all": None}


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("spec.preprocessing.spacing", "Write spacing: Native"),
        ("spec.store.retention.rounds", "Write policy: KeepAll"),
    ],
)
def test_null_that_once_had_a_meaning_is_told_the_word_for_it(path: str, instead: str):
    old = changed(build_federation(), {"spec.store": {**STORE, "retention": {}}, path: None})
    with pytest.raises(InvalidManifest, match=f"{path} is null, which means that it is left out. {instead}"):
        parse(old)


@pytest.mark.parametrize("kind", [FEDERATION, SITE])
def test_defaulting_twice_changes_nothing(kind: str):
    raw = build_federation() if kind == FEDERATION else build_site()
    once = check(kind, raw, "it").raw
    assert check(kind, once, "it").raw == once


def test_defaulting_leaves_its_argument_alone():
    raw = build_federation()
    check(FEDERATION, raw, "it")
    assert raw == build_federation()


def test_a_default_is_not_shared():
    schema = {"type": "object", "properties": {"list": {"type": "array", "default": []}}}
    with_defaults({}, schema)["list"].append(1)
    assert with_defaults({}, schema) == {"list": []}


def _fields(schema: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Every part of a schema, by path."""
    found = {path: schema}
    for name, part in schema.get("properties", {}).items():
        found |= _fields(part, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            found |= _fields(schema[inner], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", [FEDERATION, SITE])
def test_every_field_says_what_it_is_and_has_bounds(kind: str):
    bounds = {"integer": "minimum", "array": "maxItems", "string": "maxLength"}
    for path, part in _fields(schemas()[kind]).items():
        assert path == ".metadata" or part["description"].strip(), path
        needed = bounds.get(part.get("type", "string"))
        if needed and "enum" not in part and path not in (".apiVersion", ".kind"):
            assert needed in part, f"{path} has no {needed}"


@pytest.mark.parametrize(("kind", "spec"), [(FEDERATION, FederationSpec), (SITE, SiteSpec)])
def test_the_schema_and_the_types_have_the_same_fields(kind: str, spec: type[Part]):
    _same_fields(schemas()[kind]["properties"]["spec"], spec, "spec")


def _same_fields(schema: dict[str, Any], part: type[Part], path: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(part)}
    assert set(fields) == set(schema["properties"]), path
    for name, field in fields.items():
        inner = schema["properties"][name]
        optional = "default" not in inner and name not in schema.get("required", ())
        assert optional == (not field.required) or inner.get("nullable"), f"{path}.{name}"
        nested = _kind_in(field.type, Part)
        if nested is not None:
            _same_fields(inner.get("items", inner), nested, f"{path}.{name}")


def _kind_in(annotation: Any, kind: type[Any]) -> type[Any] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, kind)), None)


@pytest.mark.parametrize(("kind", "spec"), [(FEDERATION, FederationSpec), (SITE, SiteSpec)])
def test_the_schema_and_the_types_have_the_same_choices(kind: str, spec: type[Part]):
    _same_choices(schemas()[kind]["properties"]["spec"], spec, "spec")


def _same_choices(schema: dict[str, Any], part: type[Part], path: str) -> None:
    for field in msgspec.structs.fields(part):
        inner, where = schema["properties"][field.encode_name], f"{path}.{field.encode_name}"
        inner = inner.get("items", inner)
        choices = _kind_in(field.type, StrEnum)
        if choices is not None:
            assert {each.value for each in choices} == set(inner.get("enum", ())), where
        nested = _kind_in(field.type, Part)
        if nested is not None:
            _same_choices(inner, nested, where)


def test_the_schema_knows_every_phase():
    phase = schemas()[FEDERATION]["properties"]["status"]["properties"]["phase"]
    assert set(phase["enum"]) == set(FederationPhase)


def test_the_crds_are_where_a_checkout_has_them():
    assert [path.parent for path in crd_files()] == [Path(__file__).parents[4] / "crds"] * 2


def _begun(phase: str) -> dict[str, Any]:
    return changed(build_federation(), {"status": {"phase": phase, "currentRound": 0}})


@pytest.mark.parametrize(("field", "value"), IMMUTABLE.items(), ids=IMMUTABLE)
def test_a_running_federation_keeps_its_field(field: str, value: Any):
    new = changed(_begun("Training"), {f"spec.{field}": value})
    with pytest.raises(InvalidManifest, match=f"spec.{field}.* cannot .* Set it back"):
        parse(new, old=_begun("Training"))


@pytest.mark.parametrize("phase", ["Suspended", "Complete", "Failed"])
def test_what_the_model_is_made_of_never_changes_again(phase: str):
    new = changed(_begun(phase), {"spec.rounds": 7})
    with pytest.raises(
        InvalidManifest, match=r"spec\.rounds 7: rounds cannot change once training has begun"
    ):
        parse(new, old=_begun(phase))


@pytest.mark.parametrize("phase", ["Pending", "Suspended", "Failed"])
def test_before_training_everything_may_change(phase: str):
    waiting = changed(build_federation(), {"status": {"phase": phase}})
    everything = {**IMMUTABLE, "objective": "ConditionalDistillation"}
    del everything["pseudoLabels"]  # of another objective
    parse(changed(waiting, {f"spec.{field}": value for field, value in everything.items()}), old=waiting)


@pytest.mark.parametrize("phase", ["Complete", "Failed"])
def test_at_the_end_where_the_records_are_and_what_becomes_of_them_may_change(phase: str):
    parse(changed(_begun(phase), {"spec.store": STORE, "spec.deletionPolicy": "Delete"}), old=_begun(phase))


def test_records_may_always_be_kept():
    old = changed(_begun("Training"), {"spec.deletionPolicy": "Delete"})
    parse(changed(old, {"spec.deletionPolicy": "Retain"}), old=old)


@pytest.mark.parametrize(("field", "value"), MUTABLE.items(), ids=MUTABLE)
def test_a_running_federation_may_change_its_field(field: str, value: Any):
    parse(changed(_begun("Training"), {f"spec.{field}": value}), old=_begun("Training"))


def test_the_store_of_a_running_federation_may_move_and_its_bucket_stays():
    old = changed(_begun("Training"), {"spec.store": STORE})
    moved = {"endpoint": "https://elsewhere.example", "region": "eu-1", "secretRef": {"name": "other"}}
    parse(changed(old, {"spec.store": {**STORE, **moved}}), old=old)
    uid = "11111111-2222-3333-4444-555555555555"
    for change, path in (({"bucket": "other"}, "spec.store"), ({"adoptUid": uid}, "spec.store.adoptUid")):
        with pytest.raises(InvalidManifest, match="Set it back") as refusal:
            parse(changed(old, {"spec.store": {**STORE, **change}}), old=old)
        assert [each.path for each in refusal.value.problems] == [path]


def test_a_new_order_of_external_sites_is_no_change():
    entries = [
        {"alias": alias, "siteRef": {"namespace": "external", "name": alias}} for alias in ("chur", "zug")
    ]
    old = changed(_begun("Training"), {"spec.evaluation": {"sites": entries}})
    new = changed(_begun("Training"), {"spec.evaluation": {"sites": entries[::-1]}})
    parse(new, old=old)


KEYS = sorted(
    path.lstrip(".")
    for path, part in _fields(schemas()[FEDERATION]["properties"]["spec"], "spec").items()
    if "[]" not in path
    and path != "spec"
    and len(path.split(".")[-1]) > 3
    # Without its last sign, beta1 is as near to beta2: no guess is right.
    and not path.endswith(("beta1", "beta2"))
)


@given(path=st.sampled_from(KEYS), data=st.data())
def test_a_misspelt_key_gets_a_suggestion(path: str, data: st.DataObject):
    parent, _, key = path.rpartition(".")
    at = data.draw(st.integers(1, len(key) - 1), label="letter")
    misspelt = data.draw(st.sampled_from([key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:]]))
    with pytest.raises(InvalidManifest) as refusal:
        parse(changed(build_federation(), {f"{parent}.{misspelt}": 1}))
    problem = next(each for each in refusal.value.problems if each.path == f"{parent}.{misspelt}")
    assert problem.fix == f"Did you mean {key}?"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(path=st.sampled_from([*KEYS, "spec", "metadata", "kind", "status", "spec.sites"]), value=JSON)
def test_nothing_crashes_it(path: str, value: Any):
    manifest = changed(build_federation(), {path: value})
    with contextlib.suppress(InvalidManifest):
        parse(manifest)
