# SPDX-License-Identifier: Apache-2.0
"""What a batch is to do: how long each status lasts, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.simulator.loading import arguments_of

_DURATIONS = ("validating", "in_progress", "finalizing", "cancelling", "expires_after", "hidden_for")
_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchScenario:
    """The script of `times` batches (None: of all). All durations are seconds.

    `when` is a regular expression that has to be found in one of the values of the batch's metadata.

    A batch is `validating`, `in_progress`, `finalizing`, then completed. Its items end one after the other
    while it is in progress; what each answers is said by the scenarios of runs, item by item in the order of
    the input. `expires_after` its creation it expires with the items that have ended by then, so one that is
    in progress for twice that long expires in the middle.

    With an `error` ({"code", "message", "line"}, all of them optional) the validation fails, whatever the
    input is. A cancel takes `cancelling` and keeps the items that had ended when it came. The batch is
    `hidden_for` some time after its creation: reads answer 404, lists leave it out.
    """

    validating: float = 0.2
    in_progress: float = 0.8
    finalizing: float = 0.1
    cancelling: float = 0.5
    expires_after: float = _DAY
    hidden_for: float = 0.0
    error: Mapping[str, Any] | None = None
    when: str = ""
    times: int | None = 1

    def __post_init__(self) -> None:
        """Refuse what could never happen."""
        for name in _DURATIONS:
            if getattr(self, name) < 0:
                raise ValueError(f"BatchScenario.{name}: {getattr(self, name)} is negative.")
        if self.times is not None and self.times < 1:
            raise ValueError(f"BatchScenario.times: {self.times} batches is not a number; None means all.")
        try:
            re.compile(self.when)
        except re.error as error:
            raise ValueError(f"BatchScenario.when: {self.when!r} is no pattern: {error}.") from error

    def fits(self, metadata: Mapping[str, str]) -> bool:
        """Tell whether it is about a batch with this metadata."""
        return not self.when or any(re.search(self.when, value) for value in metadata.values())

    @classmethod
    def from_json(cls, data: Any) -> BatchScenario:
        """Read a scenario as posted to `/simulator/batch-scenarios`; ValueError says what is wrong."""
        try:
            return cls(**arguments_of(cls, data))
        except TypeError as error:
            raise ValueError(f"BatchScenario: {error}") from error
