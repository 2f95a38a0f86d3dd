"""Batches made ahead of the step that asks for them, in their order, by a few threads.

Threads and not processes: a crop is numpy's work, which runs beside Python, and a thread needs no copy of
its result, no shared memory, and dies with its process.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch

_Item = TypeVar("_Item")

_MOST_WORKERS = 4


@dataclass(frozen=True)
class Prefetch:
    workers: int
    ahead: int
    """How many may be made, or in the making, that nobody has asked for yet: a bound on memory."""

    @classmethod
    def beside(cls, device: torch.device) -> "Prefetch":
        """On a CPU a step takes longer than its batch, and every core more is taken from the step."""
        if device.type == "cpu":
            return cls(workers=1, ahead=1)
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        # Batches differ in cost with their share of turned crops.
        return cls(workers, ahead=2 * workers)

    def run(self, makers: Iterable[Callable[[], _Item]]) -> Generator[_Item, None, None]:
        """What each maker returns, in their order; makers must not depend on each other.

        A maker's error is raised where its item is asked for. Close the iterator (contextlib.closing) if it
        may be left early: when it has ended, whichever way, so have its threads.
        """
        remaining = iter(makers)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="batches")
        try:
            coming: deque[Future[_Item]] = deque()
            coming.extend(pool.submit(make) for make in islice(remaining, self.ahead))
            while True:
                coming.extend(pool.submit(make) for make in islice(remaining, 1))
                if not coming:
                    return
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
