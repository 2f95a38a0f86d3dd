"""`segviz plan` over images on this machine: the trainer itself measures them."""

from pathlib import Path

import yaml
from click.testing import CliRunner

from builders.cubes import write_cases
from builders.plannable import manifests
from segviz_operator.cli.plan import plan


def test_sites_need_not_tell_for_what_is_measured_here(tmp_path: Path) -> None:
    """Their manifests have no fingerprint, and nothing is sent."""
    for organ in ("liver", "spleen"):
        write_cases(tmp_path / "data" / organ, (organ,), cases=10, seed=len(organ))
    memory = {"plan": "Auto", "memoryMebibytes": 1024}
    files = manifests(tmp_path, preprocessing={"plan": "Auto"}, model=memory)
    words = (files, "--data", tmp_path / "data", "-o", tmp_path / "planned.yaml")
    result = CliRunner().invoke(plan, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Planned from 16 training cases of basel, bern." in result.output
    spec = yaml.safe_load((tmp_path / "planned.yaml").read_text(encoding="utf-8"))["spec"]
    assert spec["preprocessing"]["spacingMillimetres"] == [2.0, 2.0, 2.0]
    assert (spec["training"]["patch"], spec["training"]["batchSize"]) == ([16, 16, 16], 2)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == []
