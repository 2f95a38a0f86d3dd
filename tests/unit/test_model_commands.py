"""Mistakes on the command line of `segviz predict`, `evaluate` and `data check`: told at once, by name."""

from segviz_trainer.model_commands import organ_ids


def test_the_ids_of_an_organ_named_twice_add_up() -> None:
    assert organ_ids(["liver=1", "spleen=4", "liver=2,3"]) == {"liver": (1, 2, 3), "spleen": (4,)}
