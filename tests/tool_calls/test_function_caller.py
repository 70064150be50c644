# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred, mask_secret
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.tool_calls.function_caller import (
    MAX_OUTPUT_BYTES,
    CallAnswer,
    FunctionCaller,
    OutOfTimeError,
)
from airflow_provider_openai_runs.typed.text import clean

region = contextvars.ContextVar("region", default="nowhere")


class Row(BaseModel):
    day: date


@dataclass
class Point:
    x: int


class Color(str, Enum):  # noqa: UP042 # unlike StrEnum, it shows itself as Color.RED
    RED = "red"


class TaskKilledError(BaseException):
    """What Airflow raises in the main thread."""


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {self.format(record)}")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def caller(log: Log) -> Callable[..., FunctionCaller]:
    logger: Any = logging.Logger("task")  # noqa: LOG001 # of its own, so that nothing else hears
    logger.addHandler(log)

    def make(*functions: Callable[..., Any], **arguments: Any) -> FunctionCaller:
        return FunctionCaller(functions, context={"ds": "2026-11-22"}, log=logger, **arguments)

    return make


@pytest.fixture
def hanging() -> Iterator[Callable[[], str]]:
    """Give a function that hangs until the test is over."""
    released = threading.Event()

    def hang() -> str:
        released.wait(30)
        return "late"

    yield hang
    released.set()


def _call(name: str, arguments: str = "", *, call_id: str = "call_1") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


def _returning(result: Any) -> Callable[[], Any]:
    def give() -> Any:
        return result

    return give


def _raising(error: BaseException) -> Callable[[], Any]:
    def give() -> Any:
        raise error

    return give


def _deferring() -> TaskDeferred:
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger  # noqa: PLC0415

    moment = datetime(2027, 1, 1, tzinfo=UTC)
    return TaskDeferred(trigger=DateTimeTrigger(moment=moment), method_name="execute_complete")


def double(number: int) -> int:
    return 2 * number


def test_calls_are_answered_in_order_under_their_ids(caller: Callable[..., FunctionCaller]) -> None:
    observed: list[str] = []

    def note(word: str, context: Any, call_id: str) -> str:
        observed.append(word)
        return f"{word} {context['ds']} {call_id}"

    calls = [_call("note", json.dumps({"word": word}), call_id=f"call_{word}") for word in "cab"]
    answers = [caller(note).answer(call) for call in calls]

    assert observed == ["c", "a", "b"]
    assert answers[0] == CallAnswer(call_id="call_c", name="note", text="c 2026-11-22 call_c")
    assert [answer.call_id for answer in answers] == ["call_c", "call_a", "call_b"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain text", "plain text"),
        ("", ""),
        ("nul\0and half\ud800", "nul\ufffdand half\ufffd"),
        (None, "null"),
        (3.5, "3.5"),
        (float("nan"), "null"),
        ({"day": date(2026, 11, 22)}, '{"day":"2026-11-22"}'),
        (Row(day=date(2026, 11, 22)), '{"day":"2026-11-22"}'),
        ([Point(x=1)], '[{"x":1}]'),
        ((n for n in range(3)), "[0,1,2]"),
        ({"what": logging.INFO, "who": pytest.raises}, f'{{"what":20,"who":"{pytest.raises}"}}'),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)) or "empty",  # the same in every process
)
def test_a_result_is_sent_as_text_or_json(
    caller: Callable[..., FunctionCaller], result: Any, text: str
) -> None:
    answer = caller(_returning(result)).answer(_call("give"))
    assert (answer.text, answer.error) == (text, None)


def test_rows_of_a_database_are_sent_as_objects(caller: Callable[..., FunctionCaller]) -> None:
    def rows() -> list[sqlite3.Row]:
        connection = sqlite3.connect(":memory:")
        connection.row_factory = sqlite3.Row
        found = connection.execute("select 1 as a, 'x' as b").fetchall()
        connection.close()
        return found

    assert caller(rows).answer(_call("rows")).text == '[{"a":1,"b":"x"}]'


def test_all_calls_run_in_one_thread_beside_the_main_one(caller: Callable[..., FunctionCaller]) -> None:
    kept: list[sqlite3.Connection] = []

    def count() -> int:
        if not kept:
            kept.append(sqlite3.connect(":memory:"))
            kept[0].execute("create table visits (at)")
        kept[0].execute("insert into visits values (1)")
        return int(kept[0].execute("select count(*) from visits").fetchone()[0])

    def close() -> str:
        kept.pop().close()  # SQLite refuses this in any other thread
        return threading.current_thread().name

    found = caller(count, close)
    first = [found.answer(_call("count")), found.answer(_call("count"))]
    second = [found.answer(_call("count")), found.answer(_call("close"))]

    assert [answer.text for answer in first + second][:3] == ["1", "2", "3"]
    assert second[1].text == "openai-run-functions"


