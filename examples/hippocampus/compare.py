"""Run every method of the README's table on the hippocampus federation, and print the table.

    python examples/hippocampus/compare.py --data DIR

DIR is MSD Task04_Hippocampus. Each method is the shipped manifest with one or two fields changed; its run
lies under runs/hippocampus/<method> and goes on where it was when this is started again.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

EXAMPLE = Path(__file__).parent
BATCH, INSTANCE = {"norm": "Batch"}, {"norm": "Instance"}
HEADS, MARGINAL = {"objective": "PerOrganHead"}, {"objective": "Marginal"}
FINE_TUNING = {"fineTuning": {"epochs": 3, "learningRate": 1e-3}}
METHODS: dict[str, dict[str, Any]] = {
    "Local, BatchNorm": {"algorithm": {"name": "Local"}, **HEADS, "model": BATCH},
    "Local, InstanceNorm": {"algorithm": {"name": "Local"}, **HEADS, "model": INSTANCE},
    "FedAvg, head per organ": {"algorithm": {"name": "FedAvg"}, **HEADS, "model": BATCH},
    "FedBN, head per organ": {"algorithm": {"name": "FedBN"}, **HEADS, "model": BATCH, **FINE_TUNING},
    "FedAvg, marginal": {"algorithm": {"name": "FedAvg"}, **MARGINAL, "model": BATCH},
    "FedBN, marginal": {"algorithm": {"name": "FedBN"}, **MARGINAL, "model": BATCH},
    "FedAvg, head per organ, InstanceNorm": {
        "algorithm": {"name": "FedAvg"},
        **HEADS,
        "model": INSTANCE,
        **FINE_TUNING,
    },
    "FedAvg, marginal, InstanceNorm": {"algorithm": {"name": "FedAvg"}, **MARGINAL, "model": INSTANCE},
}


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--workdir", default=Path("runs/hippocampus"), type=click.Path(path_type=Path))
@click.option("--method", "chosen", multiple=True, type=click.Choice(list(METHODS)), help="Only these.")
@click.option("--seed", default=0, show_default=True)
@click.option("--rounds", type=int, help="In place of the manifest's; for a quick look.")
def main(data: Path, workdir: Path, chosen: tuple[str, ...], rounds: int | None, seed: int) -> None:
    """Compare the methods on one data set, one seed and one split."""
    results: dict[str, dict[str, Any]] = {}
    for method in chosen or METHODS:
        folder = workdir / f"seed-{seed}" / re.sub(r"\W+", "-", method.lower()).strip("-")
        changes = METHODS[method] | {"seed": seed} | ({"rounds": rounds} if rounds else {})
        run(method, folder, data, changes)
        results[method] = json.loads((folder / "run/report.json").read_text())
    Console().print(render(results))


def run(method: str, folder: Path, data: Path, changes: dict[str, Any]) -> None:
    """Write the method's manifest and run it; a finished run only prints its tables again."""
    folder.mkdir(parents=True, exist_ok=True)
    federation = yaml.safe_load((EXAMPLE / "federation.yaml").read_text())
    federation["spec"] |= changes | {"model": federation["spec"]["model"] | changes["model"]}
    (folder / "federation.yaml").write_text(yaml.safe_dump(federation, sort_keys=False))
    files = [str(folder / "federation.yaml"), str(EXAMPLE / "sites.yaml")]
    command = [str(Path(sys.executable).with_name("segviz")), "run", *files]
    command += ["--data", str(data), "--workdir", str(folder / "run")]
    print(f"== {method}", flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def render(results: dict[str, dict[str, Any]]) -> Table:
    organs = sorted({row["organ"] for report in results.values() for row in report["rows"]})
    table = Table("method", *organs, title="External set: Dice, mean ± sd over cases")
    for method, report in results.items():
        for variant in report["methods"]:
            cells = {
                row["organ"]: f"{row['mean']:.3f} ± {row['sd']:.3f}"
                for row in report["rows"]
                if row["method"] == variant and row["table"] == "External"
            }
            name = f"{method} + FT" if variant.endswith("+FT") else method
            table.add_row(name, *(cells.get(organ, "-") for organ in organs))
    return table


if __name__ == "__main__":
    main()
