"""Results made ahead of who asks for them, in their order, by a few threads.

Threads and not processes: numpy and hashing run beside Python, and a thread needs no copy of its result, no
shared memory, and dies with its process.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Thread
from typing import TypeVar

_Item = TypeVar("_Item")


def made_ahead(
    makers: Iterable[Callable[[], _Item]], *, workers: int, ahead: int, name: str
) -> Generator[_Item, None, None]:
    """What each maker returns, in their order; makers must not depend on each other.

    A maker's error is raised where its item is asked for. Close the iterator (contextlib.closing) if it may
    be left early: when it has ended, whichever way, so have its threads.

    Args:
        workers: threads.
        ahead: how many may be made, or in the making, that nobody has asked for yet: a bound on memory.
        name: what the threads are called.
    """
    remaining = iter(makers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        coming: deque[Future[_Item]] = deque()
        coming.extend(pool.submit(make) for make in islice(remaining, ahead))
        while True:
            coming.extend(pool.submit(make) for make in islice(remaining, 1))
            if not coming:
                return
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def side_by_side(
    makers: Iterable[Callable[[], _Item]], *, workers: int, name: str
) -> Generator[_Item, None, None]:
    """The same of what may take minutes, such as downloads: who leaves early waits for none of them."""
    remaining = iter(makers)
    coming = deque(_begun(make, name) for make in islice(remaining, workers))
    while coming:
        yield coming.popleft().result()
        coming.extend(_begun(make, name) for make in islice(remaining, 1))


def _begun(make: Callable[[], _Item], name: str) -> Future[_Item]:
    future: Future[_Item] = Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # noqa: BLE001 - raised where the item is asked for
            future.set_exception(error)

    # A daemon, unlike an executor's: a process that is asked to stop would wait for a store that is away.
    Thread(target=work, name=name, daemon=True).start()
    return future
