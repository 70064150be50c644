# SPDX-License-Identifier: Apache-2.0
"""Set where the project is to be found: ``python -m dev.release.address REPOSITORY [DOCUMENTATION]``."""

from __future__ import annotations

import re
import sys

from dev import ROOT


def with_address(project: str, registry: str, repository: str, documentation: str) -> tuple[str, str]:
    """Return ``pyproject.toml`` and ``.airflow-registry.yaml`` with these addresses; empty ones are none."""
    for name, value in {"repository": repository, "documentation": documentation}.items():
        project = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', project, flags=re.MULTILINE)
    registry = re.sub(r"^(source|docs)-url: .*\n", "", registry, flags=re.MULTILINE)
    lines = [
        f"{name}: {value}\n"
        for name, value in (("docs-url", documentation), ("source-url", repository))
        if value
    ]
    return project, registry.replace("\noperators:", f"{''.join(lines)}\noperators:", 1)


def main(repository: str, documentation: str = "") -> int:
    """Write both files."""
    if repository and not re.fullmatch(r"https://[^\s\"]+", repository):
        print(f"{repository!r} is no https:// address")
        return 2
    files = [ROOT / "pyproject.toml", ROOT / ".airflow-registry.yaml"]
    project, registry = (file.read_text(encoding="utf-8") for file in files)
    for file, text in zip(
        files, with_address(project, registry, repository.rstrip("/"), documentation), strict=True
    ):
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
