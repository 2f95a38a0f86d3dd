"""A site outside: `segviz join` itself, and the person who runs it."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials, decode_credentials, encode_credentials
from segviz_exchange.stores.store import Store
from segviz_operator.access.rights import site_access
from segviz_operator.joining.attend import Joining
from segviz_operator.plan.command_line import SiteFolders
from simulator.world import Actor

if TYPE_CHECKING:
    from simulator.simulation import Simulation

_REFUSED = 2
_LOOKS_EVERY_SECONDS = 1200.0


class Seat:
    """As `joining.seat.Seat`, over a simulated store."""

    def __init__(self, outside: "Outside", actor: Actor) -> None:
        self._outside, self._actor = outside, actor
        self.alias, self.state = outside.alias, outside.state
        self.site = SimpleNamespace(spec=outside.spec)
        self.data, self.credentials = self.state, outside.held_at
        self.invitation = SimpleNamespace(
            store="s3://x/y", federation="a/b", prefix="", region="", ca=None, alias=self.alias
        )
        self.folders = SiteFolders(self.alias, "", "", "")
        self.environment: dict[str, str] = {}  # its records are not signed
        self.joinfile = (
            self.state / "join.json"
        )  # there is none: whoever runs the command hands the newest over

    def open_store(self) -> Store:
        access = site_access(self.alias)
        return self._outside.simulation.connect(self._actor, access, self._outside.expires)


class Outside:
    def __init__(self, simulation: "Simulation", alias: str, spec: SiteSpec) -> None:
        self.simulation, self.alias, self.spec = simulation, alias, spec
        self.state: Path = simulation.folder / "outside" / alias
        self.held_at = self.state / "credentials.json"
        self._join_file: Credentials | None = None
        self._actor: Actor | None = None
        self.done = False

    @property
    def is_invited(self) -> bool:
        return self._join_file is not None

    def expires(self) -> Any:
        return decode_credentials(self.held_at.read_bytes(), "credentials").expiration

    def invite(self, credentials: Credentials) -> None:
        """A new join file; of the first one its owner hears some time later."""
        first, self._join_file = self._join_file is None, credentials
        if first:
            self.simulation.world.at(self.simulation.world.chance.uniform(0.0, 120.0), self._begin)
            self.simulation.world.at(_LOOKS_EVERY_SECONDS, self._look)

    def _begin(self) -> None:
        if self.simulation.is_lost(self.alias) or self.done:
            return
        self.state.mkdir(parents=True, exist_ok=True)
        offered = self._join_file
        assert offered is not None, "one is invited first"
        if not self.held_at.exists() or self.expires() < offered.expiration:
            self.held_at.write_bytes(encode_credentials(offered))
        name = f"join-{self.alias}"
        self._actor = self.simulation.world.start(name, self._join, die_at=self.simulation.die_at(name))
        self._actor.on_end = self._ended

    def _join(self, actor: Actor) -> int:
        view = SimpleNamespace(say=lambda _: None, show=lambda *_: None, away=lambda _: None)
        joining = Joining(Seat(self, actor), view, actor)  # type: ignore[arg-type]
        try:
            return joining.run()
        except Refusal as error:
            actor.message = str(error)
            return _REFUSED

    def _ended(self) -> None:
        """The trainer dies with the command; whoever ran it runs it again."""
        assert self._actor is not None
        for actor in self.simulation.world.actors:
            if actor.name == f"trainer-{self.alias}":
                actor.kill()
        self.done = self._actor.code == 0
        if not self.done:
            self.simulation.world.at(self.simulation.world.chance.uniform(5.0, 600.0), self._begin)

    def _look(self) -> None:
        """Somebody looks now and then, and asks for a new join file where the old credentials have ended."""
        world = self.simulation.world
        if self.done or self.simulation.ended is not None:
            return
        world.at(_LOOKS_EVERY_SECONDS, self._look)
        if self._actor and self._actor.alive and self.expires() <= world.moment:
            self._actor.stop()
