"""The console of every command: what others wrote reaches the terminal as text, whatever is in it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from segviz_exchange.process.words import for_terminal


class PlainConsole(Console):
    """Styles are the program's own: no control character of a record, a manifest or a Pod is."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Rich's own control codes are segments of another kind.
            yield segment if segment.control else segment._replace(text=for_terminal(segment.text))

    def render_str(self, text: str, **how: Any) -> Text:  # noqa: ANN401 - rich's own
        """Before it is measured: what is replaced has a width."""
        return super().render_str(for_terminal(text), **how)


def open_console() -> Console:
    return PlainConsole(highlight=False, markup=False, emoji=False)
