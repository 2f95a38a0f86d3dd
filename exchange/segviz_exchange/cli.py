"""The `segviz` command: finds the others among the installed roles, and imports none before it is run."""

import difflib
import sys
from importlib.metadata import EntryPoint, entry_points

import click

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.words import for_terminal

# Said here, so that help needs neither torch nor Kubernetes' client.
_HELP = {
    "data": "Check a data set, or make a phantom one to practise on.",
    "init": "Start a federation from a trained model.",
    "join": "Take part in a federation from outside its cluster.",
    "doctor": "Find what keeps a federation in a cluster from working, and say what to do.",
    "fetch": "Get a finished model and its report.",
    "evaluate": "Score a finished model on labelled cases.",
    "logs": "Print the logs of a federation's Pods.",
    "plan": "Show what would be planned from the sites' cases, and why.",
    "predict": "Find organs in images with a finished model.",
    "run": "Run a federation on this machine, with processes and a folder.",
    "status": "Show the state of a federation.",
    "store": "Check that an object store can hold a federation.",
    "study": "Compare methods on the same sites and write the report.",
    "validate": "Check manifests without a cluster.",
}

_EXAMPLES = """\b
Examples:
  segviz validate federation.yaml
  segviz run federation.yaml sites.yaml
  segviz COMMAND --help
"""


class Commands(click.Group):
    """Commands from entry points, each imported when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _entries().get(cmd_name)
        return None if entry is None else _load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known commands: {', '.join(known)}."
            ctx.fail(f"Unknown command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _HELP.get(name, "")) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Refusal as refusal:
            click.echo(for_terminal(str(refusal)), err=True)
            sys.exit(2)


@click.group(cls=Commands, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="segviz-federation", message="segviz %(version)s")
def main() -> None:
    """Train one multi-organ CT segmentation model across sites that each annotated a different organ."""


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="segviz.commands")}


def _load(entry: EntryPoint) -> click.Command:
    try:
        command: click.Command = entry.load()
    except ModuleNotFoundError as error:
        role = entry.module.partition(".")[0].removeprefix("segviz_")
        if role == "exchange":
            raise  # It is always there: no extra would mend this.
        raise Refusal(
            f"segviz {entry.name}: {error.name} is not installed."
            f" Run: pip install 'segviz-federation[{role}]'"
        ) from error
    return command
