"""What somebody else does again and again while a test goes on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def again_and_again(step: Callable[[], object], *, seconds: float) -> Iterator[None]:
    """Take a step in a thread, and once more so many seconds after it has ended, until the block ends.

    Raises:
        Exception: what a step raised, after which no further one was taken. What the block raised is its context.
    """
    stop = threading.Event()

    def work() -> None:
        step()
        while not stop.wait(seconds):
            step()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            stop.set()
            if error := working.exception():
                raise error
