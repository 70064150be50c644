# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
before = set(sys.modules)
import importlib, pkgutil
for package in sys.argv[1:]:
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
print("\\n".join(sorted(set(sys.modules) - before)))
"""
ROOT = "airflow_provider_openai_runs"


def imported_by(*packages: str) -> set[str]:
    done = subprocess.run(  # noqa: S603 # our own interpreter and script
        [sys.executable, "-c", SCRIPT, *packages], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["runs", "wire"])
def test_the_core_needs_nothing_but_the_standard_library(package: str) -> None:
    found = imported_by(f"{ROOT}.{package}")
    roots = {name.partition(".")[0] for name in found}
    assert roots - {ROOT} <= set(sys.stdlib_module_names)
    ours = {name.split(".")[1] for name in found if name.startswith(f"{ROOT}.")}
    assert ours == {"runs", package}
