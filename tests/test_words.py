# SPDX-License-Identifier: Apache-2.0
"""The word list of ``make lint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev import words

if TYPE_CHECKING:
    from pathlib import Path

IN_PYTHON = {
    "def on_look(self): ...": "look in on_look -> poll",
    "class LookAt: ...": "Look in LookAt -> poll",
    "raise CallFailed": "CallFailed in CallFailed -> ApiRequestFailed",
    "last_word = 1": "word in last_word -> raw_status",
    "# no trouble ends a wait": "trouble -> failure, error",
    'log("Could not look at %s")': "look at -> poll, read",
    '"""After each\n    look."""': "each look -> poll",
    '"must be text that says something"': "says something -> non-empty",
    '"""Raises ``CallFailed``."""': "CallFailed -> ApiRequestFailed",
}
ALLOWED = (
    'event["trouble"] = record["cycle"] = None',
    '"""A failure; stored as ``trouble``."""',
    "password, keyword, lookup, unhealthy = 1, 2, 3, 4",
    "def look_up_order(order_id): ...",
    '"""Look an order up; what looks like a key is cut."""',
    "for word in words: ...",
)


def report(folder: Path, text: str, name: str = "tests/test_some.py") -> list[str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return words.report([folder], root=folder)


@pytest.mark.parametrize(("text", "found"), IN_PYTHON.items())
def test_an_old_word_in_a_module_is_reported_with_a_better_one(tmp_path: Path, text: str, found: str) -> None:
    assert report(tmp_path, f"x = 1\n{text}\n") == [f"tests/test_some.py:2: {found}"]


def test_an_old_word_in_a_page_is_reported_with_its_line(tmp_path: Path) -> None:
    found = report(tmp_path, "# Polls\n\nIt waits, and then\nmends it.\n", "docs/page.md")
    assert found == ["docs/page.md:4: mends -> fix"]


@pytest.mark.parametrize("text", ALLOWED)
def test_stored_keys_and_public_names_may_stay(tmp_path: Path, text: str) -> None:
    assert report(tmp_path, text) == []


def test_a_name_is_allowed_only_in_its_place(tmp_path: Path) -> None:
    found = report(tmp_path, "def word(self): ...\n", "airflow_provider_openai_runs/runs/polling.py")
    assert found == ["airflow_provider_openai_runs/runs/polling.py:1: word in word -> raw_status"]


def test_the_changelog_may_quote_old_names(tmp_path: Path) -> None:
    assert report(tmp_path, "`on_trouble` told of trouble.\n", "CHANGELOG.md") == []
