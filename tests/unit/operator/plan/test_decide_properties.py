"""What holds of every plan, whatever is wanted and whatever is seen."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from builders.federations import build_control
from builders.situations import KILLED, LOST_QUORUM, NOON, THREE, ended, running, seen, wanted
from segviz_exchange.process.exits import Exit
from segviz_operator.plan.decide import (
    MAX_FAILURES,
    Action,
    CreateWorkload,
    DeleteWorkload,
    Desired,
    Observed,
    WriteControl,
    decide,
)
from segviz_operator.plan.workload import Workload


def apply(actions: tuple[Action, ...], observed: Observed) -> Observed:
    """What a body does, on paper."""
    for action in actions:
        match action:
            case WriteControl(control):
                assert control.number == (observed.control.number + 1 if observed.control else 1)
                observed = replace(observed, control=control)
            case CreateWorkload(role, site, attempt, failures, milestone):
                others = tuple(each for each in observed.workloads if (each.role, each.site) != (role, site))
                made = Workload(role, site, attempt, failures, milestone)
                observed = replace(observed, workloads=(*others, made))
            case DeleteWorkload(role, site, attempt):
                gone = (role, site, attempt)
                kept = tuple(
                    each for each in observed.workloads if (each.role, each.site, each.attempt) != gone
                )
                assert len(kept) == len(observed.workloads) - 1
                observed = replace(observed, workloads=kept)
    return observed


def aliases(most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(THREE), unique=True, max_size=most).map(tuple)


# Built once: a strategy that is made anew for each example costs more than the example.
SITES = aliases()
SOME_SITES = SITES.filter(bool)
DESIRES = st.builds(
    lambda sites, **changes: wanted(*sites, **changes),
    SOME_SITES,
    paused=aliases(1),
    suspend=st.booleans(),
    participation=st.sampled_from([{"maxNormRatio": 10.0}, {"maxNormRatio": 10.0, "minSites": 1}]),
    evaluation_sites=st.sampled_from([(), ("btcv",), ("btcv", "flare")]),
)
CONTROLS = st.none() | st.builds(
    build_control,
    st.just(1),
    SOME_SITES,
    st.dictionaries(st.sampled_from(THREE), st.just("refused: boom"), max_size=1),
    suspend=st.booleans(),
)
SLOTS = [
    ("Aggregator", None),
    ("Export", None),
    ("Evaluation", "btcv"),
    *(("Trainer", each) for each in THREE),
]
CHOSEN_SLOTS = st.lists(st.sampled_from(SLOTS), unique=True)
FAILURES = st.integers(0, MAX_FAILURES)
CODES = st.sampled_from([None, KILLED, *Exit])
AGES = st.sampled_from([0.0, 7.0, 1000.0])
FACTS = st.fixed_dictionaries(
    {
        "newest_round": st.none() | st.integers(0, 3),
        "final": st.booleans(),
        "outcomes": SITES,
        "exports": st.sampled_from([(), ("base",), ("base", "tuned")]),
        "externals": st.sampled_from([(), ("btcv",)]),
        "failures": st.sampled_from([(), (LOST_QUORUM,)]),
        "milestones": st.dictionaries(st.sampled_from(THREE), st.integers(0, 2)),
    }
)


def draw_workload(draw: st.DrawFn, role: str, site: str | None) -> Workload:
    failures, code = draw(FAILURES), draw(CODES)
    if code is None:
        return running(role, site, 1, failures)
    return ended(role, site, code=code, failures=failures, ago=draw(AGES))


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    control = draw(CONTROLS)
    if control is None:
        return Observed()
    there = [draw_workload(draw, role, site) for role, site in draw(CHOSEN_SLOTS)]
    return seen(*there, control=control, **draw(FACTS))


OBSERVATIONS = observations()


@given(DESIRES, OBSERVATIONS)
def test_an_applied_plan_leaves_nothing_to_plan(desired: Desired, observed: Observed) -> None:
    after = apply(decide(desired, observed, NOON), observed)
    assert decide(desired, after, NOON) == ()


@given(DESIRES, OBSERVATIONS)
def test_no_plan_creates_what_runs_or_deletes_what_is_not_there(desired: Desired, observed: Observed) -> None:
    there = {(each.role, each.site): each for each in observed.workloads}
    for action in decide(desired, observed, NOON):
        if isinstance(action, CreateWorkload):
            last = there.get((action.role, action.site))
            assert last is None or (not last.running and action.attempt == last.attempt + 1)
        if isinstance(action, DeleteWorkload):
            assert there[action.role, action.site].attempt == action.attempt
