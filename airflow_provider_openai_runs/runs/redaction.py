# SPDX-License-Identifier: Apache-2.0
"""Takes keys out of text: what looks like one anywhere, and the secrets of a connection, which are known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

#: A shorter value is a word such as "any" or "EMPTY", and would be taken out of sentences that mean it.
SHORTEST_SECRET = 8
HIDDEN = "***"

#: What follows a label or "bearer" in a sentence of a server, and is no secret.
_WORDS = (
    r"(?!(?:auth|authentication|authori[sz]ation|credentials?|required|missing|invalid|expired)(?![\w\-]))"
)
_VALUE = rf"{_WORDS}[^\s\"',}}&]{{{SHORTEST_SECRET},}}"
#: The first group is the label in front of a secret; it stays.
_KEYS = re.compile(
    r"(?i)(?<![a-z0-9])(?:sk-[\w\-*]{4,}"
    r"|(?:gh[pousr]_|github_pat_|xox[abeprs]-|glpat-|AKIA|ASIA)[\w\-]{10,}"
    r"|((?:(?:api|account|access|shared)[-_ ]?key(?: provided)?|authorization|password|pwd|secret|token)"
    r"[\"']?\s*[:=]\s*[\"']?)"
    rf"(?:(?:bearer|basic)\s+)?{_VALUE}"
    rf"|bearer\s+{_VALUE}"
    r"|eyJ[\w\-]{10,}\.[\w\-]+\.[\w\-]*"
    r"|(?<=://)[^\s/@]+(?=@))"
    rf"|(?i:([?&](?:key|sig|signature)=)){_VALUE}"
)
#: Names of headers and of query values that carry a secret; ``api-version`` does not.
_CARRIES_SECRET = re.compile(
    r"(?i)(?:^|[-_.])(?:(?:api)?key|sig|signature|token|secret|password|authorization)$"
)
_SCHEME = re.compile(r"(?i)(?:bearer|basic)\s+")


def carries_secret(name: str) -> bool:
    """Whether a header or a query value of this name holds a secret."""
    return _CARRIES_SECRET.search(name) is not None


def without_keys(text: str) -> str:
    """Return text with asterisks in place of what looks like a key."""
    return _KEYS.sub(lambda found: f"{found.group(1) or found.group(2) or ''}{HIDDEN}", text)


class Redactor:
    """
    Takes known secrets out of text.

    :param secrets: passwords and values of headers and queries; those of less than ``SHORTEST_SECRET``
        characters are left out, as is the scheme in front of a header's.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {_SCHEME.sub("", secret.strip(), count=1) for secret in secrets}
        known = {secret for secret in known if len(secret) >= SHORTEST_SECRET}
        known |= {quote(secret, safe="", errors="replace") for secret in known}
        # The longest first: one may be a part of another.
        self._secrets = sorted(known, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return text with asterisks in place of each secret."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text
