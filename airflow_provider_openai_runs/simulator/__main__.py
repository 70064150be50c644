# SPDX-License-Identifier: Apache-2.0
"""The command line: serve until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from airflow_provider_openai_runs.simulator.server import Simulator


def main(arguments: list[str] | None = None) -> int:
    """Serve, and say where; give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_openai_runs.simulator",
        description="Serve a simulated OpenAI API: thread runs, background responses, conversations.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8399, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--base-path", default="/v1", help="where the API is served (default: %(default)s)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="runs go this much faster (default: %(default)s)"
    )
    parser.add_argument("--require-key", metavar="KEY", help="refuse every other API key with 401")
    parser.add_argument("--azure", action="store_true", help="serve /openai and /openai/v1 too")
    parser.add_argument("--no-threads", action="store_true", help="answer 404 to threads and assistants")
    for what in ("requests", "tokens"):
        parser.add_argument(
            f"--{what}-per-minute", type=int, metavar="N", help=f"refuse more {what} to create with 429"
        )
    options = parser.parse_args(arguments)

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        simulator = Simulator(**vars(options)).start()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"Cannot serve on {options.host}:{options.port}: {error}\n")
        return 1
    sys.stdout.write(f"{simulator.base_url}\n")
    sys.stdout.flush()
    stopped.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
