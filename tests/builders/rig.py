"""A whole federation in one process: real trainer, aggregator and folder store on volumes of a few voxels.

Sites and aggregator take turns, so a test decides what happens when and needs no sleep. A "process" is a
RoundLoop or an Aggregator; killing one is dropping the object, restarting it is making another.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from builders.cubes import SIDE, write_cases
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange.contract import choices, codec, keys, spec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.ledger import encode, find, newest_control, newest_round, read
from segviz_exchange.contract.records import (
    Control,
    Exported,
    ExternalScores,
    Final,
    Member,
    Outcome,
    Round,
    Update,
)
from segviz_exchange.contract.site_spec import DataSet, HostPathSource, SiteSpec, Split, TrainerPod, Volume
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.pace import Pace
from segviz_exchange.process.waiting import Silence, Waiting
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store
from segviz_trainer.data.dataset import SiteData, load_evaluation_data, load_training_data
from segviz_trainer.models.export import Exporter
from segviz_trainer.participation.external import Evaluator
from segviz_trainer.participation.outcome import conclude
from segviz_trainer.participation.participant import Participant
from segviz_trainer.participation.rounds import RoundLoop
from segviz_trainer.process.heartbeat import Heartbeat, take_lease
from segviz_trainer.process.site import Site


@dataclass
class Patience:
    """Stands for the process's signals: never asked to stop, unless a test counts the steps down."""

    steps_left: int | None = None

    @property
    def requested(self) -> bool:
        if self.steps_left is None:
            return False
        self.steps_left -= 1
        return self.steps_left < 0

    def wait(self, seconds: float) -> bool:
        return False

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        yield


def small_federation(**changes: object) -> FederationSpec:
    base = FederationSpec(
        sites=(),
        rounds=2,
        local_epochs=2,
        seed=7,
        algorithm=spec.Algorithm(AlgorithmName.FED_BN, choices.Weights.UNIFORM),
        objective=Objective.PER_ORGAN_HEAD,
        participation=spec.Participation(10.0),
        model=spec.Model((4, 8), (2,), 1, choices.Norm.BATCH, 1),
        preprocessing=spec.Preprocessing(
            spec.IntensityScaling(choices.Intensity.Z_SCORE), choices.Spacing.NATIVE
        ),
        training=spec.Training(
            patch=(SIDE, SIDE, SIDE),
            crops_per_volume=1,
            batch_size=2,
            learning_rate=1e-2,
            augmentation=choices.Augmentation.NONE,
            optimizer_state=choices.OptimizerState.KEEP,
            precision=choices.Precision.FP32,
            memory_format=choices.MemoryFormat.CHANNELS_LAST_3D,
            threads=1,
        ),
        selection=choices.Selection.BEST,
        evaluation=spec.Evaluation((), choices.EvaluationNorm.OWN_SITE, 0.5),
        deletion_policy=choices.DeletionPolicy.RETAIN,
        suspend=False,
    )
    return msgspec.structs.replace(base, **changes)


def algorithm(name: AlgorithmName, mu: float | None = None, **parameters: float) -> spec.Algorithm:
    return spec.Algorithm(name, choices.Weights.UNIFORM, mu, **parameters)


def site_spec(organs: tuple[str, ...], **changes: object) -> SiteSpec:
    base = SiteSpec(
        role=choices.Role.TRAINING,
        volume=Volume(host_path=HostPathSource("/")),
        data_sets=(
            DataSet(
                name="cubes",
                path=".",
                layout=choices.Layout.LIST,
                organs={organ: (index + 1,) for index, organ in enumerate(organs)},
                background=(),
            ),
        ),
        split=Split(60, 20, 20),
        on_bad_case=choices.OnBadCase.REFUSE,
        max_case_mebibytes=64,
        allowed_federations=(),
        release=choices.Release.HEADS_AND_NORM,
        scores=choices.Scores.PER_CASE,
        suspend=False,
        remote=False,
        trainer=TrainerPod(choices.ImagePullPolicy.IF_NOT_PRESENT),
    )
    return msgspec.structs.replace(base, **changes)


def pooled_spec(organs: tuple[str, ...]) -> SiteSpec:
    """A site with a data set for each organ."""
    data_sets = tuple(
        DataSet(organ, organ, choices.Layout.LIST, {organ: (index + 1,)}, ())
        for index, organ in enumerate(organs)
    )
    return site_spec(organs, data_sets=data_sets)


