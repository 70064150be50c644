# SPDX-License-Identifier: Apache-2.0
"""What the simulator answers to the example Dag of a report with a chart."""

from __future__ import annotations

from typing import Any

SCRIPT: dict[str, Any] = {
    "when": "Draw a chart",
    "times": None,
    "text": "Most of the world's electricity still comes from coal and gas.",
    "output": [
        {"type": "web_search", "pages": [{"url": "https://energy.example/2026", "title": "Energy in 2026"}]},
        {"type": "code_interpreter", "code": "plot()", "files": [{"name": "chart.png", "size": 50_000}]},
    ],
}
