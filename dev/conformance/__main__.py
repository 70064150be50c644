# SPDX-License-Identifier: Apache-2.0
"""``make conformance``: try every case on every server and print how it went."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.runs.status import RunKind, noun_of
from dev.conformance.dag_test import airflow
from dev.conformance.proxy import Proxy
from dev.conformance.servers import SERVERS, Cannot, Server, started
from dev.conformance.table import CANNOT, FAILED, OK, Result, lines
from dev.live.interrupts import raise_interrupts

_LONGEST_REASON = 500
_PROOFS = 10

if TYPE_CHECKING:
    from dev.conformance.bench import Bench
    from dev.conformance.cases import Case
    from dev.conformance.dag_test import Suite


def run(servers: list[Server], only: str) -> int:
    """Try the cases on the servers, one server after the other; 0 if none failed."""
    began = time.monotonic()
    results: dict[tuple[str, RunKind, str], Result] = {}
    with airflow() as suite:
        for server in servers:
            results |= try_server(server, suite, only)
    print()
    for line in lines(results, servers):
        print(line)
    words = [result.word for result in results.values()]
    summary = ", ".join(f"{words.count(word)} {word}" for word in (OK, FAILED, CANNOT))
    print(f"\n{summary}, in {time.monotonic() - began:.0f} s")
    return 1 if FAILED in words else 0


def try_server(server: Server, suite: Suite, only: str) -> dict[tuple[str, RunKind, str], Result]:
    """Try every case on one server."""
    from dev.conformance.bench import Bench  # noqa: PLC0415 # after Airflow's set-up
    from dev.conformance.cases import CASES  # noqa: PLC0415

    results = {}
    proved: dict[Cannot, Result] = {}
    with started(server) as url, Proxy(url) as proxy:
        for kind in server.apis:
            bench = Bench(server=server, kind=kind, proxy=proxy, suite=suite)
            for name, case in CASES[kind].items():
                if only not in name:
                    continue
                began = time.monotonic()
                cannot = server.cannot.get((kind, name))
                if cannot is None:
                    result = _try(case, bench)
                else:
                    result = proved[cannot] = proved.get(cannot) or _prove(cannot, bench)
                results[server.name, kind, name] = result
                seconds = time.monotonic() - began
                print(f"{server.name}, {noun_of(kind)}, {name}: {result.word} ({seconds:.1f} s)", flush=True)
    return results


def _try(case: Case, bench: Bench) -> Result:
    try:
        case(bench)
    except Exception as error:  # noqa: BLE001 # the table says it
        return Result(FAILED, " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON])
    return Result(OK)


def _prove(cannot: Cannot, bench: Bench) -> Result:
    """Ask the plain SDK: what it can do there, the operators must be able to do."""
    import openai  # noqa: PLC0415 # half a second

    for _ in range(_PROOFS):
        try:
            can = cannot.proof(bench.sdk, bench.server.model)
        except openai.APIStatusError:
            can = False
        except (openai.APIConnectionError, ValueError):
            # A faulty server drops connections and cuts answers, and the plain SDK takes that as it comes.
            continue
        if not can:
            return Result(CANNOT, cannot.reason)
        return Result(FAILED, f"the plain SDK can, by now, although: {cannot.reason}")
    return Result(FAILED, f"{_PROOFS} proofs were disturbed that the server cannot: {cannot.reason}")


def main() -> int:
    """Read the command line; Ctrl-C and termination end in a clean stop."""
    raise_interrupts()
    parser = argparse.ArgumentParser(prog="python -m dev.conformance", description=__doc__)
    parser.add_argument("server", nargs="*", choices=[[], *SERVERS], help="all of them unless given")
    parser.add_argument("--case", default="", help="only cases with this in their name")
    options = parser.parse_args()
    servers = [SERVERS[name] for name in options.server or SERVERS]
    try:
        return run(servers, options.case)
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