@dataclass
class Rig:
    folder: Path
    spec: FederationSpec
    organs: Mapping[str, tuple[str, ...]]
    """By alias; every site has ten cases of its own."""
    pooled: bool = False
    """Whether a site has a data set of ten cases for each of its organs, in place of one for all."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Of every site's spec."""
    store: Store = field(init=False)
    federation: str = "radiology/abdomen-00000000/"
    """Its prefix in a bucket; a rig's is the bucket."""
    home: Path | None = None
    """Of every site, where it is not in the site's state."""
    data: dict[str, SiteData] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FolderStore(self.folder / "bucket")
        for number, (alias, organs) in enumerate(sorted(self.organs.items())):
            if not self.pooled:
                write_cases(self.folder / "data" / alias, organs, cases=10, seed=number)
                continue
            for index, organ in enumerate(organs):
                folder = self.folder / "data" / alias / organ
                write_cases(folder, organs, cases=10, seed=10 * number + index, drawn=index)

    def control(self, *aliases: str, **changes: object) -> None:
        """Write the next control, with these sites (all, if none are named)."""
        last = newest_control(self.store)
        number = 1 if last is None else last.number + 1
        members = {alias: Member(self.organs[alias]) for alias in aliases or self.organs}
        edited = msgspec.structs.replace(self.spec, **changes)
        self.store.create(keys.control(number), encode(Control(number, edited, members, edited.suspend)))

    def site_spec(self, alias: str) -> SiteSpec:
        made = pooled_spec(self.organs[alias]) if self.pooled else site_spec(self.organs[alias])
        return msgspec.structs.replace(made, **self.changes)

    def site(self, alias: str, store: Store | None = None, stop: Patience | None = None) -> RoundLoop:
        """A new process of this site, on its own disk."""
        store = store or self.store
        place = self.folder / "state" / alias
        data = self.folder / "data" / alias
        site = Site(alias, self.site_spec(alias), data, place, self.home, self.federation)
        control = newest_control(self.store)
        assert control is not None
        if alias not in self.data:
            self.data[alias] = load_training_data(site, control.spec, lambda done, cases, case: None)
        heartbeat = Heartbeat(store, alias, take_lease(store, alias))
        me = Participant(store, site, self.data[alias], heartbeat, stop or Patience())
        return RoundLoop(me, Waiting(Pace(0.0), me.stop, Silence(me.stop)))

    def aggregator(self, store: Store | None = None) -> Aggregator:
        return Aggregator(store or self.store, self.folder / "scratch")

    def run(self, *aliases: str) -> Final:
        """Start everything and take turns until every site has its outcome."""
        sites = {alias: self.site(alias) for alias in sorted(aliases or self.organs)}
        self.drive(sites, self.aggregator())
        return self.conclude(sites)

    def drive(
        self, sites: Mapping[str, RoundLoop], aggregator: Aggregator, until_round: int | None = None
    ) -> None:
        """Take turns until training is over, or until a round has been committed."""
        for _ in range(10_000):
            latest = newest_round(self.store)
            if until_round is not None and latest is not None and latest.round >= until_round:
                return
            for site in sites.values():
                while site.take_turn():
                    pass
            step = aggregator.step()
            if step is Step.DONE:
                return
        raise AssertionError("the federation does not end")

    def conclude(self, sites: Mapping[str, RoundLoop]) -> Final:
        final = read(self.store, keys.FINAL, Final)
        for site in sites.values():
            conclude(site.me, final)
        return final

    def export(self) -> dict[str, Exported]:
        """Put the model together; what was exported, by variant."""
        Exporter(self.store, self.folder / "export-scratch", self.folder / "models").run()
        return {
            exported.variant: exported
            for exported in (
                read(self.store, entry.key, Exported)
                for entry in self.store.list(keys.EXPORTS)
                if entry.key.endswith(".json")
            )
        }

    def evaluate(self, alias: str) -> ExternalScores:
        """Export, and score the model on this site's cases as if they were an external set."""
        self.export()
        site = Site(alias, self.site_spec(alias), self.folder / "data" / alias, self.folder / "external")
        control = newest_control(self.store)
        assert control is not None
        cases = load_evaluation_data(site, control.spec, lambda done, cases, case: None)
        heartbeat = Heartbeat(self.store, "external", take_lease(self.store, "external"))
        Evaluator(self.store, site, cases, heartbeat).run()
        return read(self.store, keys.external_scores(alias), ExternalScores)

    # --- what a finished federation says ----------------------------------------------------------

    def round(self, number: int) -> Round:
        return read(self.store, keys.round_record(number), Round)

    def global_tensors(self, number: int) -> dict[str, codec.Array]:
        return self._tensors(keys.global_blob(self.round(number).blob))

    def update_tensors(self, alias: str, number: int, attempt: int = 1) -> dict[str, codec.Array]:
        update = read(self.store, keys.update(alias, number, attempt), Update)
        return self._tensors(keys.site_blob(alias, update.blob))

    def released(self, alias: str, variant: str = "base") -> dict[str, codec.Array]:
        outcome = read(self.store, keys.outcome(alias), Outcome)
        digest = outcome.variants[variant].release
        assert digest is not None
        return self._tensors(keys.release_blob(alias, digest))

    def digests(self) -> dict[str, str]:
        """Everything that a disturbed run must reproduce: global models and releases, by name."""
        found = {}
        for entry in self.store.list(keys.ROUNDS):
            found[entry.key] = read(self.store, entry.key, Round).blob
        for alias in self.organs:
            outcome = find(self.store, keys.outcome(alias), Outcome)
            for variant, result in (outcome.variants if outcome else {}).items():
                found[f"{alias}/{variant}"] = str(result.release)
        return found

    def _tensors(self, key: str) -> dict[str, codec.Array]:
        path = self.folder / "read.safetensors"
        path.write_bytes(self.store.get(key))
        return codec.open_tensors(path).read_all()
