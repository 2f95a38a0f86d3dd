"""`segviz plan`: what a person sees before anyone trains."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from builders.mistakes import build_federation
from builders.plannable import manifests
from segviz_exchange.contract.choices import Intensity
from segviz_exchange.contract.fingerprint import Fingerprint, Intensities, OrganSize, Spread
from segviz_exchange.contract.ledger import encode
from segviz_exchange.process.errors import Refusal
from segviz_operator.cli.plan import plan
from segviz_operator.manifests.manifest import Federation, parse


def told(folder: Path, site: str, spacing: float) -> str:
    axes = (Spread(spacing, spacing, spacing),) * 3
    values = Intensities(1000, 50.0, 20.0, (-20.0, 5.0, 10.0, 40.0, 50.0, 60.0, 90.0, 95.0, 180.5))
    extent = (Spread(300.0, 300.0, 300.0),) * 3
    sizes = {"liver": OrganSize(20, Spread(1.0, 2.0, 3.0))}
    path = folder / f"{site}.json"
    path.write_bytes(encode(Fingerprint(site, 20, axes, axes, extent, {}, True, values, sizes)))
    return str(path)


def run(*words: object) -> Result:
    return CliRunner().invoke(plan, list(map(str, words)), catch_exceptions=False)


def both(folder: Path) -> list[str]:
    return [
        *("--fingerprint", told(folder, "basel", 2.0)),
        *("--fingerprint", told(folder, "bern", 2.0)),
    ]


def test_it_shows_reasons_and_a_manifest_with_plain_numbers(tmp_path: Path) -> None:
    result = run(manifests(tmp_path), *both(tmp_path), "-o", tmp_path / "planned.yaml")
    assert result.exit_code == 0, result.output
    assert "Planned from 40 training cases of basel, bern." in result.output
    assert "preprocessing.spacingMillimetres [2, 2, 2]: the median of 40 cases" in result.output
    text = (tmp_path / "planned.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Planned from 40 training cases")
    raw = yaml.safe_load(text)
    assert "plan" not in raw["spec"]["model"]
    federation = parse(raw)
    assert isinstance(federation, Federation), "the manifest is one that may be applied"
    assert not federation.spec.awaits_plan
    assert federation.spec.preprocessing.spacing_millimetres == (2.0, 2.0, 2.0)
    assert federation.spec.preprocessing.intensity.window == (-20.0, 180.5)
    assert federation.spec.training.patch == tuple(raw["spec"]["training"]["patch"])
    assert federation.spec.rounds == build_federation()["spec"].get("rounds", federation.spec.rounds)


def test_what_the_manifest_asks_for_alone_is_planned(tmp_path: Path) -> None:
    files = manifests(tmp_path, preprocessing={"plan": "Auto"}, model={"channels": [8, 16], "strides": [2]})
    raw = yaml.safe_load(run(files, *both(tmp_path)).output.partition("\n\n")[2])
    federation = parse(raw)
    assert isinstance(federation, Federation)
    assert federation.spec.model.channels == (8, 16)
    assert federation.spec.preprocessing.intensity.method is Intensity.WINDOW


def test_a_fingerprint_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"there is no training site 'basle'\. Did you mean basel\?"):
        run(manifests(tmp_path), "--fingerprint", told(tmp_path, "basle", 2.0))


def test_a_file_that_is_no_fingerprint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"site": "basel", "cases": -1}', encoding="utf-8")
    with pytest.raises(Refusal, match=r"x\.json: is no fingerprint"):
        run(manifests(tmp_path), "--fingerprint", tmp_path / "x.json")


def test_a_site_without_images_or_fingerprint_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"site 'bern': its images are in the claim"):
        run(manifests(tmp_path), "--fingerprint", told(tmp_path, "basel", 2.0))
