# SPDX-License-Identifier: Apache-2.0
"""What a route is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_openai_runs.simulator.content import Content
    from airflow_provider_openai_runs.simulator.store import Store
    from airflow_provider_openai_runs.simulator.uploads import Upload

    Handler = Callable[[Store, "ApiRequest"], "ApiReply | Download | dict[str, Any]"]


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request whose body has been read: `ids` are those in its path, `include` comes from its query.

    The file of a multipart body is the `upload`.
    """

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]
    now: float
    include: frozenset[str] = frozenset()
    upload: Upload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReply:
    """An answer that carries headers, or that is written only when it is ready.

    `body` is asked for the JSON at the moment of sending; `ready_at` is epoch seconds of the simulator's
    clock, later than now for a synchronous response. `dropped` is called if the client does not wait.
    """

    body: Callable[[float], dict[str, Any]]
    headers: Mapping[str, str] = field(default_factory=dict)
    ready_at: float = 0.0
    dropped: Callable[[float], object] = lambda _now: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """An answer that is a file, sent piece by piece."""

    content: Content
    filename: str
