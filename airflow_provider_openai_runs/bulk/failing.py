# SPDX-License-Identifier: Apache-2.0
"""What fails or lasts for a while, and is said once: when it begins, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@dataclass(frozen=True)
class Failing:
    """What cannot be written at present."""

    log: Logger
    _named: set[str] = field(default_factory=set)

    def on_error(self, what: str, error: Exception) -> None:
        """Say that something could not be written, the first time."""
        if what not in self._named:
            self._named.add(what)
            self.log.warning("%s could not be written, trying again: %s", what, message_text(error))

    @contextmanager
    def lasting(self, seconds: float, text: str) -> Iterator[None]:
        """Warn, once for each text, as soon as what is done within has lasted so long."""
        timer = asyncio.get_running_loop().call_later(seconds, self._say, text)
        try:
            yield
        finally:
            timer.cancel()

    def _say(self, text: str) -> None:
        if text not in self._named:
            self._named.add(text)
            self.log.warning("%s", text)

    def on_success(self, what: str) -> None:
        """Say that it can be written, if it could not before."""
        if what in self._named:
            self._named.discard(what)
            self.log.info("%s can be written again", what)
