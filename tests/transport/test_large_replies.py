# SPDX-License-Identifier: Apache-2.0
"""A run that has ended may be larger than a poll reads: its status counts, and its result arrives."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_openai_runs.exceptions import RunCallError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.runs.inline import inline_content
from airflow_provider_openai_runs.transport import limits, long_strings
from airflow_provider_openai_runs.transport.limits import Intake
from airflow_provider_openai_runs.transport.long_strings import LongStrings
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer, reply

REF = {"kind": "response", "id": "resp_1", "conn_id": "scripted"}
PNG = b"\x89PNG\r\n\x1a\n"
KIB, MIB = 1024, 1024 * 1024


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make large what is quick to send."""
    monkeypatch.setattr(limits, "MAX_BODY", 64 * KIB)
    monkeypatch.setattr(limits, "MAX_ENDED", 4 * MIB)
    monkeypatch.setattr(long_strings, "KEPT_OF_BASE64", 20 * KIB)


def picture(size: int) -> dict[str, Any]:
    result = base64.b64encode(PNG + b"\0" * (size - len(PNG))).decode()
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": result}


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text, "annotations": []}]}


def body(*output: Any, status: str = "completed") -> bytes:
    data = {"id": "resp_1", "object": "response", "status": status, "output": output, "tools": []}
    return json.dumps(data).encode()


def serve(server: ScriptedServer, found: bytes, *headers: str) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return reply(b'{"id": "resp_1", "status": "queued"}')
        return reply(found, *headers)

    server.play(answer)


@pytest.fixture
def ask(scene: Scene) -> Callable[..., dict[str, Any]]:
    def run(**arguments: Any) -> dict[str, Any]:
        given = {
            "task_id": "ask",
            "conn_id": "scripted",
            "model": "m",
            "input": "Draw.",
            "poll_interval": 0.01,
        }
        result: dict[str, Any] = scene.run(
            CreateResponseOperator(**{**given, "completion_window": 30, **arguments})
        )
        return result

    return run


def reads_of(server: ScriptedServer) -> int:
    return sum(asked.method == "GET" for asked in server.asked)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_result_with_a_large_picture_arrives_after_one_poll_and_one_read(
    scripted: ScriptedServer, ask: Callable[..., dict[str, Any]], *, deferrable: bool, packed: bool
) -> None:
    found = body(message("Before. "), picture(500_000), picture(300_000), message("And after."))
    serve(
        scripted, gzip.compress(found) if packed else found, *(["Content-Encoding: gzip"] if packed else [])
    )
    result = ask(deferrable=deferrable)
    assert (result["status"], result["output_text"]) == ("completed", "Before. And after.")
    assert [file["media_type"] for file in result["files"]] == ["image/png", "image/png"]
    sizes = [file["size"] for file in result["files"]]
    assert sizes == pytest.approx([500_000, 300_000], abs=2)  # the end that says how it is padded is not read
    assert reads_of(scripted) == 2


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_result_beyond_the_limit_says_that_the_run_has_ended(
    scripted: ScriptedServer, ask: Callable[..., dict[str, Any]], *, deferrable: bool
) -> None:
    serve(scripted, body(picture(5 * MIB)))
    with pytest.raises(RunCallError) as failed:
        ask(deferrable=deferrable)
    text = str(failed.value)
    assert "more than 4194304 bytes" in text
    assert "has ended" in text
    assert "output_path" in text
    assert "may be" not in text
    assert reads_of(scripted) == 2


def test_text_is_never_left_out(scripted: ScriptedServer, ask: Callable[..., dict[str, Any]]) -> None:
    words = "All of these words count. " * 3_000
    serve(scripted, body(message(words)))
    assert ask()["output_text"] == words
    serve(scripted, body(message(words * 10)))
    with pytest.raises(RunCallError, match="has ended"):
        ask()


def test_a_run_that_goes_on_is_polled_again_however_much_it_has_written(
    scripted: ScriptedServer, ask: Callable[..., dict[str, Any]]
) -> None:
    states = iter(["in_progress", "in_progress"])

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return reply(b'{"id": "resp_1", "status": "queued"}')
        return reply(body(picture(200_000), status=next(states, "completed")))

    scripted.play(answer)
    assert ask()["status"] == "completed"
    assert reads_of(scripted) == 4


