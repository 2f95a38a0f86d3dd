import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.mistakes import build_federation, build_site
from segviz_operator.manifests.documents import read_documents
from segviz_operator.manifests.manifest import Federation, Site, load, read
from segviz_operator.manifests.problem import InvalidManifest

SITE = """\
apiVersion: segviz.dev/v1alpha1
kind: SegVizSite
metadata: {name: liver}
spec:
  volume: {hostPath: {path: /data}}
  dataSets: [{name: ct, layout: MSD, organs: {liver: [1]}}]
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: basel}\n"


def _refusal(path: Path) -> str:
    with pytest.raises(InvalidManifest) as refusal:
        load([path])
    return str(refusal.value)


def _write(folder: Path, content: str | bytes, name: str = "m.yaml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_manifest_lands_in_the_default_namespace(tmp_path: Path):
    (site,) = load([_write(tmp_path, SITE)]).sites
    assert (site.namespace, site.name, str(site)) == ("default", "liver", "SegVizSite default/liver")


def test_several_documents_files_and_folders_are_read_together(tmp_path: Path):
    (tmp_path / "sites").mkdir()
    _write(tmp_path / "sites", SITE, "a.yaml")
    _write(tmp_path / "sites", SITE.replace("liver}", "spleen}") + "---\n" + NAMESPACE, "b.yml")
    _write(tmp_path / "sites", "not: [read", "notes.txt")
    federation = _write(tmp_path, "---\n" + yaml.safe_dump(build_federation()) + "---\n")
    manifests = load([federation, tmp_path / "sites"])
    assert [each.name for each in manifests.federations] == ["abdomen"]
    assert [each.name for each in manifests.sites] == ["liver", "spleen"]
    assert manifests.foreign == ("Namespace default/basel",)


def test_what_kubectl_prints_can_be_read_back(tmp_path: Path):
    listing = {"apiVersion": "v1", "kind": "List", "items": [build_federation(), build_site()]}
    manifests = load([_write(tmp_path, yaml.safe_dump(listing))])
    assert (len(manifests.federations), len(manifests.sites)) == (1, 1)


def test_good_manifests_are_read_beside_bad_ones(tmp_path: Path):
    reading = read([_write(tmp_path, SITE + "---\n" + SITE.replace("MSD", "msd").replace("liver}", "x}"))])
    assert [each.name for each in reading.manifests.sites] == ["liver"]
    assert [each.path for each in reading.problems] == ["spec.dataSets[0].layout"]


MISTAKES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "nothing": ("", ("m.yaml: is empty. Write a SegVizFederation or SegVizSite.",)),
    "only a comment": ("# later\n---\n", ("is empty",)),
    "a list": ("- 1\n", ("is not an object. Start it with apiVersion and kind.",)),
    "not UTF-8": (
        b"kind: \xff",
        ("m.yaml: is not text in UTF-8 (byte 6). Give a YAML file, saved as UTF-8.",),
    ),
    "a control character": ("kind: \x00", ("a character that YAML does not allow (position 6). Remove it.",)),
    "a tab": ("spec:\n\trounds: 3\n", ("m.yaml:2:1: a tab indents this line. YAML indents with spaces.",)),
    "an open bracket": (
        "kind: [\n",
        ("m.yaml:2:1: is not valid YAML, here or just above (", "Check the indentation"),
    ),
    "a key twice": (SITE + "kind: x\n", ("m.yaml:7:1: the key kind appears twice. Keep one of the two.",)),
    "a key twice, deeper": (
        SITE.replace("liver: [1]", "liver: [1], liver: [2]"),
        ("m.yaml:6:59: the key liver appears twice",),
    ),
    "a key that is a boolean": ("spec: {on: 1}", ("m.yaml:1:8: the key on is read as True", "in quotes")),
    "a key that is a number": ("spec: {1: 1}", ("the key 1 is read as 1", "Put it in quotes.")),
    "a key that is a list": ("? [a]\n: 1\n", ("which is not text",)),
    "code": ("spec: !!python/object/apply:os.getcwd []", ("m.yaml:1:7: could not determine a constructor",)),
    "a knot": ("spec: &a [*a]", ("recursive",)),
    "a bomb": ("a: &a [1]\nb: [" + "*a," * 101 + "]", ("too many aliases",)),
    "no end of brackets": ("[" * 5000, ("nested too deeply",)),
    "a list of nothing": ("kind: List\nitems: 3\n", ("m.yaml: items 3 is not a list of objects.",)),
    "a list without items": ("kind: List\n", ("items null is not a list of objects",)),
    "a list of words": ("kind: List\nitems: [liver]\n", ('items ["liver"] is not a list of objects',)),
    "no kind": ("apiVersion: segviz.dev/v1alpha1\n", ("m.yaml: kind is missing. Write kind: SegViz",)),
    "no version": ("kind: SegVizSite\n", ("apiVersion is missing. Write apiVersion: segviz.dev/v1alpha1.",)),
    "another version": (
        SITE.replace("v1alpha1", "v1"),
        ('SegVizSite default/liver: apiVersion "segviz.dev/v1" is unknown. Write segviz.dev/v1alpha1.',),
    ),
    "a group misspelt": (SITE.replace("segviz.dev", "segvis.dev"), ("Write segviz.dev/v1alpha1.",)),
    "a kind misspelt": (
        SITE.replace("VizSite", "vizSites"),
        ("is unknown. Write SegVizSite.",),
    ),
    "an object twice": (
        SITE + "---\n" + SITE,
        ("SegVizSite default/liver: metadata.name is the same in ", "m.yaml, document 2. Rename or remove"),
    ),
    "a bare no": (
        SITE + "  release: no\n",
        ("spec.release false is not a valid choice. YAML reads yes, no, on and off as booleans.",),
    ),
}


@pytest.mark.parametrize(("content", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, content: str | bytes, says: tuple[str, ...]):
    told = _refusal(_write(tmp_path, content))
    assert all(words in told for words in says), told


def test_a_missing_file_is_named(tmp_path: Path):
    assert "none.yaml: cannot be read (No such file or directory)" in _refusal(tmp_path / "none.yaml")


def test_a_file_named_twice_is_told_from_a_name_that_two_files_use(tmp_path: Path):
    one, other = _write(tmp_path, SITE, "one.yaml"), _write(tmp_path, SITE, "other.yaml")
    with pytest.raises(InvalidManifest, match=r"SegVizSite default/liver: is read twice from \S+one.yaml\. "):
        load([one, one])
    with pytest.raises(
        InvalidManifest, match=r"metadata.name is the same in \S+one.yaml and \S+other.yaml\. "
    ):
        load([one, other])


def test_a_folder_without_manifests_is_named(tmp_path: Path):
    assert "has no .yaml file in it" in _refusal(tmp_path)


def test_the_second_document_is_called_so(tmp_path: Path):
    assert "m.yaml, document 2: kind is missing" in _refusal(_write(tmp_path, SITE + "---\nspec: {}\n"))


SCALARS = {
    "1e-3": 0.001,  # PyYAML itself reads text here; kubectl a number.
    "1.0e-3": 0.001,
    "2.0": 2,
    "-200": -200,
    "0x10": 16,
    "0o17": 15,
    "0b11": 3,
    "0": 0,
    "-0": 0,
    "0.5": 0.5,
    "010.5": 10.5,
    "_1": "_1",
    "1_a": "1_a",
    "v1_0": "v1_0",
    "1-2": "1-2",
    "10Gi": "10Gi",
    "null": None,
    "~": None,
    "": None,
    "None": "None",
    "no": False,
    "On": True,
    "12:30": "12:30",
    "2026-01-02": "2026-01-02",
    "1h30m": "1h30m",
    ".nan": ".nan",
    "'no'": "no",
    "=": "=",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=repr)
def test_a_scalar_means_what_it_means_to_kubectl(tmp_path: Path, text: str, value: Any):
    assert read_documents(_write(tmp_path, f"value: {text}\n")) == [{"value": value}]


def test_anchors_and_merges_work(tmp_path: Path):
    text = "a: &a {u: 1, v: 2}\nb: {<<: *a, v: 3}\nc: *a\n"
    (document,) = read_documents(_write(tmp_path, "\ufeff" + text))
    assert document == {"a": {"u": 1, "v": 2}, "b": {"u": 1, "v": 3}, "c": {"u": 1, "v": 2}}


OTHERWISE = {
    # kubectl's number: what Go's ParseInt(…, 0, 64) makes of it, after YAML has taken the underscores out.
    "010": "starts with a zero",  # 8
    "-010": "starts with a zero",  # -8
    "+07": "starts with a zero",  # 7
    "00": "starts with a zero",  # 0
    "08": "starts with a zero",  # no octal number, so 8.0
    "0777": "starts with a zero",  # 511
    "1_000": "kubectl would read it as a number",  # 1000
    "-1_0": "kubectl would read it as a number",
    "1_0.5": "kubectl would read it as a number",
    "1.5_0": "kubectl would read it as a number",
    "0x1_0": "kubectl would read it as a number",  # 16
    "0_7": "kubectl would read it as a number",  # 7
    "0B11": "kubectl would read it as a number",  # 3
    "0O17": "kubectl would read it as a number",  # 15
    "1e400": "is too large for a number",
    "-1e999": "is too large for a number",
}


@pytest.mark.parametrize("text", OTHERWISE)
@pytest.mark.parametrize("place", ["rounds: {}", "organs: {{liver: [{}]}}", "- {}", "{}: key"])
def test_a_number_that_kubectl_reads_otherwise_than_it_looks_is_refused(
    place: str, text: str, tmp_path: Path
):
    told = _refusal(_write(tmp_path, place.format(text) + "\n"))
    assert f"m.yaml:1:{place.index('{}') + 1 - place.count('{{')}: {text} " in told
    assert OTHERWISE[text] in told


@pytest.mark.parametrize("text", [f"'{each}'" for each in OTHERWISE])
def test_in_quotes_it_is_text(text: str, tmp_path: Path):
    assert read_documents(_write(tmp_path, f"value: {text}\n")) == [{"value": text.strip("'")}]


@pytest.mark.parametrize("example", ["btcv", "hippocampus", "phantom"])
def test_the_examples_are_valid(example: str):
    manifests = load([Path(__file__).parents[4] / "examples" / example])
    assert [each.name for each in manifests.federations] == [example]


# What YAML prints as it is; it folds the two kinds of separators as line breaks.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@settings(max_examples=settings().max_examples // 2)
@given(document=st.dictionaries(TEXT, PLAIN, min_size=1))
def test_json_is_read_as_it_is(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]):
    path = _write(tmp_path_factory.getbasetemp(), json.dumps(document, ensure_ascii=False), "any.yaml")
    assert read_documents(path) == [document]


@given(content=st.binary())
def test_no_file_crashes_it(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    reading = read([_write(tmp_path_factory.getbasetemp(), content)])
    assert reading.problems or reading.manifests.foreign


def test_types_are_frozen():
    assert Federation.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert Site.__dataclass_params__.frozen  # type: ignore[attr-defined]
