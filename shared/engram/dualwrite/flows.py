"""Flows: a generator yields calls of a client and is sent their answers, blocking or awaited."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")
Call = Callable[[], Any]
Flow = Generator[Call, Any, T]


def run(flow: Flow[T]) -> T:
    """Run a flow whose client blocks; what a call raises is raised inside the flow."""
    try:
        call = next(flow)
        while True:
            try:
                answer = call()
            except Exception as error:  # noqa: BLE001 - the flow decides what it means
                call = flow.throw(error)
            else:
                call = flow.send(answer)
    except StopIteration as ended:
        result: T = ended.value
        return result


async def run_async(flow: Flow[T]) -> T:
    """Run a flow whose client answers with awaitables."""
    try:
        call = next(flow)
        while True:
            try:
                answer = call()
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:  # noqa: BLE001 - the flow decides what it means
                call = flow.throw(error)
            else:
                call = flow.send(answer)
    except StopIteration as ended:
        result: T = ended.value
        return result
