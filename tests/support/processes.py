# SPDX-License-Identifier: Apache-2.0
"""Ends what a test run has started and left behind: after a failure, a hang, Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

import psutil

#: Every process that a test starts inherits it, and so does every worker of pytest-xdist.
_MARK = "OPENAI_RUNS_TEST_SESSION"


def mark() -> None:
    """Let the processes of this session be known by their environment; a SIGTERM ends it as Ctrl-C does."""
    os.environ[_MARK] = str(uuid.uuid4())
    signal.signal(signal.SIGTERM, _interrupt)


def end_all() -> list[str]:
    """Kill what is still there of this session, but for this process; return the command lines."""
    ended = []
    for process in _ours():
        with suppress(psutil.Error):
            ended.append(" ".join(process.cmdline()))
            process.kill()
    return ended


def _ours() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Others vanish meanwhile, or belong to somebody else.
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(_MARK) == os.environ[_MARK]:
                yield process


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
