"""Scoring an exported model on an external set, where its images lie."""

from collections.abc import Callable
from dataclasses import dataclass

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.ledger import commit, read
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import CaseScore, Exported, ExternalScores, VariantOutcome
from segviz_exchange.contract.sharing import GROUPS, decode_groups
from segviz_exchange.stores.store import Store, download
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.metrics.shared_voxels import SharedVoxels
from segviz_trainer.models.for_external import load_for_external
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.process.heartbeat import Heartbeat
from segviz_trainer.process.site import Site
from segviz_trainer.scoring.case_ids import may_leave, salt_of
from segviz_trainer.scoring.cases import score, summary, surface_summary


@dataclass
class Evaluator:
    store: Store
    site: Site
    cases: tuple[PreparedCase, ...]
    heartbeat: Heartbeat

    def run(self) -> None:
        """Score every exported variant and create the site's external record."""
        variants = {}
        for entry in self.store.list(keys.EXPORTS):
            if entry.key.endswith(".json"):
                exported = read(self.store, entry.key, Exported)
                variants[exported.variant] = self._score(exported)
        commit(self.store, keys.external_scores(self.site.alias), ExternalScores(self.site.alias, variants))
        self.heartbeat.beat(Phase.DONE)

    def _score(self, exported: Exported) -> VariantOutcome:
        path = download(
            self.store, keys.exported_blob(exported.blob), exported.blob, self.site.state / "exported"
        )
        file = codec.open_tensors(path)
        tensors, groups = file.read_all(), decode_groups(file.metadata[GROUPS])
        device = Device.choose(exported.spec.training).settle()
        net = device.move(network.build(exported.spec, exported.all_organs))
        predictor = Predictor(net, exported.all_organs, device, InferenceOptions.of(exported.spec))
        rows: list[CaseScore] = []
        shared = SharedVoxels()
        for organ in sorted(set(exported.organs) & set(self.site.organs)):
            load_for_external(predictor, exported, organ, tensors, groups, self.cases)
            rows += score(
                predictor,
                self.cases,
                self.site.organs,
                (organ,),
                self._beats(f"{exported.variant}, {organ}"),
                exported.spec.evaluation.tolerance_millimetres or {},
                shared.add,
            )
        return VariantOutcome(
            test=summary(rows),
            cases=may_leave(rows, self.site.spec.scores, salt_of(self.site)),
            release=None,
            surface=surface_summary(rows),
            overlap=shared.rate,
        )

    def _beats(self, message: str) -> Callable[[int], object]:
        return lambda done: self.heartbeat.beat(
            Phase.TESTING, step=done, steps=len(self.cases), message=message
        )
