# SPDX-License-Identifier: Apache-2.0
"""``make demo-llm``: a real language model on this machine answers through a live Airflow."""

from __future__ import annotations

import os
import sys

from dev.conformance.servers import LLM_FRONT, SERVERS, started
from dev.demo.__main__ import main as demo
from dev.live.interrupts import raise_interrupts


def main() -> int:
    """Put a server with memory in front of one with a model, and show an example Dag on it."""
    raise_interrupts()
    with started(SERVERS["llamacpp"]) as llm, started(LLM_FRONT, LLM_URL=llm) as front:
        os.environ |= {"OPENAI_API_KEY": "no-key-is-needed", "OPENAI_BASE_URL": front}
        return demo(["run", "--dag", "openai_response", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
