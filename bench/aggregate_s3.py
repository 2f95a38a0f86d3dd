"""A round merged from S3 beside the same GETs in parallel: what hashing, writing and merging add to them.

    python tools/build.py minio && python bench/aggregate_s3.py --sites 4 --sites 16

A real MinIO on this machine holds the updates. *GETs* reads every object and throws it away, as many at once
as our downloads; *ours* is what an aggregator does that has just been started: fetch and hash every update,
merge them, hash and write the result. They take turns; nothing is in our scratch folder when a turn begins.
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from aggregate import write_updates
from round import minio
from updates import line

from segviz_aggregator.algorithms.mean import mean
from segviz_aggregator.merge import merged_chunks
from segviz_aggregator.participants import DOWNLOADS
from segviz_aggregator.scratch import Scratch
from segviz_exchange.contract.codec import write_tensors
from segviz_exchange.process.ahead import side_by_side
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store, read_chunks

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Way:
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __call__(self, work: Callable[[], float]) -> float:
        began, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.seconds.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - cpu)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, action="append", help="how many updates; may be repeated")
    parser.add_argument("--mebibytes", type=float, default=73.4, help="of one model (default 73.4 = 77 MB)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabits", type=float, help="a second, of the line to MinIO; default: none")
    options = parser.parse_args()
    print("| sites | GETs, GB/s | ours, GB/s | ours ÷ GETs, seconds (range) ", end="")
    print("| CPU seconds of the GETs, without MinIO's | of ours | the merge alone, s |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as name:
        folder = Path(name)
        with minio(folder / "minio") as url, ExitStack() as lines:
            store = open_store(url)
            digests = list(uploaded(store, folder, max(options.sites or [4]), options.mebibytes))
            if options.megabits:
                parts = urlsplit(url)
                width = options.megabits * 1e6 / 8
                port = lines.enter_context(line(parts.hostname or "", parts.port or 0, width))
                store = open_store(url.replace(parts.netloc, f"127.0.0.1:{port}"))
            for sites in sorted(options.sites or [4]):
                print(row(store, digests[:sites], folder, options.repeats))
    print(f"\n{os.cpu_count()} cores, shared with MinIO; load {os.getloadavg()[0]:.1f}.")


def uploaded(store: Store, folder: Path, count: int, mebibytes: float) -> Iterator[str]:
    for path in write_updates(folder, count, int(mebibytes * (1 << 20))):
        digest = digest_of(path)
        store.upload(digest, path)
        path.unlink()
        yield digest


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row(store: Store, digests: list[str], folder: Path, repeats: int) -> str:
    gets, ours, merges, size_bytes = Way(), Way(), [], 0.0
    for _ in range(repeats + 1):
        size_bytes = gets(lambda: sum(side_by_side(reads(store, digests), workers=DOWNLOADS, name="get")))
        merges.append(ours(lambda: merge(store, digests, folder)))
    # The first turn warms up.
    ratios = [mine / plain for mine, plain in zip(ours.seconds[1:], gets.seconds[1:], strict=True)]
    rates = [size_bytes / 1e9 / statistics.median(way.seconds[1:]) for way in (gets, ours)]
    cpu = [statistics.median(way.cpu[1:]) for way in (gets, ours)]
    return (
        f"| {len(digests)} | {rates[0]:.2f} | {rates[1]:.2f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
        f"| {cpu[0]:.2f} | {cpu[1]:.2f} | {statistics.median(merges[1:]):.2f} |"
    )


def reads(store: Store, digests: list[str]) -> Iterator[Callable[[], int]]:
    return (partial(read, store, digest) for digest in digests)


def read(store: Store, key: str) -> int:
    with store.open(key) as stream:
        return sum(len(chunk) for chunk in read_chunks(stream))


def merge(store: Store, digests: list[str], folder: Path) -> float:
    """Returns the seconds after the last update has come."""
    scratch = Scratch(folder / "scratch")
    fetches = (partial(scratch.fetch, store, digest, digest) for digest in digests)
    files = list(side_by_side(fetches, workers=DOWNLOADS, name="fetching"))
    began = time.perf_counter()
    infos = files[0].infos
    sources = {name: [(file, 1) for file in files] for name in infos}
    write_tensors(scratch.merging, infos, merged_chunks(mean, sources, files[0]))
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
    main()
