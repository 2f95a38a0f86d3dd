"""A site that gives back its GPU while it waits: it ends, comes again for more work, and loses nothing."""

from pathlib import Path

from builders.rig import Rig, small_federation
from segviz_aggregator.loop import Step
from segviz_exchange.contract.spec import FineTuning
from segviz_exchange.process.exits import Exit
from segviz_operator.progress.observe import Observer
from segviz_trainer.participation.idle import Idle

TWO = {"basel": ("liver",), "bern": ("spleen",)}
TUNED = small_federation(fine_tuning=FineTuning(1, 1e-2))


def test_sites_that_end_whenever_they_wait_come_to_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = Rig(tmp_path / "undisturbed", TUNED, TWO)
    undisturbed.control()
    undisturbed.run()
    rig = Rig(tmp_path / "released", TUNED, TWO)
    rig.control()
    aggregator, ends = rig.aggregator(), dict.fromkeys(TWO, 0)
    done: set[str] = set()
    while done < {*TWO}:
        rests = Observer(rig.store).read().observed().rests
        for alias in TWO:
            if alias in rests or alias in done:
                continue  # as `decide` has it: nothing is started
            loop = rig.site(alias)
            loop.idle = Idle(0.0)
            code = loop.run()
            assert code in (Exit.IDLE, Exit.DONE)
            ends[alias] += 1
            if code is Exit.DONE:
                done.add(alias)
        while aggregator.step() is Step.MOVED:
            pass
    # Round 0, each round, the last scores, and the outcome: not one start too many.
    assert set(ends.values()) == {TUNED.rounds + 2}
    assert rig.digests() == undisturbed.digests()
