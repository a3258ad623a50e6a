"""Async functions over rows, complete: their calls run side by side on one event loop, results come back in order.

The loop belongs to one `map` or `filter` and runs in a thread of its own, so that it also works where a loop is running
already (a notebook), and so that what a function keeps open (a session, a semaphore) stays with one loop.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeAlias

CALLS = 1000  # that are under way at once, as in datasets

Gather: TypeAlias = "Callable[[list[Coroutine[Any, Any, Any]], Sequence[Any]], list[Any]]"


def is_async(function: Any) -> bool:
    """Whether calling `function` gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def called_for(error: BaseException, place: Any) -> None:
    """Note in an error which row (a number) or rows (a list) the function was called for."""
    rows = f"row {place}" if isinstance(place, int) else f"rows {place[0]} to {place[-1]}"
    error.add_note(f"The function was called for {rows}.")


@contextlib.contextmanager
def gathering(function: Any) -> Iterator[Gather | None]:
    """What awaits the calls of an async function, in order; `None` for any other function."""
    if not is_async(function):
        yield None
        return
    import asyncio

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="plait-async-map", daemon=True)
    thread.start()

    def gather(calls: list[Coroutine[Any, Any, Any]], places: Sequence[Any]) -> list[Any]:
        return asyncio.run_coroutine_threadsafe(_in_order(calls, places), loop).result()

    try:
        yield gather
    finally:
        asyncio.run_coroutine_threadsafe(_settle(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _in_order(calls: list[Coroutine[Any, Any, Any]], places: Sequence[Any]) -> list[Any]:
    """The results of all calls; the first error ends the others."""
    import asyncio

    free = asyncio.Semaphore(CALLS)

    async def one(call: Coroutine[Any, Any, Any], place: Any) -> Any:
        async with free:
            try:
                return await call
            except Exception as error:
                called_for(error, place)
                raise

    tasks = [asyncio.create_task(one(call, place)) for call, place in zip(calls, places, strict=True)]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in calls:
            call.close()  # those that never began
        raise


async def _settle() -> None:
    """End what the function left running: its own tasks, and asynchronous generators."""
    import asyncio

    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
