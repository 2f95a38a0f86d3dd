"""A finished run's models, from the bucket to a folder: each a MONAI bundle, its digest checked."""

from collections.abc import Iterator
from pathlib import Path

from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Exported
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.store import Corrupt, NotFound, Store, download
from segviz_trainer.models.exported import RECORD, WEIGHTS
from segviz_trainer.models.folder import complete, staged
from segviz_trainer.models.modelcard import Sources
from segviz_trainer.study.run import RunRecords


def fetch_models(store: Store, run: RunRecords, output: Path) -> Iterator[Exported]:
    """Write each variant to a folder of its name in `output`.

    Raises:
        Refusal: a model is not there, is not the one that its record names, or would replace something else.
    """
    sources = sources_of(run)
    for variant, exported in run.exports.items():
        folder = output / variant
        if folder.exists() and not (folder / RECORD).is_file():
            raise Refusal(
                f"{folder}: is no model of SegViz, and is not replaced. Name another folder with -o."
            )
        with staged(folder) as beside:
            _weigh(store, exported, beside)
            complete(beside, exported, sources)
        yield exported


def _weigh(store: Store, exported: Exported, folder: Path) -> None:
    key = keys.exported_blob(exported.blob)
    try:
        path = download(store, key, exported.blob, folder, max_bytes=exported.size_bytes)
    except (Corrupt, NotFound) as error:
        record = keys.exported(exported.variant)
        raise Refusal(
            f"the {exported.variant} model in the store is not the one that its record {record} names "
            f"({error}). Nothing of it was written: restore the store from a backup, or export again."
        ) from error
    path.rename(folder / WEIGHTS)


def sources_of(run: RunRecords) -> Sources:
    """As the export itself had them, for the model card."""
    final = run.final.said
    control = run.controls[final.control].said
    closing = run.closings.get(final.round)
    cases = {}
    for participant in closing.said.participants if closing else ():
        for fact in run.updates.get(participant.site, ()):
            if (fact.said.round, fact.said.attempt) == (final.round, participant.attempt):
                cases[participant.site] = fact.said.cases
    return Sources(
        sites={alias: control.members[alias].organs for alias in control.active},
        cases=cases,
        outcomes={alias: run.outcomes[alias] for alias in control.active if alias in run.outcomes},
    )
