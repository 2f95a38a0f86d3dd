"""When a process that waits has waited long enough."""

from dataclasses import dataclass

import msgspec

from builders.rig import site_spec
from segviz_exchange.contract.site_spec import IdleRelease
from segviz_trainer.participation.idle import Idle


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_over_after_so_long_without_work() -> None:
    clock = Clock()
    idle = Idle(600.0, clock)
    assert not idle.is_over
    idle.begins()
    clock.now += 599
    idle.begins()
    assert not idle.is_over
    clock.now += 1
    assert idle.is_over
    idle.ends()
    assert not idle.is_over


def test_it_is_never_over_where_the_site_does_not_say_so_or_nobody_would_start_it_again() -> None:
    site = site_spec(("liver",))
    assert Idle.at(site).most_seconds is None
    pod = msgspec.structs.replace(site.trainer, idle_release=IdleRelease(600))
    assert Idle.at(msgspec.structs.replace(site, trainer=pod)).most_seconds == 600
    assert Idle.at(msgspec.structs.replace(site, trainer=pod, remote=True)).most_seconds is None
