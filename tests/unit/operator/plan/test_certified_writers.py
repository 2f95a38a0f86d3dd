"""Whose signature counts where, from one control to the next."""

from msgspec import UNSET
from msgspec.structs import replace

from builders.synthetic import control_of
from segviz_exchange.stores.keyring import Writers
from segviz_operator.plan.certified import certified

OLD, NEW = "0" * 64, "1" * 64
BASEL = "sites/basel/"


def test_what_was_begun_unsigned_ends_unsigned() -> None:
    assert certified({BASEL: Writers((NEW,))}, control_of()) is UNSET


def test_without_a_key_nothing_is_signed() -> None:
    assert certified(None, None) is UNSET


def test_a_new_key_counts_beside_the_one_whose_records_are_there() -> None:
    before = replace(control_of(), writers={BASEL: Writers((OLD,))})
    after = certified({BASEL: Writers((NEW,))}, before)
    assert after == {BASEL: Writers((NEW, OLD))}
    # And once more the same: no control follows the other for ever.
    assert certified({BASEL: Writers((NEW,))}, replace(before, writers=after)) == after


def test_who_was_let_in_without_a_key_goes_on_without() -> None:
    before = replace(control_of(), writers={BASEL: Writers()})
    assert certified({BASEL: Writers((NEW,))}, before) == {BASEL: Writers()}


def test_who_takes_its_key_away_does_not_become_anybody() -> None:
    before = replace(control_of(), writers={BASEL: Writers((OLD,))})
    assert certified({BASEL: Writers()}, before) == {BASEL: Writers((OLD,))}


def test_who_joins_is_added_and_who_left_stays_known() -> None:
    before = replace(control_of(), writers={BASEL: Writers((OLD,))})
    after = certified({"sites/bern/": Writers((NEW,))}, before)
    assert after == {BASEL: Writers((OLD,)), "sites/bern/": Writers((NEW,))}
