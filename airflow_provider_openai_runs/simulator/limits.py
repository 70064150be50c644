# SPDX-License-Identifier: Apache-2.0
"""How much a client may ask in a minute, and what the replies say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.loading import arguments_of

_MINUTE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the creates of responses may ask in a minute, and how much may wait in batches; None is no limit.

    Without a limit of requests or tokens the replies say nothing of it.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    enqueued_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could ever be asked."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(f"Limits.{field.name}: {value} is less than 1; None means no limit.")

    @classmethod
    def from_json(cls, data: Any) -> Limits:
        """Read limits as posted to `/simulator/limits`; ValueError says what is wrong."""
        try:
            return cls(**arguments_of(cls, data))
        except TypeError as error:
            raise ValueError(f"Limits: {error}") from error


@dataclass(slots=True)
class _Bucket:
    """Fills up to the limit of a minute, evenly."""

    limit: int
    level: float
    at: float

    def wait_for(self, amount: int, now: float) -> float:
        """Give the seconds until there is enough, 0 if there is; more than the limit waits for a full one."""
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / _MINUTE)
        self.at = now
        return max(min(amount, self.limit) - self.level, 0.0) * _MINUTE / self.limit

    def take(self, amount: int) -> None:
        self.level = max(self.level - amount, 0.0)

    @property
    def fills_in(self) -> float:
        return (self.limit - self.level) * _MINUTE / self.limit


class RateLimiter:
    """Admits creates, or refuses them with 429, and writes the headers of both."""

    def __init__(self, limits: Limits) -> None:
        given = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        self._buckets = {
            kind: _Bucket(limit, limit, -math.inf) for kind, limit in given.items() if limit is not None
        }

    def admit(self, tokens: int, *, model: str, now: float) -> dict[str, str]:
        """Count a request of so many tokens, and give the headers of its reply.

        :raises ApiError: 429, which costs nothing and says when to come again.
        """
        amounts = {"requests": 1, "tokens": tokens}
        for kind, bucket in self._buckets.items():
            wait = bucket.wait_for(amounts[kind], now)
            if wait > 0:
                raise self._refusal(kind, bucket, amounts[kind], wait, model)
        for kind, bucket in self._buckets.items():
            bucket.take(amounts[kind])
        return self._headers()

    def _headers(self) -> dict[str, str]:
        headers = {}
        for kind, bucket in self._buckets.items():
            headers[f"x-ratelimit-limit-{kind}"] = str(bucket.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(int(bucket.level))
            headers[f"x-ratelimit-reset-{kind}"] = duration(bucket.fills_in)
        return headers

    def _refusal(self, kind: str, bucket: _Bucket, amount: int, wait: float, model: str) -> ApiError:
        per_minute = f"{kind} per min ({kind[0].upper()}PM)"
        message = (
            f"Rate limit reached for {model} in organization org-simulated on {per_minute}: "
            f"Limit {bucket.limit}, Used {bucket.limit - int(bucket.level)}, Requested {amount}. "
            f"Please try again in {duration(wait)}."
        )
        again = {"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000))}
        return ApiError(
            message,
            status=429,
            type=kind,
            code="rate_limit_exceeded",
            headers={**self._headers(), **again},
        )


def duration(seconds: float) -> str:
    """Write a duration as the headers do: 6ms, 1.2s, 1m30s."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, _MINUTE)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
