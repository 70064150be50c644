# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tests.support.scene import Scene

ROOT = Path(__file__).parents[2]
#: The model of every page, example and Dag here; the day that it gets a date for its end, name its successor.
MODEL = "gpt-6-luna"
MODELS = re.compile(r"""["']?model["']?\s*[=:]\s*["'](gpt-[^"']+)["']""")
FILES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "example_dags/*.py", "dev/**/dags/*.py")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_and_examples_name_one_model(file: Path) -> None:
    assert set(MODELS.findall(file.read_text(encoding="utf-8"))) <= {MODEL}


def test_no_day_is_announced_for_the_end_of_that_model(scene: Scene) -> None:
    answer = scene.http.get(f"{scene.simulator.base_url}/models", headers={"Authorization": "Bearer k"})

    ends = {model["id"]: model["shutdown_date"] for model in answer.json()["data"]}
    assert ends[MODEL] is None
    assert date.fromisoformat(ends["gpt-4o-mini"]) == date(2027, 1, 14)
