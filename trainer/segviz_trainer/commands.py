"""`segviz data`: data to try the system on. `segviz init`: a federation's first model."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from segviz_exchange.errors import Refusal
from segviz_exchange.store import open_store

_PATIENCE_SECONDS = 2.0


@click.group()
def data() -> None:
    """Make data to try SegViz on."""


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--cases", default=12, show_default=True, type=click.IntRange(3), help="Cases of each training site."
)
@click.option(
    "--external-cases",
    default=6,
    show_default=True,
    type=click.IntRange(1),
    help="Cases of the external set.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same bytes.")
def phantom(folder: Path, cases: int, external_cases: int, seed: int) -> None:
    """Write a made-up abdominal CT federation to FOLDER.

    Four training sites (liver, spleen, pancreas in MSD's layout, kidneys in KiTS19's), each with its own
    organ alone and its own scanner, and an external set with all four organs in BTCV's layout.

    \b
    Examples:
      segviz data phantom ./phantom
      segviz data phantom ./phantom --cases 20 --seed 7
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise Refusal(f"{folder} exists and is not empty. Name a new folder, or empty it first.")
    # Here, so that --help answers at once.
    from segviz_trainer.phantom import PHANTOM_SETS, generate

    started = time.monotonic()
    with _whole(folder) as staged, ExitStack() as stack:
        bar: click._termui_impl.ProgressBar[int] | None = None

        def report(done: int, total: int, name: str) -> None:
            nonlocal bar
            if bar is None and time.monotonic() - started > _PATIENCE_SECONDS:
                bar = stack.enter_context(click.progressbar(length=total, label="Writing phantoms"))
                bar.update(done - 1)
            if bar is not None:
                bar.update(1)

        generate(staged, seed, cases, external_cases, report=report)
    click.echo(f"Wrote {', '.join(s.name for s in PHANTOM_SETS)} to {folder}.")


_INIT_EXAMPLES = """\b
Examples:
  segviz init --from runs/phantom/models/base --store runs/second/bucket
  segviz init --from model/ --store s3://minio.example.org/segviz --prefix default/abdomen-1f2e3d4c/
"""


@click.command(epilog=_INIT_EXAMPLES)
@click.option(
    "--from",
    "model",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="An exported model's folder, or its model.safetensors.",
)
@click.option("--store", "url", required=True, help="Folder or s3://HOST/BUCKET that holds the federation.")
@click.option("--prefix", help="The federation's prefix in the store; not needed where there is one only.")
def init(model: Path, url: str, prefix: str | None) -> None:
    """Start a federation from a trained model.

    For a federation with spec.model.start: Pretrained, which waits for this. Takes the model's
    representation, and the heads of organs that both have; other heads start from the seed. Uses the
    coordinator's credentials: no site may write what all start from.
    """
    # Here, so that --help answers at once.
    from segviz_trainer.pretrained import find_prefix, start_from

    store = open_store(url)
    started = start_from(store.scoped(prefix or find_prefix(store)), model)
    click.echo(f"Round 0 is {started.record.blob}: {len(started.taken)} tensors of {model}.")
    if started.seeded:
        click.echo(f"From the seed: {len(started.seeded)} tensors, {started.seeded[0]} the first.")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill. What is in it comes to `folder` at the end alone: nobody meets half a data set."""
    folder = folder.resolve()
    staged = folder.with_name(f".{folder.name}.segviz-partial")
    shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
    try:
        yield staged
        if folder.is_dir():  # empty, but maybe somebody's working directory: it must stay the same one
            for each in staged.iterdir():
                each.rename(folder / each.name)
        else:
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
