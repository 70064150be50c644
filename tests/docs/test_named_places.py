# SPDX-License-Identifier: Apache-2.0
"""What the pages say of the code by name is there: files, classes, functions, layers."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import ROOT

PACKAGE = ROOT / "airflow_provider_openai_runs"
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if path.name != "CHANGELOG.md"
)
CODE = [
    *(path for folder in (PACKAGE, ROOT / "dev", ROOT / "tests") for path in folder.rglob("*.py")),
    *(ROOT / name for name in ("Makefile", "pyproject.toml")),
]
#: Files that a user has.
OF_USERS = {"my_company/entra.py", "dags/late_report.py", "tests/test_late_report.py"}
#: A file in code marks, by its place in the repository or in the package.
_FILE = re.compile(r"`([\w.-]+/[\w./-]+\.(?:py|md|txt|yml|toml|cjs))(?:::\w+)?`")
_MAKE = re.compile(r"`make ([a-z][a-z0-9-]*)")


def rows_of_the_table() -> Iterator[str]:
    table = ARCHITECTURE.partition("## Where is ...")[2]
    yield from (line for line in table.splitlines() if re.match(r"\| .*`.*` \|.*`", line))


def names_in(path: Path) -> set[str]:
    """Return what a module defines at its top, and the members of its classes as ``Class.member``."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= set(_defined(node))
        if isinstance(node, ast.ClassDef):
            own = {name for member in node.body for name in _defined(member)}
            attributes = {
                target.attr
                for target in ast.walk(node)
                if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
            }
            found |= {f"{node.name}.{name}" for name in own | attributes}
    return found


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("row", list(rows_of_the_table()))
def test_what_the_table_of_places_names_is_there(row: str) -> None:
    _, _, places = row.strip("| ").partition(" | ")
    files = re.findall(r"`([\w/]+\.py)`", places)
    folder = Path(files[0]).parent
    found = [
        [path for base in (PACKAGE, PACKAGE / folder, ROOT) if (path := base / file).exists()]
        for file in files
    ]

    assert all(found), files
    names = {name for name in re.findall(r"`([\w.]+)`", places) if not name.endswith(".py")}
    assert not names - {name for paths in found for name in names_in(paths[0])}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = set(_FILE.findall(page.read_text(encoding="utf-8"))) - OF_USERS
    assert not [file for file in named if not any((base / file).exists() for base in (ROOT, PACKAGE))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_target_that_a_page_names_is_there(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(_MAKE.findall(page.read_text(encoding="utf-8")))
    assert not [target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_a_name_of_the_code_in_the_pages_for_contributors_stands_in_the_code(page: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in CODE if path != Path(__file__)]
    known = set(re.findall(r"\w+", "\n".join(texts)))
    spans = re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", (ROOT / page).read_text(encoding="utf-8"))
    names = {part for span in spans for part in span.split(".") if "_" in part or not part.islower()}
    assert not sorted(names - known)


def test_the_table_of_layers_is_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]["layers"]
    table = ARCHITECTURE.partition("| layer | what it is |")[2].partition("\n\n")[0]
    shown = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]

    found = [{Path(name.rstrip("/")).stem for name in re.findall(r"`([\w./]+)`", line)} for line in shown]
    assert found == [set(re.findall(r"\w+", layer)) for layer in contract]


def test_the_modules_that_are_longer_than_they_should_be_are_named() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    said = text.partition("300 lines at most;")[2].partition("should not grow")[0]
    longer = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > 300
    }
    assert not longer - set(re.findall(r"`([^`]+)`", said))
