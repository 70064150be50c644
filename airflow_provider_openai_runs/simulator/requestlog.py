# SPDX-License-Identifier: Apache-2.0
"""What the simulator was asked, so that a test can assert *one* create."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_KEPT = 500_000
_SHARED = 10_000
_SECRET = frozenset({"authorization", "api-key", "cookie"})


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """A request to the API, logged when it arrives.

    `path` has no base path; the `query` has a list where a name stands several times; `body` is the parsed
    JSON (its text if it is not JSON, its fields and the name and size of its file if it is a form, None
    without a body); `status` is what the client was answered, None as long as, or if, it got no answer; `at`
    is epoch seconds of the simulator's clock; `fault` is the kind of fault that hit it.
    """

    method: str
    path: str
    query: Mapping[str, str | list[str]]
    headers: Mapping[str, str]
    body: Any
    at: float
    status: int | None = None
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the request as the control route sends it."""
        return asdict(self)


class RequestLog:
    """The latest half million requests; ones with the same headers share them, to stay small."""

    def __init__(self) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=_KEPT)
        self._headers: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def add(self, request: LoggedRequest) -> None:
        """Log a request."""
        self._requests.append(request)

    def headers(self, pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Read headers as ASGI has them, without the keys they carry."""
        key = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)
        if key not in self._headers:
            if len(self._headers) >= _SHARED:
                self._headers.clear()
            self._headers[key] = {n: "[redacted]" if n in _SECRET else value for n, value in key}
        return self._headers[key]

    def all(self) -> list[LoggedRequest]:
        """List what is logged, oldest first."""
        return list(self._requests)

    def count(self, method: str, path: str) -> int:
        """Count the requests with this method ("*" for any) in whose path the regular expression is found."""
        return sum(method in (r.method, "*") for r in self.all() if re.search(path, r.path))

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
        self._headers.clear()
