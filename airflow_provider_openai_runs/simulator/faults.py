# SPDX-License-Identifier: Apache-2.0
"""Failures on demand: which requests fail, and how."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from airflow_provider_openai_runs.simulator.loading import arguments_of


class FaultKind(StrEnum):
    """The ways in which a request can go wrong."""

    STATUS = "status"
    RESET = "reset"
    LOST = "lost"
    CUT = "cut"
    SLOW = "slow"
    GARBAGE = "garbage"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that happens to `times` requests (None: all) after the first `skip` that match.

    A request matches by `method` ("*" for any) and by `path`, a regular expression searched in the path
    without its base path. `probability` below 1 spares some of them, the same ones in every session.

    Kinds: "status" answers the HTTP `status` with OpenAI's error body (`message` and `code` override its
    fields) and perhaps `retry_after` seconds; "reset" resets the connection; "garbage" answers 200 with a
    web page: none of these three lets the request reach the API. "lost" processes the request and closes
    the connection without an answer; "cut" closes it after half of the body; "slow" answers `delay`
    seconds late.
    """

    method: str = "*"
    path: str = ""
    kind: str = FaultKind.STATUS
    status: int = 500
    retry_after: float | None = None
    message: str | None = None
    code: str | None = None
    delay: float = 1.0
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist and a path that is no regular expression."""
        if self.kind not in list(FaultKind):
            raise ValueError(f"Fault.kind: {self.kind!r} is not one of {[str(kind) for kind in FaultKind]}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Fault.probability: {self.probability} is not between 0 and 1.")
        re.compile(self.path)

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one of those this fault is about."""
        return self.method in ("*", method) and re.search(self.path, path) is not None

    @classmethod
    def from_json(cls, data: Any) -> Fault:
        """Read a fault as posted to `/simulator/faults`; ValueError says what is wrong."""
        try:
            return cls(**arguments_of(cls, data))
        except (TypeError, re.error) as error:
            raise ValueError(f"Fault: {error}") from error


@dataclass(slots=True)
class _Planned:
    fault: Fault
    seen: int = 0
    struck: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - repeatable, not secret

    def strikes(self, method: str, path: str) -> bool:
        fault = self.fault
        if not fault.matches(method, path) or self.struck == fault.times:
            return False
        self.seen += 1
        if self.seen <= fault.skip or self.dice.random() >= fault.probability:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults that are planned, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(self, fault: Fault) -> None:
        """Plan a fault."""
        self._planned.append(_Planned(fault))

    def strike(self, method: str, path: str) -> Fault | None:
        """Give the fault that hits this request, if any; the first one planned wins."""
        return next((planned.fault for planned in self._planned if planned.strikes(method, path)), None)

    def clear(self) -> None:
        """Forget all faults."""
        self._planned.clear()
