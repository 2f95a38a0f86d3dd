"""Merging N updates: memory and speed beside numpy and Flower, every measurement in a process of its own.

    python bench/aggregate.py --sites 4 --sites 16 --sites 64 --flwr-python /tmp/flwr/bin/python

Prints a markdown table. Flower wants an environment of its own (its pins would become ours):

    python -m venv /tmp/flwr && /tmp/flwr/bin/pip install flwr==1.41.0 safetensors

This file also is what each process runs, so nothing is imported on top that only one of them has.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

COLUMNS = (
    "sites",
    "merged by",
    "× numpy from files (range)",
    "peak memory ÷ one model",
    "GB/s from files",
    "GB/s of the call alone",
    "seconds",
    "CPU seconds",
)
BYTES_PER_ELEMENT = 4
# Most of a U-Net lies in a few tensors at the bottom, and many are tiny.
SHARES = [0.37, 0.18, 0.18, 0.09, 0.09, 0.045, 0.02, 0.01, 0.005]
SMALL_TENSORS = 60

Worker = Callable[[list[Path], Path], dict[str, float]]
"""Merges files into the one named; returns seconds: `call`, where the merging alone can be told apart."""


# --- The parent: makes files, starts processes, prints ------------------------------------------------


def main() -> None:
    options = parse_options()
    if options.worker:
        print(json.dumps(measure(options.worker, options.files)))
        return
    rows = list(run_all(options))
    print(f"{options.mebibytes} MiB a model, median of {options.repeats}; {machine()}.\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("|--:|:--|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, action="append", help="how many updates; may be repeated")
    parser.add_argument("--mebibytes", type=float, default=73.4, help="of one model (default 73.4 = 77 MB)")
    parser.add_argument("--repeats", type=int, default=5, help="of every way, in turn (default 5)")
    parser.add_argument("--flwr-python", type=Path, help="an interpreter that has flwr")
    parser.add_argument("--folder", type=Path, help="where the updates are written; default: temporary")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("files", type=Path, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sites = options.sites or [4, 16, 64]
    return options


def run_all(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    size_bytes = int(options.mebibytes * (1 << 20))
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="segviz-bench-") as folder:
        # The whole round copies its updates.
        needed = 2 * (max(options.sites) + 2) * size_bytes
        if shutil.disk_usage(folder).free < needed:
            sys.exit(f"{folder} has no {needed / 1e9:.0f} GB free; choose another --folder or fewer --sites")
        files = write_updates(Path(folder), max(options.sites), size_bytes)
        for sites in sorted(options.sites):
            yield from measured_rows(files[:sites], options)


def measured_rows(files: list[Path], options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """All ways take turns, so that what else the machine does meets them alike."""
    missing = {name: why for name in WORKERS if (why := fault_of(name, files, options.flwr_python))}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WORKERS if name not in missing}
    for _ in range(options.repeats):
        for name, measured in runs.items():
            measured.append(run_worker(name, files, options.flwr_python))
            print(f"{len(files):3} {name:20} {measured[-1]}", file=sys.stderr)
    for name in WORKERS:
        if name in missing:
            yield (str(len(files)), LABELS[name], missing[name], *["–"] * 5)
        else:
            yield row_of(name, runs[name], runs.get("numpy"), files)


def fault_of(name: str, files: list[Path], flwr_python: Path | None) -> str | None:
    """Why it cannot be run here."""
    if name.startswith("flwr") and flwr_python is None:
        return "not installed"
    # Flower's older call holds every model twice.
    if not name.startswith("segviz") and free_memory() < 3 * len(files) * files[0].stat().st_size:
        return "not enough memory here"
    return None


def run_worker(name: str, files: list[Path], flwr_python: Path | None) -> dict[str, float]:
    python = flwr_python if name.startswith("flwr") else Path(sys.executable)
    command = [str(python), __file__, "--worker", name, *map(str, files)]
    # From this repository's folder `operator/` must not come into an import's way.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env=environment)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def row_of(
    name: str, runs: list[dict[str, float]], numpy: list[dict[str, float]] | None, files: list[Path]
) -> tuple[str, ...]:
    size = files[0].stat().st_size
    total = size * len(files) / 1e9
    seconds = statistics.median(run["seconds"] for run in runs)
    call = statistics.median(run["call"] for run in runs)
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(runs, numpy or (), strict=False)]
    return (
        str(len(files)),
        LABELS[name],
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "–",
        f"{statistics.median(run['peak_bytes'] for run in runs) / size:.2f}",
        f"{total / seconds:.2f}",
        f"{total / call:.2f}",
        f"{seconds:.2f}",
        f"{statistics.median(run['cpu'] for run in runs):.2f}",
    )


def write_updates(folder: Path, count: int, size_bytes: int) -> list[Path]:
    import numpy as np

    from segviz_exchange.contract.codec import save

    elements = size_bytes // BYTES_PER_ELEMENT
    generator = np.random.default_rng(0)
    shapes = [int(share * elements) for share in SHARES]
    shapes += [(elements - sum(shapes)) // SMALL_TENSORS] * SMALL_TENSORS
    base = {f"t{i:03}": generator.standard_normal(n, dtype=np.float32) for i, n in enumerate(shapes)}
    files = []
    for number in range(count):
        path = folder / f"update-{number:03}"
        save(path, {name: value * np.float32(1 + number / 100) for name, value in base.items()})
        files.append(path)
    return files


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next(line.split(": ")[1] for line in info.splitlines() if line.startswith("model name"))
    return f"{model}, {os.cpu_count()} cores; Python {sys.version.split()[0]}, numpy {version('numpy')}"


def free_memory() -> int:
    return _kibibytes(Path("/proc/meminfo"), "MemAvailable") << 10


# --- A process: one way of merging ------------------------------------------------------------------


def measure(name: str, files: list[Path]) -> dict[str, float]:
    worker = WORKERS[name]()  # imports
    target = files[0].parent / f"merged-{os.getpid()}"
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text(
        "5", encoding="utf-8"
    )  # the peak restarts from what is resident now
    idle = _kibibytes(status, "VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    seconds = worker(files, target)
    total, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = _kibibytes(status, "VmHWM")
    target.unlink()
    return {**seconds, "seconds": total, "cpu": cpu, "peak_bytes": (peak - idle) << 10}


def segviz_hashed() -> Worker:
    merge = segviz_merged()

    from segviz_aggregator.scratch import DOWNLOADS
    from segviz_exchange.process.ahead import side_by_side

    def digest(file: Path) -> str:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def work(files: list[Path], target: Path) -> dict[str, float]:
        # As updates are that are fetched together.
        list(side_by_side([partial(digest, file) for file in files], workers=DOWNLOADS, name="hashing"))
        return merge(files, target)

    return work


def segviz_merged() -> Worker:
    from segviz_aggregator.algorithms.mean import mean
    from segviz_aggregator.merge import merged_chunks
    from segviz_exchange.contract.codec import open_tensors, write_tensors

    def work(files: list[Path], target: Path) -> dict[str, float]:
        opened = [open_tensors(file) for file in files]
        infos = opened[0].infos
        sources = {name: [(file, 1) for file in opened] for name in infos}
        began = time.perf_counter()
        write_tensors(target, infos, merged_chunks(mean, sources, opened[0]))
        return {"call": time.perf_counter() - began}

    return work


def numpy_stack() -> Worker:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    def work(files: list[Path], target: Path) -> dict[str, float]:
        updates = [load_file(file) for file in files]
        began = time.perf_counter()
        merged = {name: np.mean(np.stack([u[name] for u in updates]), axis=0) for name in updates[0]}
        seconds = time.perf_counter() - began
        save_file(merged, target)
        return {"call": seconds}

    return work


def flwr_aggregate() -> Worker:
    from flwr.server.strategy.aggregate import aggregate
    from safetensors.numpy import load_file, save_file

    def work(files: list[Path], target: Path) -> dict[str, float]:
        results: Any = []
        for file in files:
            tensors = load_file(file)
            results.append((list(tensors.values()), 1))
            names = list(tensors)
        del tensors
        began = time.perf_counter()
        merged = aggregate(results)
        seconds = time.perf_counter() - began
        save_file(dict(zip(names, merged, strict=True)), target)
        return {"call": seconds}

    return work


def flwr_records() -> Worker:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
    from safetensors.numpy import load_file, save_file

    def work(files: list[Path], target: Path) -> dict[str, float]:
        records = []
        for file in files:
            arrays = ArrayRecord({name: Array(value) for name, value in load_file(file).items()})
            records.append(RecordDict({"arrays": arrays, "metrics": MetricRecord({"cases": 1})}))
        began = time.perf_counter()
        merged = aggregate_arrayrecords(records, "cases")
        seconds = time.perf_counter() - began
        save_file({name: array.numpy() for name, array in merged.items()}, target)
        return {"call": seconds}

    return work


def _kibibytes(file: Path, field: str) -> int:
    line = next(
        line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith(f"{field}:")
    )
    return int(line.split()[1])


WORKERS: dict[str, Callable[[], Worker]] = {
    "segviz": segviz_hashed,
    "segviz-unhashed": segviz_merged,
    "numpy": numpy_stack,
    "flwr": flwr_aggregate,
    "flwr-records": flwr_records,
}
LABELS = {
    "segviz": "SegViz, every update hashed first",
    "segviz-unhashed": "SegViz, result alone hashed",
    "numpy": "numpy `mean(stack(…))`, no hash",
    "flwr": "Flower `aggregate`, no hash",
    "flwr-records": "Flower `aggregate_arrayrecords`, no hash",
}

if __name__ == "__main__":
    main()
