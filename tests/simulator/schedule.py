"""What happens to one federation: all of it drawn from a seed."""

import random
from dataclasses import dataclass
from typing import Any

import msgspec

from builders.rig import site_spec, small_federation
from segviz_exchange.contract import choices, spec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.contract.spec import FederationSpec
from simulator.connection import Weather
from simulator.lies import Lie, draw_lies

ALIASES = ("basel", "bern", "chur", "davos")
ORGANS = ("liver", "spleen", "pancreas", "kidney")
MOST_CRASHES = 4
"""Of one role: fewer in a row than give it up (`plan.decide.MAX_FAILURES`)."""
LIAR = "bern"
_KINDS = ("500", "503", "409", "lost", "late", "repeated")


@dataclass(frozen=True)
class Schedule:
    seed: int
    spec: FederationSpec
    sites: dict[str, SiteSpec]
    weather: Weather
    crash_rate: float
    """Of an incarnation of a process."""
    crash_calls: int
    """It dies before it has waited so often."""
    operator_takes_all: bool
    """Whether the processes die with the operator, as under `segviz run`."""
    credential_seconds: int
    lost: str | None
    """A site that goes away and never comes back."""
    lost_at: float
    suspended: tuple[float, float] | None
    second_aggregator: bool
    step_seconds: float
    liar: str | None = None
    """A site whose owner writes `lies` beside what its trainer does."""
    lies: tuple[Lie, ...] = ()

    @property
    def calm(self) -> bool:
        """Whether every site can be in every round."""
        return self.lost is None and self.spec.participation.round_timeout_seconds is None

    @property
    def world(self) -> bytes:
        """What the models follow from where every site is in every round: two with the same end alike."""
        fields = {"spec": self.spec, "sites": {alias: site.organs for alias, site in self.sites.items()}}
        return msgspec.json.encode(fields, order="deterministic")


def draw(seed: int) -> Schedule:
    chance = random.Random(f"schedule {seed}")
    aliases = ALIASES[: chance.choice((2, 3, 3, 4))]
    lost = chance.choice(aliases) if chance.random() < 0.15 else None
    liar = LIAR if lost is None and len(aliases) > 2 and chance.random() < 0.2 else None
    timed = lost is not None or liar is not None or chance.random() < 0.3
    federation = _federation(chance, len(aliases), timed)
    clears = chance.uniform(600.0, 7200.0)
    return Schedule(
        seed=seed,
        spec=federation,
        sites={alias: _site(chance, alias, place, here=alias == liar) for place, alias in enumerate(aliases)},
        weather=Weather(
            rates={kind: chance.uniform(0.0, 0.08) for kind in _KINDS if chance.random() < 0.6},
            listing_late_seconds=chance.uniform(0.0, 5.0) if chance.random() < 0.3 else 0.0,
            spans=tuple(_span(chance) for _ in range(chance.choice((0, 0, 1, 2)))),
            clears=clears,
            latency_seconds=chance.choice((0.01, 0.05, 0.5)),
        ),
        crash_rate=chance.choice((0.0, 0.3, 0.7)),
        crash_calls=chance.choice((20, 60, 200)),
        operator_takes_all=chance.random() < 0.3,
        credential_seconds=chance.choice((300, 900, 3600)),
        lost=lost,
        lost_at=chance.uniform(0.0, 1500.0),
        suspended=(chance.uniform(10.0, 600.0), chance.uniform(700.0, 1800.0))
        if chance.random() < 0.15
        else None,
        second_aggregator=chance.random() < 0.15,
        step_seconds=chance.choice((1.0, 20.0)),
        liar=liar,
        lies=draw_lies(chance) if liar else (),
    )


def hostile(lies: tuple[Lie, ...], seed: int) -> Schedule:
    """Three sites of which one lies, and a store that does what it is asked."""
    chance = random.Random(f"hostile {seed}")
    sites = {alias: _site(chance, alias, place, here=True) for place, alias in enumerate(ALIASES[:3])}
    return Schedule(
        seed=seed,
        spec=_federation(chance, 3, timed=True),
        sites=sites,
        weather=Weather(),
        crash_rate=0.0,
        crash_calls=1,
        operator_takes_all=False,
        credential_seconds=3600,
        lost=None,
        lost_at=0.0,
        suspended=None,
        second_aggregator=False,
        step_seconds=1.0,
        liar=LIAR,
        lies=lies,
    )


def _federation(chance: random.Random, sites: int, timed: bool) -> FederationSpec:
    name = chance.choice(
        (AlgorithmName.FED_AVG, AlgorithmName.FED_BN, AlgorithmName.FED_BN, AlgorithmName.MEDIAN)
    )
    changes: dict[str, Any] = {
        "rounds": chance.choice((1, 2, 3)),
        "local_epochs": chance.choice((1, 2)),
        "seed": chance.choice((7, 11)),
        "algorithm": spec.Algorithm(name, choices.Weights.UNIFORM),
        "objective": chance.choice((Objective.PER_ORGAN_HEAD, Objective.PER_ORGAN_HEAD, Objective.MARGINAL)),
        "participation": spec.Participation(
            10.0, max(1, sites - 1) if timed else None, chance.choice((600, 1800)) if timed else None
        ),
        "fine_tuning": spec.FineTuning(1, 1e-2) if chance.random() < 0.2 else None,
    }
    made = small_federation(**changes)
    training = msgspec.structs.replace(made.training, memory_format=choices.MemoryFormat.CONTIGUOUS)
    return msgspec.structs.replace(made, training=training)


def _site(chance: random.Random, alias: str, place: int, *, here: bool = False) -> SiteSpec:
    organ = ORGANS[place] if chance.random() < 0.8 else ORGANS[0]
    return msgspec.structs.replace(
        site_spec((organ,)),
        remote=chance.random() < 0.25 and not here,
        scores=chance.choice(tuple(choices.Scores)),
        release=choices.Release.HEADS_AND_NORM,
    )


def _span(chance: random.Random) -> tuple[str, float, float]:
    begin = chance.uniform(0.0, 1200.0)
    return chance.choice(("away", "full", "slow")), begin, begin + chance.uniform(10.0, 500.0)
