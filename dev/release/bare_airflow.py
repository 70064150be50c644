# SPDX-License-Identifier: Apache-2.0
"""Installs a wheel beside an Airflow that has nothing else, and asks that Airflow what it sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from dev import ROOT

#: Dag files that a new user meets first.
DAGS = (ROOT / "example_dags", ROOT / "dev" / "demo" / "dags")
#: Airflow's own packages; the rest of a constraints file may be newer than what a user has.
_AIRFLOW = re.compile(r"^apache-airflow(-core|-task-sdk)?==")
_PARSE = """
import sys, json
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors}))
"""


def problems(wheel: Path, airflow: str, installer: str) -> list[str]:
    """
    Install the wheel into a new environment, and return what is wrong there.

    :param airflow: a version that ``constraints/`` has.
    :param installer: ``pip`` or ``uv``.
    """
    with tempfile.TemporaryDirectory(prefix="release-check-") as folder:
        try:
            return _tried(Path(folder), wheel, airflow, installer)
        except subprocess.CalledProcessError as error:
            return [
                f"{' '.join(map(str, error.cmd[:4]))} ... failed: {(error.stderr or error.stdout)[-1500:]}"
            ]


def _tried(folder: Path, wheel: Path, airflow: str, installer: str) -> list[str]:
    venv = folder / "venv"
    _run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    constraints = ROOT / "constraints" / f"airflow-{airflow}.txt"
    pinned = [line for line in constraints.read_text(encoding="utf-8").splitlines() if _AIRFLOW.match(line)]
    # First Airflow alone, as users have it; then the package beside it, which must leave it as it is.
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    if installer == "uv":
        _run(python, *install, "uv")
        install = ["-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
    _run(python, *install, *pinned, "--constraint", constraints)
    _run(python, *install, wheel, *pinned)
    return [*_provider(folder, python), *_dags(folder, python)]


def _provider(folder: Path, python: Path) -> list[str]:
    listed = _run(python, "-m", "airflow", "providers", "list", "--output", "json", home=folder)
    rows = json.loads(listed[listed.index("[") :])
    if any(row["package_name"] == "airflow-provider-openai-runs" for row in rows):
        return []
    return ["`airflow providers list` does not list the package"]


def _dags(folder: Path, python: Path) -> list[str]:
    found = []
    for dags in DAGS:
        parsed = json.loads(_run(python, "-c", _PARSE, dags, home=folder).splitlines()[-1])
        # A Dag that needs Airflow 3.3 says so below it.
        errors = {
            file: text for file, text in parsed["errors"].items() if "needs Airflow 3.3" not in str(text)
        }
        found += [f"{file}: {str(text).strip().splitlines()[-1]}" for file, text in errors.items()]
        if not parsed["dags"]:
            found.append(f"no Dag in {dags}")
    return found


def _run(*command: str | Path, home: Path | None = None) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    more = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"} if home else {}
    return subprocess.run(  # noqa: S603 - our own commands
        command, check=True, capture_output=True, text=True, env=kept | more, cwd=home or ROOT
    ).stdout
