# SPDX-License-Identifier: Apache-2.0
"""
What the docs site has beside ``docs/``: the pages of the root, the example Dags, the API reference.

A hook of mkdocs (``mkdocs.yml``). In the repository a link leads from file to file, as GitHub shows them;
here it is led to the page that a file has become.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: Pages of the root, and what they are called on the site.
ROOT_PAGES = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
EXAMPLES, API = "examples.md", "api.md"
#: What the API reference shows, in this order.
REFERENCE = (
    "operators.CreateResponseOperator",
    "operators.BulkCreateResponsesOperator",
    "operators.CreateRunOperator",
    "operators.base.BaseCreateOperator",
    "operators.SubmitToolOutputsOperator",
    "operators.GetResponseOperator",
    "operators.GetThreadRunOperator",
    "operators.CancelRunOperator",
    "decorators.openai_response_task",
    "decorators.openai_run_task",
    "bulk.read_results",
    "sensors.ResponseSensor",
    "sensors.ThreadRunSensor",
    "triggers.RunCompletionTrigger",
    "triggers.BulkCompletionTrigger",
    "hooks.OpenAIRunsHook",
    "retry.OpenAIRunRetryPolicy",
    "links.OpenAIRunLink",
    "simulator.Simulator",
    "simulator.Scenario",
    "simulator.Fault",
)
#: What of these is for users besides the class: its methods.
_WITH_METHODS = ("hooks.", "simulator.")
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_config(config: Any) -> Any:
    """Take the addresses from where they stand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    config["repo_url"] = address["repository"] or None
    config["site_url"] = address["documentation"] or ""
    _list_new_pages(config["nav"])
    return config


def _list_new_pages(nav: list[dict[str, Any]]) -> None:
    """Put pages that mkdocs.yml does not place at the end of their part."""
    parts = {title: pages for part in nav for title, pages in part.items()}
    placed = set(re.findall(r"[\w/-]+\.md", str(nav)))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs").as_posix()
        if name not in placed:
            parts["How to" if name.startswith("how-to/") else "Reference"].append(name)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of ``docs/``."""
    pages = {name: (ROOT / source).read_text(encoding="utf-8") for source, name in ROOT_PAGES.items()}
    for name, text in {**pages, EXAMPLES: _examples(), API: _api()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead each link to the page that its file has become."""
    here = page.file.src_uri
    source = next((file for file, name in ROOT_PAGES.items() if name == here), f"docs/{here}")
    return _LINK.sub(lambda found: _led(found[1], found[2] or "", source, here), markdown)


def _led(link: str, anchor: str, source: str, here: str) -> str:
    target = os.path.normpath(Path(source).parent / link)
    if target in ROOT_PAGES:
        target = ROOT_PAGES[target]
    elif target.startswith("docs/"):
        target = target.removeprefix("docs/")
    elif target.startswith("example_dags"):
        target, anchor = EXAMPLES, f"#{Path(target).stem}" if target.endswith(".py") else ""
    elif source.startswith("docs/") and here == target:
        return f"{link}{anchor}"
    elif target == "LICENSE":
        return "https://www.apache.org/licenses/LICENSE-2.0"
    return f"{os.path.relpath(target, Path(here).parent)}{anchor}"


def _examples() -> str:
    shown = [
        f"## {path.stem}\n\n```python\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"
        for path in sorted((ROOT / "example_dags").glob("*.py"))
    ]
    return (
        "# Example Dags\n\nEach runs against the simulator in `make demo` or in the tests.\n\n"
        + "\n".join(shown)
    )


def _api() -> str:
    about = (
        "# API\n\nWhat stays until the next major version. The how-to pages say it in whole sentences.\n\n"
    )
    return about + "\n".join(map(_shown, REFERENCE))


def _shown(name: str) -> str:
    text = f"::: airflow_provider_openai_runs.{name}\n"
    if name.startswith(_WITH_METHODS):
        return text
    return f"{text}    options:\n      members: false\n"
