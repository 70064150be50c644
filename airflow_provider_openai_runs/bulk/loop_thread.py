# SPDX-License-Identifier: Apache-2.0
"""An event loop in a thread of its own, so that the main thread alone meets signals."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: The main thread waits in steps: Python runs a signal's handler between two of them.
_STEP = 0.25


class LoopThread(Generic[T]):
    """
    Runs a coroutine.

    An exception of a signal, such as Airflow's time-out, is raised where the main thread waits: within an
    event loop it would become that of one task among thousands.
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._main = main
        self._loop: asyncio.AbstractEventLoop | None = None
        self._result: T | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()

    def run(self) -> T:
        """Run the coroutine to its end, and return what it returns, or raise what it raises."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="openai-bulk", daemon=True).start()
        while not self._done.wait(_STEP):
            pass
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it has ended well

    @property
    def is_done(self) -> bool:
        """Whether the coroutine has come to its end."""
        return self._done.is_set()

    def join(self, seconds: float) -> bool:
        """Wait for the end, so long at most; return whether it has come."""
        return self._done.wait(seconds)

    def tell(self, what: Callable[[], object]) -> None:
        """Call something on the loop, soon; a signal's handler may do this."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(what)

    def _run(self) -> None:
        async def main() -> T:
            self._loop = asyncio.get_running_loop()
            return await self._main()

        try:
            self._result = asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 # raised by the thread that waits
            self._error = error
        finally:
            self._done.set()
