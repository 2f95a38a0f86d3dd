"""A round without training: what is left is the framework. Beside Flower's and NVFlare's simulators.

    python bench/round.py --flwr-python .flwr/bin/python --nvflare-python .nvflare/bin/python

Prints a markdown table: seconds a round, and what a round asks of the store. Ours is the real aggregator and
the real round loop, each in a process of its own, over a folder and over MinIO; only training is left out, so
that each site sends back what it got. Scoring is left out too: the peers' simulators score nothing here.
The peers want environments of their own (their pins would become ours); round_peers.py runs in them.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import IO

from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Control, Member
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "bench/round-1/"
SITES = ("basel", "bern", "chur", "geneva")
ORGANS = ("liver", "spleen", "pancreas", "kidneys")
CHANNELS = (8, 16, 32, 64)
STRIDES = (2, 2, 2)
"""The phantom's model."""
READY_SECONDS = 240.0
COLUMNS = (
    "4 sites, one model, no training",
    "seconds a round, median",
    "shortest–longest",
    "× ours over a folder",
    "requests a round",
)


@dataclass(frozen=True)
class Measured:
    label: str
    seconds: tuple[float, ...]
    """Of each round but the first two, in which everything is loaded."""
    requests: float | None = None
    """A round, of all processes together."""


def main() -> None:
    options = parse_options()
    if options.worker:
        from round_worker import work

        print(json.dumps(work(options.worker, options.store, options.folder, options.train_seconds)))
        return
    results = list(run_all(options))
    ours = statistics.median(results[0].seconds)
    print(f"{options.rounds} rounds, {options.train_seconds:g} s of training a round; {machine()}.\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("|:--|--:|--:|--:|--:|")
    for each in results:
        print("| " + " | ".join(row(each, ours)) + " |")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--train-seconds", type=float, default=0.0, help="a sleep in place of training")
    parser.add_argument("--flwr-python", type=Path, help="an interpreter that has flwr[simulation]")
    parser.add_argument("--nvflare-python", type=Path, help="an interpreter that has nvflare")
    parser.add_argument("--no-minio", action="store_true", help="over a folder alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_all(options: argparse.Namespace) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as name:
        folder = Path(name)
        yield ours("SegViz, a folder", str(folder / "bucket"), folder / "folder", options)
        if not options.no_minio:
            with minio(folder / "minio") as url:
                yield ours("SegViz, MinIO on this machine", url, folder / "s3", options)
        shapes = folder / "shapes.json"
        shapes.write_text(json.dumps(shapes_of_the_model()), encoding="utf-8")
        peers = {
            "flwr": ("Flower, simulation (Ray)", options.flwr_python),
            "nvflare": ("NVFlare, simulator", options.nvflare_python),
        }
        for peer, (label, python) in peers.items():
            yield of_peer(peer, label, python, shapes, folder / peer, options)


def row(each: Measured, ours: float) -> tuple[str, ...]:
    if not each.seconds:
        return (each.label, "–", "–", "–", "–")
    median = statistics.median(each.seconds)
    asked = "–" if each.requests is None else f"{each.requests:.0f}"
    spread = f"{min(each.seconds):.2f}–{max(each.seconds):.2f}"
    return (each.label, f"{median:.2f}", spread, f"{median / ours:.1f}", asked)


# --- Ours: a process a role ---------------------------------------------------------------------------


def ours(label: str, url: str, folder: Path, options: argparse.Namespace) -> Measured:
    folder.mkdir(parents=True)
    store = open_store(url).scoped(PREFIX)
    store.create(keys.control(1), encode(control(options.rounds)))
    words = [sys.executable, __file__, "--store", url, "--train-seconds", str(options.train_seconds)]
    with ExitStack() as running:
        workers = [
            running.enter_context(
                worker([*words, "--worker", role, "--folder", str(folder / role)], folder / f"{role}.log")
            )
            for role in ("aggregator", *SITES)
        ]
        until_all_have_ended([process for process, _ in workers])
        asked = [requests_of(each) for each in workers]
    return Measured(label, seconds_of_rounds(store), sum(asked) / (options.rounds + 1))


@contextmanager
def worker(words: Sequence[str], log: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with log.open("w", encoding="utf-8") as errors:
        process = start(words, errors, PYTHONPATH=os.pathsep.join([str(ROOT / "bench"), str(ROOT / "tests")]))
        try:
            yield process, log
        finally:
            process.kill()  # where another has failed
            process.wait()


def start(words: Sequence[str], errors: IO[str], **environment: str) -> subprocess.Popen[str]:
    # One thread each, as the manifests' default is; `operator/` must not come into an import's way.
    common = {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=errors,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, **common, **environment},
    )


def until_all_have_ended(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Or one has failed, which the others would wait for in vain."""
    while any(process.poll() is None for process in processes) and not any(p.returncode for p in processes):
        time.sleep(0.2)


def requests_of(ended: tuple[subprocess.Popen[str], Path]) -> float:
    """How many requests that process made. One that still runs when another has failed is not asked."""
    process, log = ended
    if process.poll() is None:
        return 0.0
    said, _ = process.communicate()
    if process.returncode:
        sys.exit(f"{log.stem} ended with {process.returncode}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return float(json.loads(said.splitlines()[-1])["requests"])


def seconds_of_rounds(store: Store) -> tuple[float, ...]:
    """From commit to commit, by the store's clock; the first two rounds load what is needed."""
    times = [entry.modified for entry in store.list(keys.ROUNDS)]
    return tuple((later - earlier).total_seconds() for earlier, later in pairwise(times[2:]))


def control(rounds: int) -> Control:
    from builders.rig import algorithm, small_federation  # type: ignore[import-not-found]
    from segviz_exchange.contract import choices, spec

    federation = small_federation(
        rounds=rounds,
        algorithm=algorithm(choices.AlgorithmName.FED_AVG),
        objective=choices.Objective.PER_ORGAN_HEAD,
        model=spec.Model(CHANNELS, STRIDES, 2, choices.Norm.BATCH, 1),
        selection=choices.Selection.LAST,
    )
    members = {alias: Member((organ,)) for alias, organ in zip(SITES, ORGANS, strict=True)}
    return Control(1, federation, members, suspend=False)


def shapes_of_the_model() -> dict[str, list[int]]:
    from segviz_trainer.network.segnet import build

    state = build(control(1).spec, ORGANS).state_dict()
    return {name: list(tensor.shape) for name, tensor in sorted(state.items())}


@contextmanager
def minio(folder: Path) -> Iterator[str]:
    from build import tool_path
    from minio import Minio
    from urllib3.exceptions import HTTPError

    from integration.apiserver import running_process  # type: ignore[import-not-found]
    from integration.ports import free_ports  # type: ignore[import-not-found]

    folder.mkdir(parents=True)
    port, console = free_ports(2)
    address, key, secret = f"127.0.0.1:{port}", secrets.token_hex(8), secrets.token_hex(16)
    settings = {"MINIO_ROOT_USER": key, "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off"}
    settings |= {"MINIO_CI_CD": "1", "MINIO_UPDATE": "off", "HOME": str(folder)}
    words = [str(tool_path("minio")), "server", "--quiet", "--address", address]
    words += ["--console-address", f"127.0.0.1:{console}", str(folder / "data")]
    os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret, AWS_REGION="us-east-1")
    with (folder / "log").open("w", encoding="utf-8") as log, running_process(words, log, **settings):
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                Minio(address, key, secret, secure=False).make_bucket("bench")
                break
            except (HTTPError, OSError):
                if time.monotonic() > deadline:
                    sys.exit("MinIO does not answer")
                time.sleep(0.2)
        yield f"s3+http://{address}/bench"


# --- Peers --------------------------------------------------------------------------------------------


def of_peer(
    peer: str, label: str, python: Path | None, shapes: Path, folder: Path, options: argparse.Namespace
) -> Measured:
    if python is None:
        return Measured(f"{label}: not installed", ())
    folder.mkdir()
    script = Path(__file__).with_name("round_peers.py")
    words = [str(python.absolute()), str(script), peer, "--shapes", str(shapes), "--folder", str(folder)]
    words += ["--rounds", str(options.rounds), "--sites", str(len(SITES))]
    with (folder / "log").open("w", encoding="utf-8") as errors:
        process = start(words, errors)
        said, _ = process.communicate()
    try:
        told = json.loads(said.splitlines()[-1])
        return Measured(f"{label} {told['version']}", tuple(told["seconds"][1:]))
    except (IndexError, KeyError, json.JSONDecodeError):
        print((folder / "log").read_text(encoding="utf-8")[-3000:], file=sys.stderr)
        return Measured(f"{label}: could not be run here (exit code {process.returncode})", ())


def machine() -> str:
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return f"{cores} cores at a load of {load:.1f}; Python {sys.version.split()[0]}, torch {version('torch')}"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests"), str(ROOT / "bench")]
    main()
