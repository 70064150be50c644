# SPDX-License-Identifier: Apache-2.0
"""What publishes the package, and what checks it before."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_openai_runs import __version__
from dev import ROOT
from dev.release.__main__ import version_problems
from dev.release.address import with_address
from dev.release.contents import FILES, PACKAGE, differences
from tests.matrix import NEWEST, cells

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(workflow: Path) -> Any:
    return yaml.safe_load(workflow.read_text(encoding="utf-8"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_an_action_is_pinned_by_a_hash_with_its_version_beside(workflow: Path) -> None:
    used = re.findall(r"uses: *(.*)", workflow.read_text(encoding="utf-8"))

    assert used
    assert not [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_that_the_makefile_has(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    run = [step["run"] for job in read(workflow)["jobs"].values() for step in job["steps"] if "run" in step]

    for command in run:
        target = re.match(r"make ([\w-]+)", command)
        assert target is not None
        assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), command


def test_github_tests_what_make_test_matrix_tests() -> None:
    listed = read(ROOT / ".github" / "workflows" / "check.yml")["jobs"]["test"]["strategy"]["matrix"][
        "include"
    ]

    assert [(cell["airflow"], cell["python"], cell["sdk"] or NEWEST) for cell in listed] == [
        (cell.airflow, cell.python, cell.sdk) for cell in cells() if not cell.is_ahead
    ]


def test_only_a_tag_that_names_the_version_is_published() -> None:
    assert version_problems(None) == []
    assert version_problems("v0.0.1")[0] == f"the tag v0.0.1 is not v{__version__}, which __init__.py says"


@pytest.mark.parametrize("address", ["https://git.example/x", ""])
def test_an_address_is_set_and_taken_out_at_every_place(address: str) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    registry = (ROOT / ".airflow-registry.yaml").read_text(encoding="utf-8")
    once = with_address(project, registry, "https://git.example/other", "https://docs.example")

    changed, listed = with_address(*once, address, "")

    assert f'\nrepository = "{address}"\ndocumentation = ""\n' in changed
    found = yaml.safe_load(listed)
    assert found.get("source-url", "") == address
    assert "docs-url" not in found
    assert {**found, "source-url": ""} == {**yaml.safe_load(registry), "source-url": ""}


def test_a_file_too_many_and_one_too_few_are_named(tmp_path: Path) -> None:
    wheel, sdist = tmp_path / f"{PACKAGE}-1.0-py3-none-any.whl", tmp_path / f"{PACKAGE}-1.0.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{PACKAGE}/of_a_test.py", "")
    with tarfile.open(sdist, "w:gz") as packed:
        for name in FILES:
            if name != "SECURITY.md":
                packed.add(ROOT / name, f"{PACKAGE}-1.0/{name}")
    found = differences(wheel, sdist)

    assert f"{wheel.name} holds {PACKAGE}/of_a_test.py, which nobody has asked for" in found
    assert f"{wheel.name} lacks {PACKAGE}/py.typed" in found
    assert f"{sdist.name} lacks SECURITY.md" in found
