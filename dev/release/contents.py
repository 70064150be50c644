# SPDX-License-Identifier: Apache-2.0
"""Which files a wheel and an sdist hold: exactly these."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

from dev import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = "airflow_provider_openai_runs"
#: What an sdist holds of the repository: folders, and files of its root.
FOLDERS = (PACKAGE, "docs", "example_dags")
FILES = (
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "hatch_build.py",
    "pyproject.toml",
)
#: What the build adds.
OF_WHEEL = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
OF_SDIST = ("PKG-INFO",)


def differences(wheel: Path, sdist: Path) -> list[str]:
    """Return a line for each file that is missing, and for each that should not be there."""
    name = wheel.name.split("-py3-")[0]
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.removeprefix(f"{name}/") for member in archive if member.isfile()}
    return [
        *_differ(wheel, in_wheel, {*_tracked(PACKAGE), *(f"{name}.dist-info/{file}" for file in OF_WHEEL)}),
        *_differ(sdist, in_sdist, {*_tracked(*FOLDERS), *FILES, *OF_SDIST}),
    ]


def _tracked(*folders: str) -> set[str]:
    """List what git knows of these folders."""
    command = ["git", "ls-files", "-z", "--", *folders]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return set(found.stdout.split("\0")) - {""}


def _differ(archive: Path, found: set[str], wanted: set[str]) -> list[str]:
    return [
        *(f"{archive.name} lacks {file}" for file in sorted(wanted - found)),
        *(f"{archive.name} holds {file}, which nobody has asked for" for file in sorted(found - wanted)),
    ]