def test_the_thread_ends_with_the_caller(caller: Callable[..., FunctionCaller]) -> None:
    threads: list[threading.Thread] = []

    def note() -> None:
        threads.append(threading.current_thread())

    found = caller(note)
    found.answer(_call("note"))
    assert threads[0].daemon
    assert threads[0].is_alive()
    del found
    gc.collect()
    threads[0].join(60)
    assert not threads[0].is_alive()


def test_context_variables_of_the_task_are_there(caller: Callable[..., FunctionCaller]) -> None:
    def where() -> str:
        return region.get()

    token = region.set("eu")
    try:
        assert caller(where).answer(_call("where")).text == "eu"
    finally:
        region.reset(token)


def test_arguments_that_a_person_has_edited_count(caller: Callable[..., FunctionCaller]) -> None:
    calls = [_call("double", '{"number": 1}', call_id=f"call_{n}") for n in range(3)]
    edited = {"call_1": {"number": 21}, "call_2": {"numbers": 1}}
    functions = caller(double)
    answers = [functions.answer(call, arguments=edited.get(call.id)) for call in calls]
    assert [answer.text for answer in answers[:2]] == ["2", "42"]
    assert "not permitted" in (answers[2].error or "")


@pytest.mark.parametrize(
    ("function", "call", "error"),
    [
        (double, _call("triple"), "There is no function 'triple'. There are: double, _named_after."),
        (double, _call("double", '{"number": "x"}'), "Bad arguments: Input should be a valid integer"),
        (double, _call("double", '{"number": '), "Bad arguments: Invalid JSON"),
        (_raising(ValueError("no such table")), _call("give"), "ValueError: no such table"),
        (_raising(ValueError("a\nb " * 1000)), _call("give"), "ValueError: a b a b"),
        (_raising(SpeechlessError()), _call("give"), "SpeechlessError: <SpeechlessError>"),
        (_raising(RuntimeError("api_key=abc123def")), _call("give"), "RuntimeError: api_key=***"),
        (
            _returning("x" * (MAX_OUTPUT_BYTES + 1)),
            _call("give"),
            "The result of give has 512001 bytes; at most 512000",
        ),
        (_returning("é" * (MAX_OUTPUT_BYTES // 2 + 1)), _call("give"), "The result of give has 512002 bytes"),
        (_raising(asyncio.CancelledError("cut off")), _call("give"), "CancelledError: cut off"),
        (_raising(_deferring()), _call("give"), "give tried to defer, which a function cannot"),
    ],
)
def test_what_goes_wrong_is_sent_to_the_model_in_one_short_line(
    caller: Callable[..., FunctionCaller], function: Callable[..., Any], call: ToolCall, error: str
) -> None:
    functions = caller(function, _named_after)
    failed, after = functions.answer(call), functions.answer(_call("_named_after"))

    assert (failed.error or "").startswith(error)
    assert failed.text == f"Error: {failed.error}"
    assert len(failed.error or "") <= 500
    assert "Traceback" not in failed.text
    assert after.text == "still here"


def _named_after() -> str:
    return "still here"


def test_a_result_of_the_largest_size_is_sent(caller: Callable[..., FunctionCaller]) -> None:
    answer = caller(_returning("x" * MAX_OUTPUT_BYTES)).answer(_call("give"))
    assert answer.error is None


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("it does not say")


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _family() -> dict[str, Any]:
    root: dict[str, Any] = {"children": []}
    root["children"] += [{"parent": root, "all": root["children"]} for _ in range(30)]
    return root


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (b"\xff", '"\\ufffd"'),
        ({"t": "\ud800", 5: b"\xffa"}, '{"t": "\\ufffd", "5": "\\ufffda"}'),
        ([Mute(), date(2026, 1, 2)], '["<Mute>", "2026-01-02"]'),
        (Color.RED, "red"),
        ([Color.RED], '["red"]'),
        (_circle(), '["\\u2026"]'),
        (_family(), '{"children": [{"parent": "\\u2026"'),
    ],
)
def test_a_function_that_has_done_its_work_has_not_failed_for_its_result(
    caller: Callable[..., FunctionCaller], result: Any, text: str
) -> None:
    """A model that read of an error would have the work done once more."""
    answer = caller(_returning(result)).answer(_call("give"))
    assert answer.error is None
    assert answer.text.startswith(text)


def test_whatever_can_be_awaited_is(caller: Callable[..., FunctionCaller]) -> None:
    class Later:
        def __await__(self) -> Any:
            return asyncio.sleep(0, "there").__await__()

    def give() -> Any:
        return Later()

    assert caller(give).answer(_call("give")).text == "there"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_no_argument(caller: Callable[..., FunctionCaller], number: str) -> None:
    def pay(amount: float) -> float:
        return amount

    answer = caller(pay).answer(_call("pay", f'{{"amount": {number}}}'))
    assert (answer.error or "").startswith("Bad arguments")


def test_a_name_that_the_model_has_made_up_is_message_text(caller: Callable[..., FunctionCaller]) -> None:
    answer = caller(double).answer(_call("x" * 10_000 + "\napi_key=sk-abcdefghijkl"))
    assert len(answer.name) <= 500
    assert "\n" not in answer.name
    assert "sk-abc" not in f"{answer.name} {answer.error} {answer.text}"


def test_what_airflow_masks_is_masked_for_the_model_even_where_the_text_is_cut(
    caller: Callable[..., FunctionCaller],
) -> None:
    mask_secret("correcthorsebattery")
    error = ConnectionError("x" * 470 + " by correcthorsebattery refused")
    answer = caller(_raising(error)).answer(_call("give"))
    assert "correct" not in answer.text
    assert "***" in answer.text


def test_the_log_tells_names_ids_and_tracebacks_but_no_values(
    caller: Callable[..., FunctionCaller], log: Log
) -> None:
    def speak(word: str) -> str:
        if word == "swordfish":
            return word * 2
        raise KeyError(len(word))

    functions = caller(speak)
    functions.answer(_call("speak", '{"word": "swordfish"}', call_id="call_good"))
    functions.answer(_call("speak", '{"word": "open sesame"}', call_id="call_bad"))

    good, bad, traceback = log.lines[0], log.lines[2], log.lines[1]
    assert good.startswith("INFO Call call_good of speak answered after ")
    assert bad.startswith("INFO Call call_bad of speak failed after ")
    assert traceback.startswith("WARNING Call call_bad: speak raised an error")
    assert "in speak" in traceback
    assert "KeyError: 11" in traceback
    assert "swordfish" not in "\n".join(line for line in log.lines if "raise" not in line)
    assert "sesame" not in "\n".join(log.lines)


@given(name=st.text(), arguments=st.text() | st.dictionaries(st.text(), st.integers()).map(json.dumps))
def test_no_call_of_a_model_ends_the_task(name: str, arguments: str) -> None:
    logger: Any = logging.Logger("task")  # noqa: LOG001
    found = FunctionCaller([double], context={}, log=logger)
    for call in (_call(name, arguments), _call("double", arguments)):
        answer = found.answer(call)
        assert (answer.call_id, answer.name) == ("call_1", clean(call.name))


def test_a_function_that_exits_ends_the_task(caller: Callable[..., FunctionCaller]) -> None:
    def leave() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit):
        caller(leave).answer(_call("leave"))


