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
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from aggregate import write_updates
from round import minio

from segviz_aggregator.algorithms.mean import mean
from segviz_aggregator.merge import merged_chunks
from segviz_aggregator.participants import DOWNLOADS
from segviz_aggregator.scratch import Scratch
from segviz_exchange.contract.codec import write_tensors
from segviz_exchange.process.ahead import side_by_side
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store, read_chunks

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sites", type=int, action="append", help="how many updates; may be repeated")
    parser.add_argument("--mebibytes", type=float, default=73.4, help="of one model (default 73.4 = 77 MB)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| sites | GETs, GB/s | ours, GB/s | ours ÷ GETs, seconds (range) | the merge alone, s |")
    print("|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as name:
        folder = Path(name)
        with minio(folder / "minio") as url:
            store = open_store(url)
            digests = list(uploaded(store, folder, max(options.sites or [4]), options.mebibytes))
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
    gets, ours, merges, size_bytes = [], [], [], 0
    for turn in range(repeats + 1):
        began = time.perf_counter()
        size_bytes = sum(
            side_by_side([partial(read, store, digest) for digest in digests], workers=DOWNLOADS, name="get")
        )
        got = time.perf_counter()
        merging = merge(store, digests, folder)
        done = time.perf_counter()
        if turn:  # the first warms up
            gets.append(got - began)
            ours.append(done - got)
            merges.append(merging)
    ratios = [mine / plain for mine, plain in zip(ours, gets, strict=True)]
    return (
        f"| {len(digests)} | {size_bytes / 1e9 / statistics.median(gets):.2f} "
        f"| {size_bytes / 1e9 / statistics.median(ours):.2f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) "
        f"| {statistics.median(merges):.2f} |"
    )


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
