"""Time and bytes, by round and site."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segviz_trainer.study.run import RunRecords


@dataclass(frozen=True)
class SiteRound:
    """What a site did for a round, all attempts together."""

    training_seconds: float
    upload_seconds: float | None
    """None where an older version did not say."""
    uploaded_bytes: int
    attempts: int
    merged: bool
    loss: float | None
    """Of the newest attempt's last epoch."""


@dataclass(frozen=True)
class RoundRow:
    round: int
    seconds: float | None
    """From the previous round's commit to this one's; None of round 0."""
    model_bytes: int
    """Of the global model, which each site loads."""
    sites: Mapping[str, SiteRound]
    left_out: Mapping[str, str]
    """Why, by alias."""
    chosen: bool

    @property
    def uploaded_bytes(self) -> int:
        return sum(each.uploaded_bytes for each in self.sites.values())


def rounds_of(run: RunRecords) -> tuple[RoundRow, ...]:
    """Committed rounds, in their order."""
    rows = []
    for number, fact in run.rounds.items():
        before = run.rounds.get(number - 1)
        closing = run.closings.get(number)
        rows.append(
            RoundRow(
                round=number,
                seconds=None if before is None else (fact.at - before.at).total_seconds(),
                model_bytes=fact.said.size_bytes,
                sites=_sites(run, number, fact.said.participants),
                left_out={each.site: each.message for each in closing.said.exclusions} if closing else {},
                chosen=number == run.final.said.round,
            )
        )
    return tuple(rows)


def _sites(run: RunRecords, number: int, participants: Iterable[str]) -> dict[str, SiteRound]:
    found = {}
    for alias, facts in sorted(run.updates.items()):
        updates = [fact.said for fact in facts if fact.said.round == number]
        if updates:
            uploads = [each.upload_seconds for each in updates]
            known = [each for each in uploads if each is not None]
            found[alias] = SiteRound(
                training_seconds=sum(each.seconds for each in updates),
                upload_seconds=sum(known) if len(known) == len(uploads) else None,
                uploaded_bytes=sum(each.size_bytes for each in updates),
                attempts=len(updates),
                merged=alias in participants,
                loss=updates[-1].loss,
            )
    return found
