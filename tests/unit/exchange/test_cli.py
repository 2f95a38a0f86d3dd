import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from builders.mistakes import build_federation, build_site, changed
from segviz_exchange import cli

EXAMPLES = Path(__file__).parents[3] / "examples"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def test_valid_manifests_are_told_one_a_line():
    result = _run("validate", str(EXAMPLES / "hippocampus"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "SegVizSite default/anterior: ok",
        "SegVizSite default/posterior: ok",
        "SegVizSite default/pooled: ok",
        "SegVizSite default/external: ok",
        "SegVizFederation default/hippocampus: ok",
        "SegVizStudy default/hippocampus: ok",
    ]
    # It is allowed, and seldom meant: no round has a deadline.
    assert "note: Each round waits for every site" in result.stderr


def test_a_federation_alone_is_checked_by_itself():
    result = _run("validate", str(EXAMPLES / "hippocampus" / "federation.yaml"))
    assert result.exit_code == 0
    assert "SegVizFederation default/hippocampus: ok (without its sites" in result.stdout


def test_problems_go_to_stderr_with_exit_code_2(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(
        yaml.safe_dump_all([build_site(), changed(build_federation(), {"spec.rounds": 0})]), encoding="utf-8"
    )
    result = _run("validate", str(path))
    assert result.exit_code == 2
    assert result.stdout == "SegVizSite default/liver: ok\n"
    assert result.stderr.startswith("SegVizFederation default/abdomen: spec.rounds 0 is too small.")


def test_a_federation_beside_a_site_that_cannot_be_read_is_not_said_to_have_none(tmp_path: Path):
    path = tmp_path / "m.yaml"
    site = changed(build_site(), {"spec.trainer": {"resources": {"limits": {"cpu": 0.5}}}})
    path.write_text(yaml.safe_dump_all([site, build_federation()]), encoding="utf-8")
    result = _run("validate", str(path))
    assert result.exit_code == 2
    assert "ok (by itself: not yet against the rest, which has to be mended first)" in result.stdout


def test_a_federation_that_does_not_fit_its_sites_is_a_problem(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump_all([build_site(), build_federation()]), encoding="utf-8")
    result = _run("validate", str(path))
    assert result.exit_code == 2
    assert 'spec.sites[0].siteRef "basel/liver" refers to a SegVizSite that does not exist' in result.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "0"])
def test_a_poll_interval_that_is_none_is_refused(seconds: str):
    result = _run("run", "none.yaml", "--poll-seconds", seconds)
    assert result.exit_code == 2
    assert "'--poll-seconds'" in result.stderr


def test_a_federation_without_its_sites_is_told_to_name_their_file():
    result = _run("run", str(EXAMPLES / "hippocampus" / "federation.yaml"))
    assert result.exit_code == 2
    assert "no SegVizSite found. Add the manifests of its sites" in result.stderr


def test_a_missing_file_is_no_traceback():
    result = _run("validate", "none.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("none.yaml: cannot be read")


def test_help_lists_every_command_and_has_examples():
    result = _run("--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in cli.main.list_commands(None))  # type: ignore[arg-type, attr-defined]
    assert "Examples:\n    segviz validate federation.yaml" in result.output


def test_every_command_says_what_it_does():
    assert set(cli.main.list_commands(None)) <= set(cli._HELP)  # type: ignore[arg-type, attr-defined]


def test_help_imports_no_role():
    script = "import sys; from segviz_exchange.cli import main; main(['--help'], standalone_mode=False); "
    script += "print([m for m in sys.modules if m.startswith(('torch', 'numpy', 'kubernetes', 'segviz_op'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.endswith("[]\n")


def test_a_misspelt_command_gets_a_suggestion():
    result = _run("valdate")
    assert result.exit_code == 2
    assert "Unknown command 'valdate'. Did you mean validate?" in result.stderr


def test_an_unheard_of_command_gets_the_list():
    listed = _run("zzz").stderr.partition("Known commands: ")[2].strip().rstrip(".").split(", ")
    assert listed == sorted(listed)
    assert {"data", "evaluate", "join", "predict", "run", "status", "store", "study", "validate"} <= set(
        listed
    )


def test_a_command_of_another_role_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    entry = EntryPoint("data", "segviz_trainer.nowhere:data", "segviz.commands")
    monkeypatch.setattr(cli, "_entries", lambda: {"data": entry})
    result = _run("data")
    assert result.exit_code == 2
    assert "pip install 'segviz-federation[trainer]'" in result.stderr


def test_the_version_is_the_distributions():
    assert _run("--version").output.startswith("segviz 0.")
