# SPDX-License-Identifier: Apache-2.0
"""
Check what would be published: ``python -m dev.release [--tag v1.0.0] [--airflow 3.3] [--installer uv]``.

Builds wheel and sdist, checks them by twine, compares what they hold with a list, and installs the wheel
into a bare Airflow of each version by pip and by uv. ``--no-install`` leaves the last part out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from airflow_provider_openai_runs import __version__
from dev import ROOT
from dev.release import bare_airflow
from dev.release.contents import differences


def main() -> int:
    """Print a line for each check, and what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(prog="python -m dev.release", description=__doc__)
    parser.add_argument("--tag", help="the tag to be published; it has to name the version")
    parser.add_argument("--airflow", action="append", help="only these versions")
    parser.add_argument("--installer", action="append", choices=["pip", "uv"])
    parser.add_argument("--no-install", action="store_true")
    parser.add_argument("--dist", type=Path, help="where to leave wheel and sdist; nowhere unless given")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failed = [
            text
            for title, texts in _checks(asked, Path(asked.dist or folder))
            for text in _shown(title, texts)
        ]
    print(_address())
    return 1 if failed else 0


def _shown(title: str, problems: list[str]) -> list[str]:
    print(f"{'FAILED' if problems else 'ok':>6}  {title}", *problems, sep="\n        ", flush=True)
    return problems


def _checks(asked: argparse.Namespace, dist: Path) -> Iterator[tuple[str, list[str]]]:
    yield f"version {__version__} and its tag", version_problems(asked.tag)
    _run("build", "--quiet", "--outdir", dist, ROOT)
    (wheel,), (sdist,) = dist.glob(f"*-{__version__}-*.whl"), dist.glob(f"*-{__version__}.tar.gz")
    yield (
        f"{wheel.name}, {sdist.name}: twine check --strict",
        _run("twine", "check", "--strict", wheel, sdist),
    )
    yield "what they hold", differences(wheel, sdist)
    if asked.no_install:
        return
    versions = asked.airflow or sorted(
        path.stem.removeprefix("airflow-") for path in ROOT.glob("constraints/airflow-[0-9].[0-9].txt")
    )
    for airflow in versions:
        for installer in asked.installer or ("pip", "uv"):
            began = time.monotonic()
            found = bare_airflow.problems(wheel, airflow, installer)
            yield (
                f"beside a bare Airflow {airflow}, by {installer}, in {time.monotonic() - began:.0f} s",
                found,
            )


def version_problems(tag: str | None) -> list[str]:
    """Return what keeps this version from being published under a tag, or under any."""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__):
        return [f"{__version__!r} is no version"]
    if tag is None:
        return []
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [
        *(
            []
            if tag == f"v{__version__}"
            else [f"the tag {tag} is not v{__version__}, which __init__.py says"]
        ),
        *(
            []
            if re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)
            else [f"CHANGELOG.md has no section [{__version__}] with a day"]
        ),
    ]


def _run(module: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode and module == "build":
        sys.exit(f"The build failed:\n{done.stdout}{done.stderr}")
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def _address() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    if repository:
        return f"The address is {repository}."
    return (
        "Nobody has named an address yet: an index would show no links, and those of the description lead "
        "nowhere. `make address REPOSITORY=https://...` sets it."
    )


if __name__ == "__main__":
    sys.exit(main())
