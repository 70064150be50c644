# SPDX-License-Identifier: Apache-2.0
"""The script of a run like deep research: many thoughts and searches, then a long report with its sources."""

from __future__ import annotations

from itertools import count, islice

from airflow_provider_openai_runs.simulator.scenario import Scenario
from airflow_provider_openai_runs.simulator.tool_results import Reasoning, ToolResult, WebPage, WebSearch

_PAGES = 3
_SENTENCE = "The simulated report goes on for a while. "


def deep_research(*, searches: int = 20, characters: int = 20_000) -> Scenario:
    """Make the script; it is `replace`d like any other where more of it should differ.

    :param searches: each has a thought before it, finds three pages, and opens the first.
    :param characters: the least length of the report, which cites every page.
    """
    pages = (
        WebPage(url=f"https://source{number}.example/page", title=f"Source {number}") for number in count()
    )
    output: list[ToolResult] = []
    paragraphs: list[str] = []
    for number in range(searches):
        found = tuple(islice(pages, _PAGES))
        output += [
            Reasoning(summary=(f"What is still to be found out, part {number}.",)),
            WebSearch(query=f"part {number}", pages=found),
            WebSearch(url=found[0].url),
        ]
        cited = " ".join(f"([{page.title}]({page.url}))" for page in found)
        filler = _SENTENCE * (characters // searches // len(_SENTENCE) + 1)
        paragraphs.append(f"## Part {number}\n\n{filler}{cited}.")
    return Scenario(output=tuple(output), text="\n\n".join(paragraphs), reasoning_tokens=searches * 1_000)
