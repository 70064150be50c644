# SPDX-License-Identifier: Apache-2.0
"""Requests that were never sent, and never will be, until somebody changes a connection or the request."""

from __future__ import annotations

import re

import httpx2

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport.secrets import Redact

_UNWRITABLE = (
    "The connection's key, or one of its headers, holds a character that no HTTP header may hold, such as a "
    "line break or a curly quote (it is not shown here, since it may be the key). Nothing was sent. Fix the "
    "connection"
)
_NO_TLS = (
    "The connection's address begins with https://, and what listens there does not speak TLS. Nothing was "
    "sent. Write http:// in its Host, or give the port that speaks TLS"
)
_NO_TEXT = (
    "The request holds half of a surrogate pair, as of an emoji that was cut in two, which cannot be written "
    "as UTF-8. Nothing was sent. Leave it out"
)
#: What OpenSSL calls an answer in plain text; a handshake that breaks off may pass, this does not.
_PLAIN_ANSWER = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
#: Answers of a proxy to CONNECT that stay the same until somebody changes something.
_REFUSED_BY_PROXY = re.compile(r"(401|403|405|407)\b")


def not_usable(error: Exception, redact: Redact) -> RequestFailure | None:
    """Return the failure of such a request; None for any other."""
    cause = error.__cause__
    if isinstance(error, UnicodeEncodeError) and error.encoding.startswith("utf"):
        return RequestFailure(kind=FailureKind.REJECTED, text=_NO_TEXT)
    is_of_header = isinstance(cause, httpx2.LocalProtocolError) and "header" in str(cause).lower()
    if is_of_header or isinstance(error, UnicodeEncodeError):
        return _denied(_UNWRITABLE)
    if isinstance(cause, httpx2.ConnectError) and any(name in str(cause) for name in _PLAIN_ANSWER):
        return _denied(_NO_TLS)
    if isinstance(cause, httpx2.ProxyError) and _REFUSED_BY_PROXY.match(str(cause)):
        said = message_text(str(cause), redact=redact)
        return _denied(
            f"The proxy that the environment names (HTTPS_PROXY) refuses to connect: {said}. Nothing was "
            "sent. Fix its address or password there, or let NO_PROXY name the server"
        )
    return None


def _denied(text: str) -> RequestFailure:
    return RequestFailure(kind=FailureKind.ACCESS_DENIED, text=text)
