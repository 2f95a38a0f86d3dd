"""Pictures of cases for a page, each a fragment of HTML, and what could not be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.progress import Progress

from segviz_exchange.process.errors import Refusal
from segviz_trainer.study.redrawn import Column, redraw
from segviz_trainer.viewer.fragment import case_fragment, script_source, viewer_assets


@dataclass(frozen=True)
class Pictures:
    figures: tuple[Markup, ...] = ()
    """One a case."""
    undrawn: tuple[Column, ...] = ()
    """Of organs that are not in the exported model."""
    lost: tuple[str, ...] = ()
    """Why a case could not be segmented again."""

    @property
    def shown(self) -> bool:
        return bool(self.figures or self.undrawn or self.lost)

    @property
    def policy(self) -> str:
        """What the page's Content-Security-Policy must allow: the viewer's script, by its digest."""
        return f"; script-src {script_source()}" if self.figures else ""

    @property
    def assets(self) -> Markup:
        return viewer_assets() if self.figures else Markup()


NO_PICTURES = Pictures()


def draw(columns: Sequence[Column], organs: Sequence[str], folder: Path, console: Console) -> Pictures:
    """Segment each case again and draw it.

    Args:
        organs: all of the page, which gives each its colour.
        folder: that of the runs' index.
    """
    drawn = [column for column in columns if column.can_be_drawn]
    figures: list[Markup] = []
    lost: list[str] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Drawing cases", total=sum(len(column.cases) for column in drawn))
        for column in drawn:
            try:
                for case in redraw(column, folder):
                    figures.append(case_fragment(case.viewed(organs)))
                    progress.advance(task)
            except Refusal as refusal:
                # The numbers are there all the same.
                console.print(f"not drawn: {refusal}", markup=False, highlight=False, soft_wrap=True)
                lost.append(str(refusal))
    undrawn = tuple(column for column in columns if not column.can_be_drawn)
    return Pictures(tuple(figures), undrawn, tuple(lost))