@pytest.mark.parametrize("found", [b'{"output": ["' + b"x" * 200_000, b"[" * 200_000, b" " * 200_000])
def test_what_does_not_begin_like_an_ended_run_is_given_up_at_the_limit_of_a_poll(
    scripted: ScriptedServer, scene: Scene, found: bytes
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    hook = OpenAIRunsHook("scripted", sleep=lambda _: None)
    answers = iter([found, body(message("Yes."))])
    scripted.play(lambda _: reply(next(answers)))
    assert hook.retrieve(REF).output_text == "Yes."


def test_a_read_holds_little_of_a_large_picture(
    scripted: ScriptedServer, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 - Airflow is set up by then

    monkeypatch.setattr(limits, "MAX_ENDED", 16 * MIB)

    def pieces() -> Iterator[bytes]:
        head = b'{"id": "resp_1", "status": "completed", '
        head += b'"output": [{"type": "image_generation_call", "result": "'
        tail = b'"}]}'
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(head) + 10 * MIB + len(tail)) + head
        for _ in range(10):
            yield b"A" * MIB
        yield tail

    scripted.play(lambda _: pieces())
    hook = OpenAIRunsHook("scripted")
    hook.conn  # noqa: B018 - to build a client takes memory, too
    tracemalloc.start()
    try:
        run = hook.retrieve(REF)
        run_too = asyncio.run(hook.aretrieve(REF))
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert [file.size for file in (*run.files, *run_too.files)] == [10 * MIB * 3 // 4] * 2
    assert run.files[0].data is None
    assert peak < 10 * MIB


TEXTS = (
    st.text(max_size=40)
    | st.integers(0, 200).map(lambda size: "Az9+/" * size)
    | st.text(min_size=1, max_size=5).map(lambda text: 100 * text)
    | st.integers(1, 9).map(lambda lines: "\r\n".join(["Az9+/" * 15] * lines))
    | st.lists(st.sampled_from(["word", "\n", "中", "\U00010000", "A/"]), max_size=99).map("".join)
)


@settings(max_examples=2 * settings().max_examples)
@given(
    data=st.lists(
        TEXTS | st.integers() | st.dictionaries(st.text(max_size=9), TEXTS, max_size=3), max_size=5
    ),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
    escapes=st.booleans(),
    kept=st.integers(0, 2000),
)
@example(data=["0" * 11 + "\x1f" * 6 + "\x07" * 2 + "\U00010000" * 5], cuts=[], escapes=True, kept=0)
def test_only_long_base64_is_left_out_and_how_much_is_said(
    data: Any, cuts: list[int], kept: int, *, escapes: bool
) -> None:
    written = json.dumps(data, ensure_ascii=escapes).encode(errors="replace")
    if escapes:
        written = written.replace(b"/", b"\\/")
    places = sorted({0, len(written), *(min(cut, len(written)) for cut in cuts)})
    pieces = [written[start:end] for start, end in pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_strings, "KEPT_OF_BASE64", 100)
        patch.setattr(long_strings, "_HEAD", 30)
        strings = LongStrings()
        begins = min(kept, len(pieces))
        first = pieces[:begins]
        for piece in first:
            strings.take(piece)
        strings.leave_out()
        found = b"".join([*first, *(strings.take(piece) for piece in pieces[begins:])])
    alike(json.loads(found), json.loads(written))


def alike(found: Any, written: Any) -> None:
    """Check that only base64 differs, and is as large as it was."""
    if isinstance(written, str) and found != written:
        content = inline_content(found)
        assert content is not None
        assert len(written) > 100
        assert abs(content.size - len(written) * 3 // 4) <= 3
        assert not content.is_whole
    elif isinstance(written, list):
        assert len(found) == len(written)
        for one, other in zip(found, written, strict=True):
            alike(one, other)
    elif isinstance(written, dict):
        assert list(found) == list(written)
        alike(list(found.values()), list(written.values()))
    else:
        assert found == written


def test_an_error_and_a_poll_are_cut_at_their_limits() -> None:
    large = body(picture(200_000))
    assert len(b"".join(Intake(is_error=False, coding=None, head_is_enough=True).take(large))) == 64 * KIB
    assert len(b"".join(Intake(is_error=True, coding=None).take(large))) == limits.MAX_ERROR
