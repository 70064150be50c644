# SPDX-License-Identifier: Apache-2.0
"""The scenarios that are planned, and how many runs or batches each has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class _Planned(Protocol):
    @property
    def times(self) -> int | None: ...


T = TypeVar("T", bound=_Planned)


@dataclass(slots=True)
class _Script(Generic[T]):
    scenario: T
    left: int | None


class Scripts(Generic[T]):
    """Scenarios in the order in which they were planned; one that is used up is forgotten."""

    def __init__(self) -> None:
        self._scripts: list[_Script[T]] = []

    def plan(self, scenario: T) -> None:
        """Plan a scenario for as many as it says."""
        self._scripts.append(_Script(scenario, scenario.times))

    def take(self, fits: Callable[[T], bool] = lambda _: True) -> T | None:
        """Give the first scenario that fits, None if there is none."""
        script = next((one for one in self._scripts if fits(one.scenario)), None)
        if script is None:
            return None
        if script.left is not None:
            script.left -= 1
            if script.left == 0:
                self._scripts.remove(script)
        return script.scenario

    def clear(self) -> None:
        """Forget all scenarios."""
        self._scripts.clear()
