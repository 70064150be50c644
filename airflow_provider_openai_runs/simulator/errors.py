# SPDX-License-Identifier: Apache-2.0
"""OpenAI's error answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A refusal, as the API words it: HTTP status, the four fields of the error body, perhaps headers."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",  # noqa: A002 - the name of the field
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error = {"message": message, "type": type, "param": param, "code": code}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        return {"error": self.error}


def not_found(what: str, key: str) -> ApiError:
    """Refuse an id of the Assistants API that nobody has."""
    return ApiError(f"No {what} found with id '{key}'.", status=404)


def item_not_found(what: str, key: str) -> ApiError:
    """Refuse an id of the Responses or Conversations API that nobody has."""
    return ApiError(f"{what} with id '{key}' not found.", status=404)


def no_such_file(key: str) -> ApiError:
    """Refuse an id of the Files API that nobody has."""
    return ApiError(f"No such File object: {key}", status=404, param="id")


def unknown_url(method: str, path: str) -> ApiError:
    """Refuse a URL that the API does not serve."""
    return ApiError(f"Invalid URL ({method} {path})", status=404)


def no_such_model(model: str) -> ApiError:
    """Refuse a model that does not exist."""
    message = f"The requested model '{model}' does not exist."
    return ApiError(message, param="model", code="model_not_found")


def missing(param: str) -> ApiError:
    """Refuse a request without a required parameter."""
    message = f"Missing required parameter: '{param}'."
    return ApiError(message, param=param, code="missing_required_parameter")


_SERVER_ERROR = "The server had an error while processing your request."
_BY_STATUS: dict[int, dict[str, Any]] = {
    401: {"message": "Incorrect API key provided.", "code": "invalid_api_key"},
    403: {"message": "You are not allowed to do this.", "code": "insufficient_permissions"},
    404: {"message": "Not found."},
    408: {"message": "Request timed out.", "type": "timeout"},
    409: {"message": "The resource is being changed by another request."},
    429: {"message": "Rate limit reached for requests.", "type": "requests", "code": "rate_limit_exceeded"},
    503: {"message": "The engine is currently overloaded.", "type": "service_unavailable_error"},
}


def error_for_status(status: int, *, message: str | None = None, code: str | None = None) -> ApiError:
    """Make the error that OpenAI sends with an HTTP `status`, for faults; `message` and `code` override."""
    known = _BY_STATUS.get(status, {"message": _SERVER_ERROR, "type": "server_error"})
    given = {name: value for name, value in (("message", message), ("code", code)) if value is not None}
    if given.get("code") == "insufficient_quota":
        given = {"message": "You exceeded your current quota.", "type": "insufficient_quota", **given}
    return ApiError(status=status, **{**known, **given})
