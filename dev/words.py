# SPDX-License-Identifier: Apache-2.0
"""
Find words that this project has replaced: ``python -m dev.words [FILE OR FOLDER ...]``.

It checks the parts of identifiers (``on_look``, ``LookAt``), and phrases in strings, comments and Markdown.
``make lint`` runs it. A new word goes into one of the tables below, a name that has to stay into ``ALLOWED``.
"""

from __future__ import annotations

import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

from dev import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHECKED = ("airflow_provider_openai_runs", "dev", "tests", "example_dags", "docs", "*.md")
#: The changelog quotes old names, and these two files have to name what they look for.
SKIPPED = ("CHANGELOG.md", "dev/words.py", "tests/test_words.py")

#: Parts of identifiers, and what to write in their place.
PARTS = {
    part: better
    for parts, better in {
        "look looks looked looking": "poll",
        "trouble troubles": "failure, error",
        "patiently patience patient": "with_retries, budget",
        "heal heals healed healing healable": "retryable, transient",
        "mend mends mended": "fix",
        "told": "describe, name",
        "word": "raw_status",
        "cycle": "generation",
        "pace paced pacing": "throttle",
        "nap": "interval",
        "owned": "tracked",
        "arm": "prepare",
    }.items()
    for part in parts.split()
}

#: Names as a whole, wherever they stand.
NAMES = {
    "CallFailed": "ApiRequestFailed",
    "DirectGets": "FastPolls",
    "KeepWaiting": "PollAgain",
    "KEY_REFUSED": "ACCESS_DENIED",
    "NO_ANSWER": "OUTCOME_UNKNOWN",
    "NotPlain": "UseSdkInsteadError",
    "RunOwner": "RunAcquirer",
}

#: Phrases in strings, comments and Markdown. A single word in quotes is a stored key.
PHRASES = {
    r"look(s|ed|ing)?\s+at": "poll, read",
    r"(a|each|every|no|one|two|first|last|next|good|failed|between|these|same)\s+looks?": "poll",
    r"troubles?": "failure, error",
    r"patiently|patience": "with retries, budget",
    r"heal(s|ed|ing)?": "help, transient",
    r"mend(s|ed|ing)?|put(s|ting)?\s+right": "fix",
    r"told": "describe, name, read",
    r"says?\s+something": "non-empty",
    r"unreadably": "in an unreadable form",
    r"surely": "certainly",
    r"server's\s+words?": "raw status",
    r"(same|this|its|new|one)\s+cycle": "generation",
    r"(create|paid|HTTP)\s+calls?": "create, request",
    r"(held|holds?)\s+back": "delay, throttle",
    **{f"(?-i:{name})": better for name, better in NAMES.items()},
}

#: Names that stay: where, the whole name, and why.
ALLOWED = (
    ("airflow_provider_openai_runs/runs/model.py", "word", "Run.word, an alias that warns"),
    ("dev/", "word", "a word of a text"),
    ("tests/", "word", "a word of a text"),
    ("dev/conformance/servers/mitmproxy_faults.py", "cycle", "of itertools"),
)

_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
#: To look something up is no poll.
_LOOK_UP = re.compile(r"look(s|ed)?_up")
_QUOTED = re.compile(r"([`\"'])(\w+)\1")
_PHRASE = re.compile(
    r"(?<![\w-])(?:" + "|".join(f"(?P<p{n}>{phrase})" for n, phrase in enumerate(PHRASES)) + r")(?![\w-])",
    re.IGNORECASE,
)
_BETTER = tuple(PHRASES.values())
_TEXTS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def in_name(name: str, file: str = "") -> Iterator[tuple[str, str]]:
    """Yield the old words in an identifier, each with a better one."""
    if name in NAMES:
        yield name, NAMES[name]
    if any(file.startswith(place) and name == allowed for place, allowed, _ in ALLOWED):
        return
    for part in _PART.findall(_LOOK_UP.sub("", name)):
        if part.lower() in PARTS:
            yield part, PARTS[part.lower()]


def in_text(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the old phrases in a text: the number of lines before each, the phrase, and a better one."""
    checked = _QUOTED.sub(lambda quoted: quoted[0] if quoted[2] in NAMES else " " * len(quoted[0]), text)
    for found in _PHRASE.finditer(checked):
        number = next(n for n in range(len(_BETTER)) if found[f"p{n}"])
        yield text.count("\n", 0, found.start()), " ".join(found[0].split()), _BETTER[number]


def in_file(path: Path, file: str) -> Iterator[str]:
    """Yield a line of the report for each old word in a file."""
    if path.suffix == ".md":
        for line, phrase, better in in_text(path.read_text(encoding="utf-8")):
            yield f"{file}:{line + 1}: {phrase} -> {better}"
        return
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.NAME:
                for word, better in in_name(token.string, file):
                    yield f"{file}:{token.start[0]}: {word} in {token.string} -> {better}"
            elif token.type in _TEXTS:
                for line, phrase, better in in_text(token.string):
                    yield f"{file}:{token.start[0] + line}: {phrase} -> {better}"


def report(paths: Iterable[Path], root: Path = ROOT) -> list[str]:
    """Return the report of all Python and Markdown files among and below ``paths``, which ``root`` holds."""
    below = (path for top in paths for path in ([top] if top.is_file() else sorted(top.rglob("*"))))
    files = {path.relative_to(root).as_posix(): path for path in below if path.suffix in {".py", ".md"}}
    return [line for file, path in files.items() if file not in SKIPPED for line in in_file(path, file)]


if __name__ == "__main__":
    asked = [Path(path).resolve() for path in sys.argv[1:]]
    lines = report(asked or [path for pattern in CHECKED for path in sorted(ROOT.glob(pattern))])
    print("\n".join(lines) or "No old word")
    sys.exit(1 if lines else 0)
