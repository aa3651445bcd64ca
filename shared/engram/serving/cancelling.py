"""Cancellations that a library has swallowed: noticed before the next round of a loop."""

import asyncio


def heed_cancellation() -> None:
    """Raise if this task was told to end and goes on all the same.

    Python 3.11's `asyncio.wait_for`, with which nats-py waits for every answer, forgets a
    cancellation that comes together with the answer (https://github.com/python/cpython/issues/86296,
    mended in 3.12). A loop around such calls asks here at each turn, outside of any timeout of its
    own; without it a service would now and then not stop when told to.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
