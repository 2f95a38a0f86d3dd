"""Updates on thin lines: bytes, seconds to round and to put together, and seconds on lines of a given width.

    python tools/build.py minio && python bench/updates.py --megabits 10 --megabits 1

The default network, its tensors moved by noise. An update is uploaded by the store that a site uses, to
a real MinIO on this machine, through a proxy that lets so many bits a second pass. What the rounding costs in
Dice is a study: examples/thin-lines.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from round import minio
from train import MODEL

from segviz_exchange.contract import thin
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import Array, open_tensors, save
from segviz_exchange.contract.sharing import PARAMETER
from segviz_exchange.stores.opening import open_store
from segviz_trainer.network.segnet import SegNet, groups_of
from segviz_trainer.network.tensors import to_arrays

ROOT = Path(__file__).resolve().parents[1]
AGAINST = "0" * 64
SLICE_SECONDS = 0.02
"""A line's bytes pass in slices of this length."""


@dataclass(frozen=True)
class Sent:
    path: Path
    encode_seconds: float
    decode_seconds: float
    off: float
    """L2 norm of what the other end reads less what was meant, as a share of the change's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--megabits", type=float, action="append", help="a second, of a line; may be repeated"
    )
    options = parser.parse_args()
    lines = options.megabits or []
    with tempfile.TemporaryDirectory(prefix="segviz-bench-") as name:
        folder = Path(name)
        sent = {precision: write(folder, precision) for precision in UpdatePrecision}
        uploads = dict.fromkeys(sent, "") if not lines else upload_all(folder, sent, lines)
        whole = sent[UpdatePrecision.FLOAT32].path.stat().st_size
        print(
            "| precision | bytes | of the whole | off by, of the change | to round, s | to put together, s |",
            end="",
        )
        print("".join(f" at {each:g} Mbit/s, s |" for each in lines))
        print("|:--|--:|--:|--:|--:|--:|" + "--:|" * len(lines))
        for precision, each in sent.items():
            size = each.path.stat().st_size
            print(
                f"| {precision.value} | {size:,} | {100 * size / whole:.1f} % | {100 * each.off:.4f} % "
                f"| {each.encode_seconds:.2f} | {each.decode_seconds:.2f} |{uploads[precision]}"
            )
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; numpy {np.__version__}.")


def write(folder: Path, precision: UpdatePrecision) -> Sent:
    net = SegNet(MODEL, {"liver": 2}, seed=0)
    kinds = groups_of(net)
    base = {name: value for name, value in to_arrays(net.state_dict()).items() if value.dtype == np.float32}
    chance = np.random.default_rng(1)
    values = {
        name: (value + 1e-3 * np.abs(value).mean() * chance.standard_normal(value.shape)).astype(np.float32)
        for name, value in base.items()
    }
    path = folder / precision.value
    if precision is UpdatePrecision.FLOAT32:
        save(path, values)
        return Sent(path, 0.0, 0.0, 0.0)
    parameters = {name for name in base if kinds[name].kind == PARAMETER}
    save(folder / "base", base)
    began = time.perf_counter()
    thin.encode(path, values, parameters, thin.Base(AGAINST, base), {}, precision)
    encoded = time.perf_counter()
    thin.decode(open_tensors(path), open_tensors(folder / "base"), AGAINST, folder / "whole")
    decoded = time.perf_counter()
    read = open_tensors(folder / "whole").read_all()
    off = distance(read, values) / distance(values, base)
    return Sent(path, encoded - began, decoded - encoded, off)


def distance(one: dict[str, Array], other: dict[str, Array]) -> float:
    squares = (np.sum((one[name].astype(np.float64) - other[name]) ** 2) for name in other)
    return float(np.sqrt(sum(squares)))


# --- a thin line ------------------------------------------------------------------------------------------


def upload_all(
    folder: Path, sent: dict[UpdatePrecision, Sent], lines: list[float]
) -> dict[UpdatePrecision, str]:
    cells = dict.fromkeys(sent, "")
    with minio(folder / "minio") as url:
        parts = urlsplit(url)
        for megabits in lines:
            with line(parts.hostname or "", parts.port or 0, megabits * 1e6 / 8) as port:
                store = open_store(url.replace(parts.netloc, f"127.0.0.1:{port}"))
                for precision, each in sent.items():
                    began = time.perf_counter()
                    store.upload(f"{megabits:g}/{precision.value}", each.path)
                    cells[precision] += f" {time.perf_counter() - began:.1f} |"
    return cells


@contextmanager
def line(host: str, port: int, bytes_per_second: float) -> Iterator[int]:
    """A way to host:port as wide as that, for all connections together, in each direction; gives its port."""
    loop = asyncio.new_event_loop()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        with suppress(asyncio.CancelledError):  # the line ends
            await asyncio.gather(pass_on(reader, back, up), pass_on(there, writer, down))

    up, down = Width(bytes_per_second), Width(bytes_per_second)
    server = loop.run_until_complete(asyncio.start_server(connect, "127.0.0.1", 0, limit=1 << 16))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    yield server.sockets[0].getsockname()[1]
    asyncio.run_coroutine_threadsafe(end(server), loop).result()
    loop.call_soon_threadsafe(loop.stop)


async def end(server: asyncio.Server) -> None:
    server.close()
    connections = asyncio.all_tasks() - {asyncio.current_task()}
    for each in connections:
        each.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


class Width:
    """When the next bytes may pass."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self.free_at = 0.0

    async def take(self, count: int) -> None:
        now = time.monotonic()
        self.free_at = max(now, self.free_at) + count / self.bytes_per_second
        await asyncio.sleep(max(0.0, self.free_at - now - SLICE_SECONDS))


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, width: Width) -> None:
    slice_bytes = max(1024, int(width.bytes_per_second * SLICE_SECONDS))
    try:
        while data := await reader.read(slice_bytes):
            await width.take(len(data))
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
    main()