def test_a_function_that_takes_too_long_is_left_behind_and_named(
    caller: Callable[..., FunctionCaller], hanging: Callable[[], str]
) -> None:
    found = caller(hanging, double)
    calls = [_call("double", '{"number": 1}', call_id="call_1"), _call("hang", call_id="call_2")]

    with pytest.raises(
        OutOfTimeError, match=r"call_2 .*hang was still running; a thread cannot be killed"
    ) as raised:
        assert [found.answer(call, until=time.time() + 0.5) for call in calls]

    assert raised.value.call == calls[1]
    # The one that hangs is not in its way.
    assert found.answer(calls[0], until=time.time() + 60).text == "2"


def test_a_function_is_not_started_when_time_is_over(caller: Callable[..., FunctionCaller]) -> None:
    started: list[int] = []

    with pytest.raises(OutOfTimeError, match=r"call_1 .*append could not start"):
        caller(_appending(started)).answer(_call("append"), until=time.time() - 1)
    assert not started


def _appending(found: list[int]) -> Callable[[], None]:
    def append() -> None:
        found.append(1)

    return append


def test_a_killed_task_does_not_wait_for_its_function(
    caller: Callable[..., FunctionCaller], hanging: Callable[[], str]
) -> None:
    polls: list[int] = []

    def check() -> None:
        polls.append(1)
        if len(polls) > 2:
            raise TaskKilledError

    with pytest.raises(TaskKilledError):
        caller(hanging, check=check).answer(_call("hang"))


def test_a_task_that_was_killed_starts_no_function(caller: Callable[..., FunctionCaller]) -> None:
    started: list[int] = []
    with pytest.raises(TaskKilledError):
        caller(_appending(started), check=_raising(TaskKilledError())).answer(_call("append"))
    assert not started


def test_what_airflow_raises_in_the_main_thread_ends_the_wait_untouched(
    caller: Callable[..., FunctionCaller], hanging: Callable[[], str]
) -> None:
    def on_alarm(*_: Any) -> None:
        raise TaskKilledError

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TaskKilledError):
            caller(hanging).answer(_call("hang"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
