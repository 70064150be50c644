# SPDX-License-Identifier: Apache-2.0
"""``make demo-llm``: a real language model on this machine answers through a live Airflow."""

from __future__ import annotations

import os
import subprocess
import sys

from dev import ROOT
from dev.conformance.servers import LLM_FRONT, SERVERS, started


def main() -> int:
    """Put a server with memory in front of one with a model, and show an example Dag on it."""
    with started(SERVERS["llamacpp"]) as llm, started(LLM_FRONT, LLM_URL=llm) as front:
        env = os.environ | {"OPENAI_API_KEY": "no-key-is-needed", "OPENAI_BASE_URL": front}
        command = [sys.executable, "-m", "dev.demo", "run", "--dag", "openai_response", *sys.argv[1:]]
        return subprocess.run(command, env=env, cwd=ROOT, check=False).returncode  # noqa: S603 - our own


if __name__ == "__main__":
    sys.exit(main())
