# SPDX-License-Identifier: Apache-2.0
"""
``make test-matrix``: the tests on every supported Airflow, Python and SDK.

Every Airflow runs on the oldest Python; the newest Airflow on every Python, and with the oldest SDK, too.
Each of these cells has an environment of its own. pyproject.toml and constraints/ say what is supported.
The last cell is what comes next, by ``make constraints-next``: a failure there is a warning.
"""

# ruff: noqa: T201, S603 - a command line whose commands are our own

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
NEWEST = "newest"
#: The Airflow that is not released yet, with the newest SDK.
NEXT = "next"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination; an ``sdk`` that is not the newest is a version."""

    airflow: str
    python: str
    sdk: str = NEWEST

    def __str__(self) -> str:
        return f"airflow {self.airflow}, python {self.python}, sdk {self.sdk}"

    @property
    def is_ahead(self) -> bool:
        """Whether it is of what is not released yet."""
        return self.airflow == NEXT

    @property
    def venv(self) -> str:
        """Its environment, whose name ``make clean`` and git know."""
        return f".venv-matrix-{self.airflow}-{self.python}-{self.sdk}"


def cells() -> list[Cell]:
    """List what is supported, from where it is written down."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r".* :: Python :: (3\.\d+)", line) for line in project["classifiers"]]
    pythons = [match[1] for match in found if match]
    files = (ROOT / "constraints").glob("airflow-*.txt")
    airflows = sorted({file.stem.removeprefix("airflow-") for file in files} - {NEXT})
    (floor,) = (m[1] for line in project["dependencies"] if (m := re.match(r"openai>=([\d.]+)", line)))
    return [
        *(Cell(airflow=airflow, python=pythons[0]) for airflow in airflows[:-1]),
        *(Cell(airflow=airflows[-1], python=python) for python in pythons),
        Cell(airflow=airflows[-1], python=pythons[0], sdk=floor),
        Cell(airflow=NEXT, python=pythons[-1]),
    ]


def python_of(version: str) -> str | None:
    """Find a Python of this version: on the path, or among those of pyenv and uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python")
    candidates: list[str | Path | None] = [
        shutil.which(f"python{version}"),
        *pyenv.glob(f"versions/{version}.*/bin/python"),
        *uv.glob(f"cpython-{version}.*/bin/python"),
    ]
    probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        if candidate is None:
            continue
        # A name on the path may be a mere stand-in that refuses to run.
        found = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, check=False)
        if found.stdout.strip() == version:
            return str(candidate)
    return None


def tried(cell: Cell, arguments: str) -> str:
    """Run the tests in one cell, and say how it went."""
    python = python_of(cell.python)
    if python is None:
        return f"python{cell.python} not found: skipped"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        settings = [f"AIRFLOW={cell.airflow}", f"PYTHON={python}", f"VENV={cell.venv}"]
        if cell.sdk != NEWEST:
            settings.append(f"SDK={cell.sdk}")
        command = ["make", "--no-print-directory", "test", *settings, f"ARGS={arguments} --junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, check=False)
        counts = _counts(report) if report.exists() else "no test ran"
    word = "ok" if done.returncode == 0 else "WARNING" if cell.is_ahead else "FAILED"
    return f"{word}: {counts}, in {time.monotonic() - began:.0f} s"


def _counts(report: Path) -> str:
    (suite,) = ET.parse(report).getroot()  # noqa: S314 - pytest has just written it
    ran, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return f"{ran - failed - skipped} passed, {failed} failed, {skipped} skipped"


def chosen(words: str) -> Iterator[Cell]:
    """Yield the cells that have every one of the words in their name."""
    yield from (cell for cell in cells() if all(word in str(cell) for word in words.split(",")))


def main() -> int:
    """Run every cell, or those that MATRIX names, and print one line for each."""
    lines: list[str] = []
    for cell in chosen(os.environ.get("MATRIX", "")):
        print(f"== {cell}", flush=True)
        lines.append(f"{cell}: {tried(cell, ' '.join(sys.argv[1:]))}")
    print("\n" + "\n".join(lines))
    return 1 if not lines or any(": FAILED" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
