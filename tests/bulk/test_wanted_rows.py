# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import UserDict
from typing import Any

from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.bulk.wanted_rows import WantedRows


class Values(UserDict[str, Any]):
    """It counts how often its text is made."""

    texts = 0

    def __repr__(self) -> str:
        type(self).texts += 1
        return super().__repr__()


def test_a_row_is_measured_once_however_often_it_is_asked_for_and_no_longer_than_it_is_in_hand() -> None:
    rows = WantedRows(is_new=lambda _: True, now=0.0)
    assert rows.mean_size == 0
    for number, text in enumerate(["", "x" * 1_000]):
        rows.keep(Row(number=number, values=Values(input=text)))
    sizes = [rows.mean_size for _ in range(10)]
    assert len({*sizes}) == 1
    assert 500 < sizes[0] < 520
    assert Values.texts == 2
    rows.forget(1)
    assert rows.mean_size < 20
    assert Values.texts == 2
