# SPDX-License-Identifier: Apache-2.0
"""Text from outside, made fit to be stored, logged and sent on."""

from __future__ import annotations

import re

#: NUL and lone surrogates: UTF-8 has no way to write the second, PostgreSQL refuses both.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def encodable(text: str) -> str:
    """Return text with U+FFFD in place of what no log, event or database can carry."""
    return _NOT_STORABLE.sub("\ufffd", text)
