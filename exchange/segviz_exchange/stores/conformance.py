"""What a federation needs of its store, as checks that run against the real one.

A store that breaks a promise does so quietly and rarely: two aggregators that both believe to have closed
a round give two models, and nobody is told. So the promises are tried out before one is relied upon.
"""

import hashlib
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event

from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, Store, StoreError, Unavailable

CONTENDERS = 8
RACES = 20
MANY_KEYS = 1100
"""More than the 1000 that S3 lists at a time."""
BLOB_BYTES = 12 << 20
"""More than one part of a multipart upload."""
CLOCK_TOLERANCE = timedelta(seconds=5)
"""A store of several machines has several clocks, and a Date header counts whole seconds."""

UNTRUSTED = "no record could be trusted"
MIXED = "one site's or federation's objects would be taken for another's"


class ContractBroken(Exception):
    """What the store did, and what that would do to a federation."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


Check = Callable[[Store], None]


@dataclass(frozen=True)
class Result:
    promise: str
    broken: ContractBroken | None
    seconds: float


def what_was_created_is_read(store: Store) -> None:
    content = secrets.token_bytes(1000)
    store.create("record", content)
    _expect(store.get("record") == content, "an object differs from what was created", UNTRUSTED)


def a_second_create_is_refused(store: Store) -> None:
    store.create("record", b"first")
    _expect(
        not _create(store, "record", b"second"),
        "a second create of one key succeeded",
        "records must never change once they exist; the store ignores If-None-Match",
    )
    _expect(store.get("record") == b"first", "a refused create changed the object", UNTRUSTED)


def of_racing_creates_one_wins(store: Store) -> None:
    contents = [b"contender %d" % number for number in range(CONTENDERS)]
    for number in range(RACES):
        won = race(store, f"race-{number}", contents)
        _expect(
            sum(won) == 1,
            f"of {CONTENDERS} racing creates {sum(won)} won",
            "this store cannot hold a federation, since two aggregators could both close a round",
        )
        _expect(
            store.get(f"race-{number}") == contents[won.index(True)],
            "the object left by a race is not its winner's",
            UNTRUSTED,
        )


def race(store: Store, key: str, contents: Sequence[bytes]) -> list[bool]:
    """Create one key with each of the contents at once; says which creates succeeded."""
    start = Barrier(len(contents))

    def create(content: bytes) -> bool:
        start.wait()
        return _create(store, key, content)

    with ThreadPoolExecutor(len(contents)) as pool:
        try:
            return list(pool.map(create, contents))
        except BaseException:
            # Asked to stop before all have begun: the first would wait for the rest, and the process for it.
            start.abort()
            raise


def a_put_replaces(store: Store) -> None:
    store.put("heartbeat", b"first")
    store.put("heartbeat", b"second, and longer")
    now = store.get("heartbeat")
    _expect(now == b"second, and longer", "a replaced object is still read", "a site at work would look dead")


def readers_never_see_half_an_object(store: Store) -> None:
    contents = [bytes([letter]) * (256 << 10) for letter in b"ab"]
    store.put("heartbeat", contents[0])
    over = Event()

    def read() -> bool:
        whole = True
        while whole and not over.is_set():
            whole = store.get("heartbeat") in contents
        return whole

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for turn in range(20):
                store.put("heartbeat", contents[turn % 2])
        finally:
            over.set()
        whole = all(reader.result() for reader in readers)
    _expect(whole, "a reader saw an object half replaced", "the sites' progress could not be shown")


def what_is_missing_is_not_found(store: Store) -> None:
    store.create("neighbour", b"")
    for read in (store.get, lambda key: _read_whole(store, key)):
        try:
            read("missing")
        except NotFound:
            continue
        raise ContractBroken("a missing object was read", "nothing could tell that a round is still open")


def a_listing_is_exact_and_sorted(store: Store) -> None:
    wanted = ["x/ab-c.json", "x/ab.json", "x/ab/2.json", "x/abc/d.json"]
    for key in [*reversed(wanted), "x/a.json", "x/ac.json", "xab.json", "y/x/ab.json"]:
        store.create(key, b"{}")
        _expect(
            key in [entry.key for entry in store.list(key)],
            f"{key} was not listed right after it was created",
            "an update could be missed when its round closes",
        )
    listed = [(entry.key, entry.size_bytes) for entry in store.list("x/ab")]
    _expect(
        listed == [(key, 2) for key in wanted], f"keys that start with x/ab were listed as {listed}", MIXED
    )
    _expect(store.list("nothing/") == [], "an empty prefix was listed with objects", MIXED)


def a_long_listing_is_complete(store: Store) -> None:
    # Names that a walk over folders would give in another order than S3 does.
    keys = sorted(f"many/{number // 2:04d}{('.json', '/1.json')[number % 2]}" for number in range(MANY_KEYS))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.create(key, b""), keys))
    listed = [entry.key for entry in store.list("many/")]
    what = f"of {MANY_KEYS} objects, {len(set(listed) & set(keys))} were listed in {len(listed)} entries"
    _expect(listed == keys, what, "updates of a long federation would go unseen")


def times_are_those_of_one_clock(store: Store) -> None:
    before = store.now()
    for number in range(5):
        store.create(f"tick/{number}", b"")
    after = store.now()
    times = [entry.modified for entry in store.list("tick/")]
    what = "an object is dated before one that was created earlier"
    _expect(times == sorted(times), what, "rounds would end before they began")
    _expect(
        before - CLOCK_TOLERANCE <= times[0] and times[-1] <= after + CLOCK_TOLERANCE,
        f"objects created from {before} to {after} by the store's clock are dated {times[0]} to {times[-1]}",
        "a round's deadline would come too early or too late; set the clocks of the store's machines (NTP)",
    )


def a_blob_comes_back_whole(store: Store) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for size in (0, BLOB_BYTES):
            path = Path(folder, "blob")
            path.write_bytes(secrets.token_bytes(size))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            for _ in range(2):  # a repeated upload changes nothing
                store.upload(f"blobs/{digest}", path)
            back = _read_whole(store, f"blobs/{digest}")
            _expect(back == digest, f"a blob of {size} bytes came back changed", "models would not arrive")


def an_empty_object_exists(store: Store) -> None:
    store.create("empty", b"")
    sizes = [entry.size_bytes for entry in store.list("empty")]
    kept = store.get("empty") == b"" and sizes == [0] and not _create(store, "empty", b"full")
    _expect(kept, "an empty object is not kept as it is", "an existing object would look missing")


def deep_and_plain_keys_are_kept(store: Store) -> None:
    key = "/".join(f"part-{depth:02d}_x.y" for depth in range(16)) + "/UPPER and lower=1+1&ü.json"
    store.create(key, b"deep")
    _expect(
        store.get(key) == b"deep" and [entry.key for entry in store.list("part-00")] == [key],
        f"the key {key} was not kept as it is",
        "sites could not have the names people choose",
    )


def a_scope_is_its_own_world(store: Store) -> None:
    left, right = store.scoped("left/"), store.scoped("right/")
    left.create("record", b"left")
    right.create("record", b"right")
    seen = (left.get("record"), right.get("record"), store.get("left/record"))
    _expect(seen == (b"left", b"right", b"left"), "two scopes share objects", MIXED)
    listed = [entry.key for entry in left.list("")]
    _expect(listed == ["record"], f"a scope with one object, record, lists {listed}", MIXED)


def a_delete_may_be_repeated(store: Store) -> None:
    store.create("record", b"first")
    for _ in range(2):
        store.delete("record")
    _expect(store.list("record") == [], "a deleted object is still listed", "nothing could be cleaned up")
    again = _create(store, "record", b"second")
    _expect(again, "a deleted key cannot be created again", "nothing could be made a second time")


CHECKS: tuple[Check, ...] = (
    what_was_created_is_read,
    a_second_create_is_refused,
    of_racing_creates_one_wins,
    a_put_replaces,
    readers_never_see_half_an_object,
    what_is_missing_is_not_found,
    a_listing_is_exact_and_sorted,
    a_long_listing_is_complete,
    times_are_those_of_one_clock,
    a_blob_comes_back_whole,
    an_empty_object_exists,
    deep_and_plain_keys_are_kept,
    a_scope_is_its_own_world,
    a_delete_may_be_repeated,
)


def check_store(store: Store, tell: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Run every check below a prefix of its own, and remove what they wrote.

    Raises:
        Unavailable, Denied: the store does not answer, or the credentials may not read, write, list and
            delete; that tells nothing of the contract.
    """
    results = []
    area = store.scoped(f"store-check-{secrets.token_hex(4)}/")
    area.list("")  # tells a missing bucket from a broken contract
    try:
        for check in CHECKS:
            result = _run(check, area.scoped(f"{check.__name__}/"))
            tell(result)
            results.append(result)
    finally:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(area.delete, [entry.key for entry in area.list("")]))
    return results


def _run(check: Check, store: Store) -> Result:
    began = time.monotonic()
    broken = None
    try:
        check(store)
    except ContractBroken as error:
        broken = error
    except (Unavailable, Denied):
        raise
    except StoreError as error:
        broken = ContractBroken(f"{type(error).__name__}, {error}", "a federation needs this operation")
    return Result(check.__name__.replace("_", " "), broken, time.monotonic() - began)


def _expect(kept: bool, what: str, why: str) -> None:
    if not kept:
        raise ContractBroken(what, why)


def _create(store: Store, key: str, data: bytes) -> bool:
    """Whether this create was the one."""
    try:
        store.create(key, data)
    except AlreadyExists:
        return False
    return True


def _read_whole(store: Store, key: str) -> str:
    with store.open(key) as stream:
        return hashlib.sha256(stream.read()).hexdigest()
