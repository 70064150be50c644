# SPDX-License-Identifier: Apache-2.0
"""
Text from outside, made fit to be stored, logged and sent on. There are two kinds, each made here.

``message_text`` is what ends in a log line, an event, an exception, a record, a link or a title. Content is
what a model wrote: it is kept, but for what ``encodable`` replaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from airflow_provider_openai_runs.runs.redaction import without_keys

#: Characters of message text, if nothing tighter is asked for.
MAX_MESSAGE = 500
#: Characters of a status, a code, or the name of a field.
MAX_STATUS = 64
#: Characters of an id; gateways that write their routing into it need some 250.
MAX_ID = 512
#: A secret is taken out while it is whole: so many characters beyond the limit are searched for one.
_LONGEST_SECRET = 8_000

#: NUL and lone surrogates: UTF-8 has no way to write the second, PostgreSQL refuses both.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
#: Line breaks among it; control characters that Python also calls white space are shown as what they are.
_WHITE_SPACE = re.compile("[^\\S\x1c-\x1f\x85\u2028\u2029]+")
#: Control characters, marks that steer the display (such as the direction of text), separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})


def encodable(text: str) -> str:
    """Return text with U+FFFD in place of what no log, event or database can carry."""
    # Nothing of the kind is printable, and most text is.
    return text if text.isprintable() else _NOT_STORABLE.sub("\ufffd", text)


def message_text(
    value: object, *, limit: int = MAX_MESSAGE, redact: Callable[[str], str] | None = None
) -> str:
    r"""
    Return one line of at most ``limit`` characters that every log, event and database carries.

    Keys become ``***``, control and bidirectional characters visible escapes (``\x1b``, ``\u202e``), white
    space one space, NUL and lone surrogates U+FFFD.

    :param redact: takes further secrets out, of a part of the text that is long enough to hold them whole.
    """
    text = text_of(value)
    is_cut = len(text) > (longest := 4 * limit + _LONGEST_SECRET)
    head = text[:longest]
    if redact is not None:
        head = redact(head)
    shown = _WHITE_SPACE.sub(" ", without_keys(head)).strip()
    if is_cut:
        # The last word may be the beginning of a secret, also the only one after much white space.
        shown = shown.rpartition(" ")[0] or (shown if len(shown) > _LONGEST_SECRET else "")
    shown = visible(encodable(shown[: limit + 1]))
    return shown if len(shown) <= limit and not is_cut else shown[: limit - 1] + "…"


def text_of(value: object) -> str:
    """Return the text of anything, of an exception too that fails to say what it is."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 # whatever it is
        return f"<{type(value).__name__}>"


def visible(text: str, *, keep: str = "") -> str:
    """
    Return text with escapes in place of what cannot be seen, or changes how the rest is seen.

    :param keep: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _UNSEEN and char not in keep else char for char in text
    )


def is_id(text: str) -> bool:
    """Whether text can be an id: a URL, a log line and a column can carry it, and it is not too long."""
    fits = 0 < len(text) <= MAX_ID and text not in {".", ".."} and "\ufffd" not in text
    return fits and text == visible(encodable(text)) and text == " ".join(text.split())


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:  # noqa: PLR2004 # as Python writes it
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
