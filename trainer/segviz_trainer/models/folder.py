"""The folder of an exported model: all of it, or what was there before."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Exported
from segviz_trainer.models.bundle import write_bundle
from segviz_trainer.models.exported import RECORD
from segviz_trainer.models.modelcard import Sources
from segviz_trainer.models.trained import TrainedModel


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside it to fill, which takes its place at the end, unless something went wrong."""
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def complete(folder: Path, exported: Exported, sources: Sources) -> None:
    """Add to its weights the record of them, and what makes it a MONAI bundle.

    Raises:
        Refusal: the weights are not the ones that the record names, or are no model.
    """
    (folder / RECORD).write_bytes(encode(exported))
    if exported.organs:
        write_bundle(folder, TrainedModel.open(folder), sources)
