# SPDX-License-Identifier: Apache-2.0
"""What the package says of itself: what it needs, and what it has."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_openai_runs.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_provider_openai_runs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ADDRESS = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]
REGISTRY: dict[str, Any] = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text(encoding="utf-8"))
#: Distributions that are not called as what they bring.
CALLED = {"pydantic_core": "pydantic-core"}
#: Who imports these brings them: pytest loads the fixture, type checkers know _typeshed, Parquet is an extra.
BROUGHT = {"pytest", "_typeshed", "pyarrow"}


def distribution_of(module: str) -> str:
    """Name the distribution that a module comes from."""
    parts = module.split(".")
    if parts[0] != "airflow":
        return CALLED.get(parts[0], parts[0])
    if parts[1:2] != ["providers"]:
        return "apache-airflow"
    return "-".join(["apache-airflow-providers", *parts[2 : 4 if parts[2] == "common" else 3]])


def imported() -> Iterator[tuple[str, str]]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, path.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module, path.name


def test_every_import_is_of_a_distribution_that_is_declared() -> None:
    declared = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in PROJECT["project"]["dependencies"]}
    own = {PACKAGE.name, *BROUGHT, *sys.stdlib_module_names}
    missing = {
        f"{distribution_of(module)} (for {module} in {where})"
        for module, where in imported()
        if module.split(".")[0] not in own and distribution_of(module) not in declared
    }

    assert not missing


@pytest.mark.parametrize("part", ["operators", "sensors", "triggers", "hooks"])
def test_the_registry_lists_every_class_of_ours_once(part: str) -> None:
    found = import_module(f"{PACKAGE.name}.{part}")
    listed = [entry["module"] for entry in REGISTRY[part]]

    assert sorted(listed) == sorted(f"{found.__name__}.{name}" for name in found.__all__ if name[0].isupper())
    assert all(entry["description"] for entry in REGISTRY[part])


def test_the_registry_lists_the_decorators_that_airflow_finds() -> None:
    assert [entry["module"] for entry in REGISTRY["decorators"]] == [
        named["class-name"] for named in get_provider_info()["task-decorators"]
    ]


def test_what_the_registry_lists_beside_exists() -> None:
    for entry in REGISTRY["other"]:
        module, _, name = entry["module"].rpartition(".")
        assert (PACKAGE.parent / Path(*module.split("."))).with_suffix(".py").exists() or import_module(
            module
        )
        if module != f"{PACKAGE.name}.retry":  # Airflow 3.3
            assert hasattr(import_module(module), name)


def test_the_registry_the_project_and_the_provider_have_one_name_and_one_address() -> None:
    assert REGISTRY["package-name"] == PROJECT["project"]["name"] == get_provider_info()["package-name"]
    assert REGISTRY["display-name"] == get_provider_info()["name"]
    assert REGISTRY.get("source-url", "") == ADDRESS["repository"]
    assert REGISTRY.get("docs-url", "") == ADDRESS["documentation"]


@pytest.fixture
def hook() -> Any:
    pytest.importorskip("hatchling", reason="builds the package")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_with_an_address_the_links_of_the_description_leave_the_index(hook: Any) -> None:
    text = "[a](docs/a.md#b), [c](https://c.example), ![d](docs/d.png), [e](#e)"

    assert hook.with_links(text, "") == text
    assert hook.with_links(text, "https://git.example/x") == (
        "[a](https://git.example/x/blob/main/docs/a.md#b), [c](https://c.example), "
        "![d](https://git.example/x/blob/main/docs/d.png), [e](#e)"
    )
