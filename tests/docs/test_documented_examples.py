# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLC0415 - Airflow is imported by those who need it, after conftest.py has set its environment

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: What a task state store is needed for.
NEEDS_STORE = re.compile(r"BulkCreateResponsesOperator\(|\bmax_(?:cost|total_tokens)=")
DEFINES_A_DAG = re.compile(r"^(with DAG\(|@dag)", re.MULTILINE)


def _python_blocks() -> Iterator[Any]:
    for page in PAGES:
        blocks = [text for language, text in CODE.findall(page.read_text()) if language == "python"]
        for number, text in enumerate(blocks, start=1):
            yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


def _dag_bag(path: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]
    return DagBag(str(path))


def _anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", list(_python_blocks()))
def test_a_python_example_builds_its_dag(text: str, tmp_path: Path) -> None:
    ast.parse(text)
    if not DEFINES_A_DAG.search(text):
        return
    if "retry_policy=" in text:
        import airflow.sdk

        if not hasattr(airflow.sdk, "RetryPolicy"):
            pytest.skip("Airflow has retry policies from 3.3 on")
    if NEEDS_STORE.search(text):
        from tests.support.airflow_versions import HAS_STORE

        if not HAS_STORE:
            pytest.skip("Airflow has a task state store from 3.3 on")
    if " approve=" in text:
        import airflow.sdk.exceptions

        if not hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"):
            pytest.skip("Airflow's tasks wait for a person from 3.3 on")
    file = tmp_path / "documented.py"
    file.write_text(text)
    bag = _dag_bag(file)
    assert bag.import_errors == {}
    assert bag.dags
    assert all(dag.tasks for dag in bag.dags.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_an_error_message_names_a_page_that_exists() -> None:
    source = (ROOT / "airflow_provider_openai_runs" / "runs" / "error_of_request.py").read_text()
    for name in re.findall(r"docs/[\w-]+\.md", source):
        assert (ROOT / name).exists(), name


def test_the_index_lists_every_page() -> None:
    linked = LINK.findall((ROOT / "docs" / "index.md").read_text())
    listed = {(ROOT / "docs" / link).resolve() for link in linked}
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - listed == {ROOT / "docs" / "index.md"}
