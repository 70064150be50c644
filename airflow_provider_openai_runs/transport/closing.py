# SPDX-License-Identifier: Apache-2.0
"""Closing what polls have used, beside the polls: a server that does not let go must hold none of them up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Closings:
    """Closes clients and sessions in tasks of their own."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, close: Coroutine[Any, Any, None]) -> None:
        """Start to close something, and go on."""
        task = asyncio.create_task(close)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def settle(self, *, within: float) -> None:
        """
        Wait until everything is closed, and let go of the rest.

        :param within: seconds.
        """
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=within)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Asked for, so that asyncio does not report it: nobody can do anything about it.
            task.exception()
