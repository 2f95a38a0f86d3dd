"""A federation's status as a person sees it: one line a site, in eighty columns or more."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segviz_exchange.contract.progress import Severity
from segviz_operator.plan.phase import BROKEN, BUSY, HELD_UP, IDLE, FederationPhase, SitePhase
from segviz_operator.progress.crowd import MANY, counted, named, worst_first
from segviz_operator.progress.durations import duration
from segviz_operator.progress.status import FederationStatus, SiteStatus

_STYLES: dict[str, str] = {
    **dict.fromkeys(BUSY, "cyan"),
    **dict.fromkeys((FederationPhase.COMPLETE, SitePhase.DONE), "green"),
    **dict.fromkeys(BROKEN, "red"),
    **dict.fromkeys(HELD_UP, "yellow"),
}
_BAR_WIDTH = 10
_FULL_BAR_WIDTH = 24
_SITE_WIDTH = 14
_MOST_ORGANS = 3


def render_status(status: FederationStatus, pattern: str | None = None) -> RenderableType:
    """
    Args:
        pattern: shows the sites of this name alone (progress/crowd.py); else as many as fit a screen.
    """
    ordered = worst_first(status.sites, lambda site: site.phase)
    if pattern is not None:
        ordered = [site for site in ordered if named(site.alias, pattern)]
    shown = ordered if pattern is not None else ordered[:MANY]
    parts = [_headline(status), _site_table(status, shown)]
    if len(shown) < len(status.sites):
        parts.append(Text(how_many([site.phase for site in status.sites], len(shown), pattern), style="dim"))
    parts.append(_line("aggregator", status.aggregator))
    if status.mean_dice is not None:
        parts.append(_dice_line(status))
    # A site's message is a sentence of its own; in the table it would push everything else aside.
    parts += [_line(site.alias, site.message) for site in shown if site.message and _matters(site)]
    parts += [
        _line(site.alias, f"{finding.check}: {finding.message}", "yellow")
        for site in shown
        for finding in site.preflight
        if finding.severity is not Severity.INFO
    ]
    if status.phase in (FederationPhase.FAILED, FederationPhase.SUSPENDED) or any(
        site.phase in IDLE for site in status.sites
    ):
        parts.append(_line(status.phase.lower(), status.reason, _STYLES.get(status.phase, "dim")))
    return Group(*parts)


def _headline(status: FederationStatus) -> RenderableType:
    line = Table.grid(padding=(0, 2), expand=False)
    name = Text(status.name, style="bold", overflow="ellipsis", no_wrap=True)
    cells: list[RenderableType] = [
        name,
        Text(status.phase, style=_STYLES.get(status.phase, "")),
        Text(f"round {status.round or 0}/{status.rounds}" if status.rounds else ""),
        ProgressBar(total=1.0, completed=status.share, width=_FULL_BAR_WIDTH),
        Text(f"ETA {duration(status.eta_seconds)}" if status.eta_seconds is not None else ""),
    ]
    line.add_column(max_width=24)
    line.add_row(*cells)
    return line


def _dice_line(status: FederationStatus) -> Text:
    text = f"{status.mean_dice:.2f} (best round: {status.best_round})"
    newest = status.newest_mean_dice
    if newest is not None and newest != status.mean_dice:
        text += f", newest scored round {newest:.2f}"
    return _line("mean Dice", text)


def how_many(phases: Sequence[str], shown: int, pattern: str | None) -> str:
    """Below a table that does not show all sites: what all of them do, and how to see the others."""
    how = "The worst come first; --site NAME finds one" if pattern is None else f"--site {pattern}"
    return f"{shown} of {len(phases)} sites are shown: {counted(phases)}. {how}."


def _site_table(status: FederationStatus, shown: Sequence[SiteStatus]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("site", max_width=_SITE_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column("phase", min_width=10, no_wrap=True)
    table.add_column("round", justify="right", min_width=5, no_wrap=True)
    table.add_column("epoch", justify="right", min_width=5, no_wrap=True)
    table.add_column("", width=_BAR_WIDTH)
    table.add_column("loss", justify="right", min_width=5, no_wrap=True)
    table.add_column("Dice", min_width=14, no_wrap=True, overflow="ellipsis")
    table.add_column("ETA", justify="right", min_width=6, no_wrap=True)
    for site in shown:
        table.add_row(*_site_row(site, status))
    return table


def _site_row(site: SiteStatus, status: FederationStatus) -> tuple[RenderableType, ...]:
    return (
        site.alias,
        Text(site.phase, style=_STYLES.get(site.phase, "dim")),
        f"{site.round}/{status.rounds}" if site.round is not None else "",
        f"{site.epoch}/{site.epochs}" if site.epoch is not None else "",
        "" if site.share is None else ProgressBar(total=1.0, completed=site.share, width=_BAR_WIDTH),
        "" if site.loss is None else f"{site.loss:.3f}",
        dice_text(site),
        duration(site.eta_seconds),
    )


def dice_text(site: SiteStatus) -> str:
    """Each organ on its own line, as long as they are few."""
    if not site.dice:
        return ""
    if len(site.dice) > _MOST_ORGANS:
        return f"mean {sum(site.dice.values()) / len(site.dice):.2f} ({len(site.dice)})"
    return "\n".join(f"{organ} {value:.2f}" for organ, value in sorted(site.dice.items()))


def _matters(site: SiteStatus) -> bool:
    return site.phase in (*BROKEN, *HELD_UP)


def _line(name: str, text: str, style: str = "dim") -> Text:
    return Text(f"{name}: {text}", style=style, overflow="fold")
