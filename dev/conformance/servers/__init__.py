# SPDX-License-Identifier: Apache-2.0
"""Which servers are tried, how each is started, and what each cannot do."""

from __future__ import annotations

import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario, Simulator
from dev import ROOT
from dev.conformance import proofs
from dev.live.processes import Process, free_port, stop

if TYPE_CHECKING:
    import openai

HERE = Path(__file__).parent
_SECONDS_TO_START = 60.0
RUN, RESPONSE = RunKind.THREAD_RUN, RunKind.RESPONSE


@dataclass(frozen=True, kw_only=True)
class Cannot:
    """
    Why a case is not asked of a server.

    :param proof: tells whether the plain SDK can, or lets it be refused; asked in place of the case.
    """

    reason: str
    proof: Callable[[openai.OpenAI, str], bool]


@dataclass(frozen=True, kw_only=True)
class Server:
    """
    One server that speaks one of the APIs, or both.

    :param command: its arguments after the Python of its own environment, where ``{port}`` and ``{folder}``
        (to write to) are put in.
    :param base_path: what follows the port in its base URL.
    :param ready: a path that is answered with 503, or not at all, until it can work.
    :param too_quick: a cancel may come too late, since its runs last less than a second.
    :param cannot: by API and by the name of the case.
    :param environment: whose Python its command is for, if not its own.
    :param behind: the server that this one stands before.
    :param model: a name that servers with a tokenizer of their own know.
    :param azure: it wants Azure's header for the key, and a version in the query.
    """

    name: str
    title: str
    apis: tuple[RunKind, ...]
    command: tuple[str, ...] = ()
    base_path: str = "/v1"
    ready: str = "/"
    too_quick: bool = False
    model: str = "gpt-4o-mini"
    cannot: Mapping[tuple[RunKind, str], Cannot] = field(default_factory=dict)
    environment: str = ""
    behind: Server | None = None
    azure: bool = False

    @property
    def python(self) -> Path:
        """The Python of its own environment, which ``make conformance`` has made."""
        return ROOT / f".venv-conformance-{self.environment or self.name}" / "bin" / "python"


_ONE_ROUND = Cannot(reason="asks for a function once in a run, whatever the answer", proof=proofs.calls_again)
_FIXED_THREAD_TEXT = Cannot(
    reason="says one and the same, and does not heed response_format", proof=proofs.thread_heeds_a_format
)
_FIXED_TEXT = Cannot(reason="makes text up, and does not heed text.format", proof=proofs.heeds_a_format)
_NO_FORMAT = Cannot(
    reason="does not heed text.format of responses, only that of chat completions",
    proof=proofs.heeds_a_format,
)
_STATELESS = Cannot(
    reason="keeps no responses: every poll of one is answered with 404", proof=proofs.retrieves
)
_OTHER_FUNCTIONS = Cannot(
    reason="refuses functions in the form of this API: it wants that of chat completions",
    proof=proofs.calls_a_function,
)
_SMALL = Cannot(
    reason="so small a model answers, where a function should be called", proof=proofs.calls_a_function
)
_READS = (
    *("wait in a sensor", "read", "steps", "output", "cancel", "cancel what has ended"),
    "window over",
)
_CALLS = (
    *("tool call pending", "tool call answered", "function called in the worker", "five rounds"),
    "outputs submitted by another task",
)


def _fastresponses(agent: str) -> tuple[str, ...]:
    return (
        *("-m", "fastresponses.cli", "serve", f"{HERE / agent}:agent"),
        *("--host", "127.0.0.1", "--port", "{port}", "--store", "{folder}/responses.db"),
    )


