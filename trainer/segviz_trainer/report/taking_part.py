"""Who took part and when: each site's part, and what happened, in its order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from segviz_exchange.contract.records import Control, Spent, Variant
from segviz_trainer.report.rounds import RoundRow
from segviz_trainer.study.run import Fact, RunRecords


@dataclass(frozen=True)
class SiteRow:
    alias: str
    organs: tuple[str, ...]
    rounds: tuple[int, ...]
    """Those whose model holds its update, round 0 left out: nothing was learned there."""
    cases: int | None
    """For training, as its newest update says."""
    training_seconds: float
    upload_seconds: float | None
    uploaded_bytes: int
    downloaded_bytes: int
    """The models of its rounds, from its first to its last."""
    released: tuple[str, ...]
    """Variants of which it released what its policy allows."""
    spent: Spent | None
    state: str
    """Empty, or why it is out."""


@dataclass(frozen=True)
class Event:
    at: datetime
    round: int | None
    site: str
    what: str
    why: str = ""


def sites_of(run: RunRecords, rounds: Sequence[RoundRow]) -> tuple[SiteRow, ...]:
    """Everybody who was ever a member, by alias."""
    known: dict[str, tuple[str, ...]] = {}
    for number in sorted(run.controls):
        known |= {alias: member.organs for alias, member in run.controls[number].said.members.items()}
    return tuple(_site(run, alias, known[alias], rounds) for alias in sorted(known))


def _site(run: RunRecords, alias: str, organs: tuple[str, ...], rounds: Sequence[RoundRow]) -> SiteRow:
    updates = [fact.said for fact in run.updates.get(alias, ())]
    parts = {row.round: row.sites[alias] for row in rounds if alias in row.sites}
    uploads = [each.upload_seconds for each in parts.values()]
    known = [each for each in uploads if each is not None]
    spans = [row for row in rounds if parts and min(parts) <= row.round <= max(parts)]
    outcome = run.outcomes.get(alias)
    told = [update.privacy for update in updates if update.privacy is not None]
    return SiteRow(
        alias=alias,
        organs=organs,
        rounds=tuple(number for number, part in parts.items() if part.merged and number > 0),
        cases=updates[-1].cases if updates else None,
        training_seconds=sum(each.training_seconds for each in parts.values()),
        upload_seconds=sum(known) if len(known) == len(uploads) else None,
        uploaded_bytes=sum(each.uploaded_bytes for each in parts.values()),
        downloaded_bytes=sum(row.model_bytes for row in spans),
        released=tuple(
            variant.value
            for variant in Variant
            if outcome and variant in outcome.variants and outcome.variants[variant].release
        ),
        spent=max(told, key=lambda spent: spent.releases, default=None),
        state=_state(run.control, alias),
    )


def _state(control: Control, alias: str) -> str:
    member = control.members.get(alias)
    if member is None:
        return "left the federation"
    return f"left out: {member.excluded}" if member.excluded else ""


def events_of(run: RunRecords) -> tuple[Event, ...]:
    """In the order of the store's clock."""
    return tuple(sorted(_events(run), key=lambda event: event.at))


def _events(run: RunRecords) -> Iterator[Event]:
    controls = [run.controls[number] for number in sorted(run.controls)]
    first = controls[0]
    yield Event(first.at, None, "", "the federation began", f"with {_listed(first.said.active)}")
    for old, new in pairwise(controls):
        yield from _edits(old.said, new)
    for at, refused in ((fact.at, fact.said) for fact in run.rejections):
        what = f"update refused, attempt {refused.attempt}: {refused.reason}"
        yield Event(at, refused.round, refused.site, what, refused.message)
    for number, closing in run.closings.items():
        before = run.closings.get(number - 1)
        out = set() if before is None else {(each.site, each.message) for each in before.said.exclusions}
        for each in closing.said.exclusions:
            if (each.site, each.message) not in out:  # said once, not in every round again
                what = f"not in the round: {each.reason}"
                yield Event(closing.at, number, each.site, what, each.message)
    for at, failed in ((fact.at, fact.said) for fact in run.failures):
        yield Event(at, failed.round, "", f"the round could not close: {failed.reason}", failed.message)
    chosen = run.final.said.round
    yield Event(run.final.at, chosen, "", "training ended", f"the model of round {chosen} was taken")


def _edits(old: Control, new: Fact[Control]) -> Iterator[Event]:
    """What a newer control says otherwise about sites and suspension."""
    at, control = new.at, new.said
    for alias in sorted(old.members.keys() | control.members.keys()):
        before, now = old.members.get(alias), control.members.get(alias)
        if before is None:
            yield Event(at, None, alias, "joined")
        elif now is None:
            yield Event(at, None, alias, "left")
        elif now.excluded and now.excluded != before.excluded:
            yield Event(at, None, alias, "was left out", now.excluded)
        elif before.excluded and not now.excluded:
            yield Event(at, None, alias, "takes part again")
    if control.suspend != old.suspend:
        yield Event(at, None, "", "suspended" if control.suspend else "resumed")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"
