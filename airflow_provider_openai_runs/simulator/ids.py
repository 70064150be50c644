# SPDX-License-Identifier: Apache-2.0
"""Ids that look like OpenAI's."""

from __future__ import annotations

import hashlib
import os


def new_id(prefix: str, *, length: int = 24, joint: str = "_") -> str:
    """Make a fresh id such as `run_4f0c...`; random, so that an id outliving a reset stays unknown."""
    return f"{prefix}{joint}{os.urandom(32).hex()[:length]}"


def child_id(prefix: str, parent: str, name: str | int, *, joint: str = "_") -> str:
    """Make the id of something that belongs to `parent`: the same at every read, without being stored."""
    digest = hashlib.sha256(f"{parent}/{name}".encode()).hexdigest()
    return f"{prefix}{joint}{digest[:24]}"