SERVERS = {
    server.name: server
    for server in (
        Server(name="simulator", title="this package's simulator", apis=(RUN, RESPONSE)),
        Server(
            name="fakeai",
            title="fakeai 0.3.2",
            apis=(RUN, RESPONSE),
            command=(str(HERE / "fakeai_server.py"), "{port}"),
            model="openai/gpt-oss-120b",
            too_quick=True,
            cannot={
                **{(RESPONSE, name): _STATELESS for name in _READS},
                **{(RESPONSE, name): _OTHER_FUNCTIONS for name in _CALLS},
                (RUN, "five rounds"): _ONE_ROUND,
                (RUN, "typed output"): _FIXED_THREAD_TEXT,
                (RESPONSE, "typed output"): _FIXED_TEXT,
            },
        ),
        Server(
            name="fastresponses",
            title="fastresponses 0.1.0",
            apis=(RESPONSE,),
            command=_fastresponses("fastresponses_agent.py"),
        ),
        Server(
            name="agentserver",
            title="azure-ai-agentserver-responses 2.3.0",
            apis=(RESPONSE,),
            command=(str(HERE / "agentserver_host.py"), "{port}"),
            base_path="",
        ),
        Server(
            name="llamacpp",
            title="llama.cpp by xllamacpp 2026.10.11549, with SmolLM2-135M",
            apis=(RESPONSE,),
            command=(str(HERE / "llamacpp_server.py"), "{port}"),
            ready="/health",
            cannot={
                **{(RESPONSE, name): _STATELESS for name in _READS},
                **{(RESPONSE, name): _SMALL for name in _CALLS},
                (RESPONSE, "typed output"): _NO_FORMAT,
                (RESPONSE, "next turn"): Cannot(
                    reason="keeps no responses, and refuses previous_response_id", proof=proofs.goes_on
                ),
            },
        ),
    )
}


def _faulty(name: str, behind: Server, api: RunKind) -> Server:
    """Put mitmproxy before a server, which makes every second poll fail."""
    return replace(
        behind,
        name=name,
        title=f"{behind.name} behind mitmproxy 11.0.2, as Azure, with faults",
        apis=(api,),
        command=(
            *("-c", "from mitmproxy.tools.main import mitmdump; mitmdump()"),
            *("--quiet", "--mode", "reverse:{upstream}"),
            *("--listen-host", "127.0.0.1", "--listen-port", "{port}", "--set", "confdir={folder}"),
            *("--script", str(HERE / "mitmproxy_faults.py")),
        ),
        base_path="/openai/v1",
        environment="mitmproxy",
        behind=behind,
        azure=True,
    )


for _server in (
    _faulty("faulty_fakeai", SERVERS["fakeai"], RUN),
    _faulty("faulty_fastresponses", SERVERS["fastresponses"], RESPONSE),
):
    SERVERS[_server.name] = _server

#: Background responses with a language model behind them, whose server ``LLM_URL`` names.
LLM_FRONT = Server(
    name="fastresponses",
    title="fastresponses 0.1.0 with a language model",
    apis=(RESPONSE,),
    command=_fastresponses("llm_agent.py"),
)


@contextmanager
def started(server: Server, **env: str) -> Iterator[str]:
    """Run a server inside the block, with more in its environment; give its base URL."""
    if not server.command:
        with Simulator() as simulator:
            weather = (FunctionCall(name="weather", arguments={"city": "Paris"}),)
            simulator.script(
                Scenario(when="sleep=", in_progress=20, times=None),
                Scenario(when="rounds=5", function_calls=[weather] * 5, times=None),
                Scenario(when="JSON", text='{"sky": "blue"}', times=None),
            )
            yield simulator.base_url
        return
    if server.behind is not None and "UPSTREAM" not in env:
        with started(server.behind) as url:
            upstream = urlsplit(url)
            environment = {"UPSTREAM": f"http://{upstream.netloc}", "UPSTREAM_PATH": upstream.path}
            with started(server, **environment) as front:
                yield front
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"conformance-{server.name}-") as folder:
        places = {"port": port, "folder": folder, "upstream": env.get("UPSTREAM", "")}
        words = [word.format(**places) for word in server.command]
        process = Process(
            server.name,
            [str(server.python), *words],
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "PYTHONUNBUFFERED": "1", **env},
            log=Path(folder) / "log.txt",
            cwd=Path(folder),
        )
        try:
            process.start()
            wait_until_it_answers(process, f"http://127.0.0.1:{port}{server.ready}")
            yield f"http://127.0.0.1:{port}{server.base_path}"
        finally:
            stop([process])


def wait_until_it_answers(process: Process, url: str) -> None:
    """Wait until it answers anything at all: these servers have no health check in common."""
    deadline = time.monotonic() + _SECONDS_TO_START
    while True:
        process.check()
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own address
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                return
            failure: OSError = error
        except OSError as error:
            failure = error
        else:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.name} does not answer: {failure}\n{process.tail()}") from failure
        time.sleep(0.2)
