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


@st.composite
def desires(draw: st.DrawFn) -> Desired:
    return wanted(
        *draw(aliases().filter(bool)),
        paused=draw(aliases(1)),
        suspend=draw(st.booleans()),
        participation=draw(st.sampled_from([{"maxNormRatio": 10.0}, {"maxNormRatio": 10.0, "minSites": 1}])),
        evaluation_sites=draw(st.sampled_from([(), ("btcv",), ("btcv", "flare")])),
    )


@st.composite
def workloads(draw: st.DrawFn, role: str, site: str | None) -> Workload:
    failures = draw(st.integers(0, MAX_FAILURES))
    code = draw(st.sampled_from([None, KILLED, *Exit]))
    if code is None:
        return running(role, site, 1, failures)
    return ended(role, site, code=code, failures=failures, ago=draw(st.sampled_from([0.0, 7.0, 1000.0])))


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    control = draw(
        st.none()
        | st.builds(
            build_control,
            st.just(1),
            aliases().filter(bool),
            st.dictionaries(st.sampled_from(THREE), st.just("refused: boom"), max_size=1),
            suspend=st.booleans(),
        )
    )
    if control is None:
        return Observed()
    slots = [("Aggregator", None), ("Export", None), ("Evaluation", "btcv")]
    slots += [("Trainer", alias) for alias in THREE]
    chosen = draw(st.lists(st.sampled_from(slots), unique=True))
    return seen(
        *(draw(workloads(role, site)) for role, site in chosen),
        control=control,
        newest_round=draw(st.none() | st.integers(0, 3)),
        final=draw(st.booleans()),
        outcomes=draw(aliases()),
        exports=draw(st.sampled_from([(), ("base",), ("base", "tuned")])),
        externals=draw(st.sampled_from([(), ("btcv",)])),
        failures=draw(st.sampled_from([(), (LOST_QUORUM,)])),
        milestones=draw(st.dictionaries(st.sampled_from(THREE), st.integers(0, 2))),
    )


@given(desires(), observations())
def test_an_applied_plan_leaves_nothing_to_plan(desired: Desired, observed: Observed) -> None:
    after = apply(decide(desired, observed, NOON), observed)
    assert decide(desired, after, NOON) == ()


@given(desires(), observations())
def test_no_plan_creates_what_runs_or_deletes_what_is_not_there(desired: Desired, observed: Observed) -> None:
    there = {(each.role, each.site): each for each in observed.workloads}
    for action in decide(desired, observed, NOON):
        if isinstance(action, CreateWorkload):
            last = there.get((action.role, action.site))
            assert last is None or (not last.running and action.attempt == last.attempt + 1)
        if isinstance(action, DeleteWorkload):
            assert there[action.role, action.site].attempt == action.attempt
