# SPDX-License-Identifier: Apache-2.0
"""How a simulator is set up."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_openai_runs.simulator.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a simulator is set up.

    `base_path` is where the API is served; `azure` serves it under `/openai` and `/openai/v1` too.
    `speed` divides the time that each status lasts. With `require_key` any other key is refused.
    `no_threads` answers 404 to threads and assistants, as OpenAI does since August 2026. `limits` are those
    until others are set, and after a reset.
    """

    base_path: str = "/v1"
    speed: float = 1.0
    require_key: str | None = None
    azure: bool = False
    no_threads: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse a speed at which nothing would ever happen."""
        if self.speed <= 0:
            raise ValueError(f"The speed must be above 0, not {self.speed}.")

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The base paths, longest first."""
        base = "/" + self.base_path.strip("/")
        azure = ("/openai/v1", "/openai") if self.azure else ()
        return tuple(sorted({base.rstrip("/"), *azure}, key=len, reverse=True))
