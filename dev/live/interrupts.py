# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, termination and a closed terminal: each interrupts once, and never amid a start or a stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_OF_ONE_SIGNAL = 3.0
"""Ctrl-C and a time limit arrive directly and through make: the second of them is the same interrupt."""


class _State:
    last = -SECONDS_OF_ONE_SIGNAL
    held = 0
    pending = False


def raise_interrupts() -> None:
    """Let every one of the signals raise ``KeyboardInterrupt`` in the main thread, from now on."""
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)


def _interrupt(*_: object) -> None:
    now = time.monotonic()
    if now < _State.last + SECONDS_OF_ONE_SIGNAL:
        return
    _State.last = now
    if _State.held:
        _State.pending = True
    else:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Let an interrupt wait until the block is done; it is raised then.

    The signals are not blocked: a process that is started inside would inherit that, and be deaf to them.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal interrupts another one
        yield
        return
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if _State.pending and not _State.held:
            _State.pending = False
            raise KeyboardInterrupt
