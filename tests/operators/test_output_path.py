# SPDX-License-Identifier: Apache-2.0
"""What a task writes to ``output_path``, and what that does to its retries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_openai_runs.attempts import output_files
from airflow_provider_openai_runs.exceptions import RunRequestError, RunStorageError
from airflow_provider_openai_runs.operators import (
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.operators.end_from_trigger import end_of
from airflow_provider_openai_runs.simulator import (
    CodeInterpreter,
    Fault,
    FileSearch,
    FoundFile,
    FunctionCall,
    ImageGeneration,
    ProducedFile,
    Scenario,
)
from tests.support.scene import Make, Scene

CSV = ProducedFile(name="../../etc/table of 1.csv", text="a,b\n1,2\n")
CODE = CodeInterpreter(files=[CSV, ProducedFile(name="chart.png", size=200_000)])
PNG = b"\x89PNG\r\n"


def produces(scene: Scene, *output: Any, **more: Any) -> None:
    given = {"queued": 0, "in_progress": 0.05, "output": output, "times": None, **more}
    scene.simulator.script(Scenario(**given))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def reply_of(scene: Scene, run_id: str) -> bytes:
    headers = {"Authorization": "Bearer another-key"}
    return scene.http.get(f"{scene.simulator.base_url}/responses/{run_id}", headers=headers).content


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_response_leaves_its_body_and_its_files_in_a_folder_of_its_own(
    scene: Scene, respond: Make, tmp_path: Path, deferrable: bool
) -> None:
    produces(scene, ImageGeneration(size=300_000), CODE)
    context = scene.context_of(run_id="manual__2026-11-21T00:00:00+00:00", map_index=3)
    result = scene.run(respond(output_path=f"file://{tmp_path}", deferrable=deferrable), context)

    folder = tmp_path / "a_dag" / "manual__2026-11-21T00=3A00=3A00=2B00=3A00" / "ask" / "3" / result["id"]
    assert result["reply_uri"] == f"file://{folder}/reply.json"
    assert (folder / "reply.json").read_bytes() == reply_of(scene, result["id"])
    picture, table, chart = (Path(file["uri"].removeprefix("file://")) for file in result["files"])
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size == result["files"][0]["size"] == 300_000
    assert table.read_text() == "a,b\n1,2\n"
    assert chart.stat().st_size == 200_000
    assert files_in(tmp_path) == {
        str(path.relative_to(tmp_path)) for path in (folder / "reply.json", picture, table, chart)
    }
    assert result["output_uri"] is None
    assert result["output_text"]


def test_what_lies_in_a_file_is_not_held_in_the_result(scene: Scene, respond: Make, tmp_path: Path) -> None:
    produces(scene, ImageGeneration(size=300_000))
    result = scene.run(respond(output_path=str(tmp_path)))
    assert len(json.dumps(result)) < 10_000
    assert result["steps"][0]["details"]["result"] == "400000 characters, in reply.json"
    assert result["steps_truncated"] is True


def test_a_thread_run_leaves_run_messages_and_steps_as_they_came(
    scene: Scene, run_on: Make, tmp_path: Path
) -> None:
    produces(
        scene, FileSearch(found=[FoundFile(name="f.txt", text="A passage.")]), CODE, text="Answer \U0001f600."
    )
    result = scene.run(run_on(output_path=f"file://{tmp_path}"))

    whole = json.loads(Path(result["reply_uri"].removeprefix("file://")).read_text())
    assert set(whole) == {"run", "messages", "steps"}
    assert whole["run"]["id"] == result["id"]
    assert [message["run_id"] for message in whole["messages"]] == [result["id"]]
    assert [step["id"] for step in whole["steps"]] == [step["id"] for step in result["steps"]]
    written = [Path(file["uri"].removeprefix("file://")) for file in result["files"]]
    assert {path.stat().st_size for path in written} == {len("a,b\n1,2\n"), 200_000}


def test_names_of_strangers_lead_nowhere_else(scene: Scene, respond: Make, tmp_path: Path) -> None:
    names = [
        "../../../x.csv",
        "a\\..\\b.csv",
        "..",
        "reply.json",
        "n" * 400 + ".csv",
        "ü \n:+.csv",
        ".hidden",
    ]
    files = [ProducedFile(name=f"{number}/{name}", text=name) for number, name in enumerate(names)]
    produces(scene, CodeInterpreter(files=files))
    result = scene.run(respond(output_path=str(tmp_path / "out")))

    root = tmp_path / "out" / "a_dag" / "manual__2026-11-21" / "ask" / result["id"]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in root.iterdir()} == {"reply.json", "files"}
    assert sorted(Path(file["uri"]).read_text() for file in result["files"]) == sorted(names)
    assert all(len(part) <= 150 for file in files_in(root) for part in Path(file).parts)


def test_a_retry_after_a_failing_storage_writes_the_files_of_the_same_run(
    scene: Scene, create: Make, tmp_path: Path
) -> None:
    produces(scene, CODE)
    path = tmp_path / "out"
    operator = create(output_path=str(path))
    (tmp_path / "out").mkdir()
    (path / "a_dag").write_text("in the way")
    with pytest.raises(RunStorageError, match="A retry goes on with the same run") as failed:
        scene.run(operator, scene.kept)
    assert isinstance(failed.value, AirflowException)
    assert not isinstance(failed.value, AirflowFailException)
    pushed = scene.kept["ti"].xcoms["return_value"]
    assert (pushed["status"], pushed["reply_uri"]) == ("completed", None)

    (path / "a_dag").unlink()
    result = scene.run(operator, scene.retry(scene.kept))
    assert result["id"] == pushed["id"]
    assert Path(result["reply_uri"]).exists()
    assert scene.creates() == 1


def test_an_incomplete_answer_that_is_accepted_is_not_paid_for_again(
    scene: Scene, respond: Make, tmp_path: Path
) -> None:
    produces(scene, ends="incomplete", incomplete_reason="max_output_tokens")
    operator = respond(output_path=str(tmp_path / "out"), on_incomplete="accept")
    (tmp_path / "out" / "a_dag").mkdir(parents=True)
    (tmp_path / "out" / "a_dag" / "manual__2026-11-21").write_text("in the way")
    with pytest.raises(RunStorageError):
        scene.run(operator, scene.kept)
    (tmp_path / "out" / "a_dag" / "manual__2026-11-21").unlink()
    assert scene.run(operator, scene.retry(scene.kept))["status"] == "incomplete"
    assert scene.creates() == 1


def test_a_clear_writes_into_another_folder(scene: Scene, respond: Make, tmp_path: Path) -> None:
    produces(scene, CODE)
    operator = respond(output_path=str(tmp_path))
    first = scene.run(operator, scene.kept)
    before = files_in(tmp_path)
    second = scene.run(operator, scene.clear(scene.kept))
    assert first["id"] != second["id"]
    assert files_in(tmp_path) > before
    assert len(files_in(tmp_path)) == 2 * len(before)


def test_each_response_of_a_chain_has_its_folder(scene: Scene, respond: Make, tmp_path: Path) -> None:
    def add(number: int) -> int:
        """Add one."""
        return number + 1

    call = FunctionCall(name="add", arguments={"number": 1})
    scene.simulator.script(Scenario(queued=0, in_progress=0, function_calls=[[call]], output=[CODE]))
    result = scene.run(respond(output_path=str(tmp_path), functions=[add]))

    runs = tmp_path / "a_dag" / "manual__2026-11-21" / "ask"
    assert {path.name for path in runs.iterdir()} == set(result["raw"]["response_ids"])
    assert len(result["raw"]["response_ids"]) == 2
    assert all((runs / name / "reply.json").exists() for name in result["raw"]["response_ids"])
    assert result["reply_uri"] == str(runs / result["id"] / "reply.json")


def test_outputs_that_another_task_submits_lead_to_its_own_folder(
    scene: Scene, respond: Make, tmp_path: Path
) -> None:
    call = FunctionCall(name="add", arguments={})
    tool = {"type": "function", "name": "add"}
    scene.simulator.script(Scenario(queued=0, in_progress=0, function_calls=[[call]]))
    asked = scene.run(respond(output_path=str(tmp_path), on_tool_calls="return", tools=[tool]))
    outputs = {asked["tool_calls"][0]["id"]: "3"}
    submit = SubmitToolOutputsOperator(
        task_id="answer",
        ref=asked["ref"],
        outputs=outputs,
        output_path=str(tmp_path),
        completion_window=30,
        poll_interval=0.05,
        deferrable=False,
    )
    result = scene.run(submit, scene.context_of(task_id="answer"))
    runs = tmp_path / "a_dag" / "manual__2026-11-21"
    assert (runs / "ask" / asked["id"] / "reply.json").exists()
    assert result["reply_uri"] == str(runs / "answer" / result["id"] / "reply.json")


def test_a_run_that_failed_leaves_what_it_has(scene: Scene, create: Make, tmp_path: Path) -> None:
    produces(scene, ends="failed", error={"code": "server_error", "message": "A bad day."})
    with pytest.raises(AirflowException, match="A bad day"):
        scene.run(create(output_path=str(tmp_path)))
    assert Path(scene.context["ti"].xcoms["return_value"]["reply_uri"]).exists()


def test_get_operators_write_what_they_read(
    scene: Scene, respond: Make, run_on: Make, tmp_path: Path
) -> None:
    produces(scene, CODE)
    response, run = scene.run(respond()), scene.run(run_on(), scene.context_of(task_id="run"))
    for kind, ref in ((GetResponseOperator, response["ref"]), (GetThreadRunOperator, run["ref"])):
        read = scene.run(
            kind(task_id="read", ref=ref, output_path=str(tmp_path)), scene.context_of(task_id="read")
        )
        assert Path(read["reply_uri"]).exists()
        assert all(Path(file["uri"]).exists() for file in read["files"])
        assert "steps" not in read


def test_a_get_operator_writes_nothing_of_a_run_that_goes_on(
    scene: Scene, respond: Make, tmp_path: Path
) -> None:
    scene.simulator.script(Scenario(in_progress=30))
    ref = scene.run(respond(completion_window=None))["ref"]
    read = scene.run(GetResponseOperator(task_id="read", ref=ref, output_path=str(tmp_path)))
    assert read["reply_uri"] is None
    assert files_in(tmp_path) == set()


def test_a_window_that_a_template_renders_to_nothing_lets_no_text_through(
    scene: Scene, respond: Make, tmp_path: Path
) -> None:
    task = respond(instructions="the secret order", output_path=tmp_path.as_uri(), text_in_xcom=0)
    task.completion_window = None  # as a native template may leave it
    with pytest.raises(RunRequestError, match="completion_window cannot be sent") as caught:
        scene.run(task)

    assert "secret" not in str(caught.value)
    assert scene.simulator.requests == []


@pytest.mark.parametrize("rendered", [None, "None", " "])
def test_a_path_that_was_given_and_renders_to_nothing_is_refused_and_keeps_no_silence(
    scene: Scene, respond: Make, tmp_path: Path, rendered: str | None
) -> None:
    task = respond(output_path=tmp_path.as_uri())
    task.output_path = rendered  # as Airflow puts there what an XComArg came to
    with pytest.raises(RunRequestError, match=r"output_path=.*rendered to nothing.*Nothing was sent"):
        scene.run(task)
    assert scene.simulator.requests == []


def test_a_gateway_that_keeps_nothing_is_not_asked_again(scene: Scene, respond: Make, tmp_path: Path) -> None:
    produces(scene, ImageGeneration(size=100), ignores_background=True)
    result = scene.run(respond(output_path=str(tmp_path)))
    assert json.loads(Path(result["reply_uri"]).read_text())["id"] == result["id"]
    assert Path(result["files"][0]["uri"]).read_bytes().startswith(PNG)
    assert scene.simulator.count("GET", "^/responses") == 0


def test_a_file_that_is_gone_is_left_out_and_said(scene: Scene, respond: Make, tmp_path: Path) -> None:
    produces(scene, CODE)
    operator = respond(output_path=str(tmp_path))
    lines = scene.log_of(operator)
    scene.simulator.fault(
        Fault(method="GET", path="/content$", status=404, times=None, message="No such File")
    )
    result = scene.run(operator)
    assert [file["uri"] for file in result["files"]] == [None, None]
    assert result["reply_uri"]
    assert sum("is left out" in line for line in lines) == 2


def test_a_bad_path_costs_nothing(scene: Scene, respond: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, error in (
        ("nowhere://x/y", RunRequestError),
        ("file://no_such_connection@/x", RunRequestError),
        ("out/here", RunRequestError),
        (str(tmp_path / "file" / "below"), RunStorageError),
    ):
        with pytest.raises(error, match="Nothing was"):
            scene.run(respond(output_path=path))
    assert scene.creates() == 0


def test_a_file_that_was_being_written_is_never_there_in_part(
    scene: Scene, respond: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    produces(scene, CODE)
    operator = respond(output_path=str(tmp_path))

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die)
        with pytest.raises(SystemExit):
            scene.run(operator, scene.kept)
    assert not [name for name in files_in(tmp_path) if not name.endswith(".part")]
    result = scene.run(operator, scene.retry(scene.kept))
    assert scene.creates() == 1
    assert not [name for name in files_in(tmp_path) if name.endswith(".part")]
    assert Path(result["reply_uri"]).exists()


def test_a_run_that_names_no_end_of_files_is_not_followed(
    scene: Scene, respond: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_files, "MAX_FILES", 2)
    produces(scene, CodeInterpreter(files=[ProducedFile(name=f"{n}.csv", text="x") for n in range(4)]))
    result = scene.run(respond(output_path=str(tmp_path)))
    assert [bool(file["uri"]) for file in result["files"]] == [True, True, False, False]


def test_the_triggerer_hands_over_to_a_worker(respond: Make) -> None:
    operator = respond(output_path="/x", end_from_trigger=True, deferrable=True)
    assert (
        end_of(operator, answers_calls=False, checks_output=False, includes=False, writes_files=True) is None
    )


@pytest.mark.parametrize("kind", [CreateResponseOperator, CreateRunOperator, SubmitToolOutputsOperator])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_path": "/x", "completion_window": None}, "output_path need"),
        ({"text_in_xcom": 0}, "needs output_path"),
        ({"text_in_xcom": 10}, "needs output_path"),
        ({"text_in_xcom": -1, "output_path": "/x"}, "text_in_xcom=-1"),
        ({"text_in_xcom": 0, "output_path": "/x", "approve": True}, "approve exclude"),
        ({"text_in_xcom": 0, "output_path": "/x", "on_tool_calls": "return"}, "'return' exclude"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_when_the_dag_is_parsed(
    kind: Any, arguments: dict[str, Any], message: str
) -> None:
    of_kind: dict[Any, dict[str, Any]] = {
        CreateResponseOperator: {"input": "x"},
        CreateRunOperator: {"assistant_id": "a", "thread_id": "t"},
        SubmitToolOutputsOperator: {"ref": {}, "outputs": {}},
    }
    needed = of_kind[kind]
    with pytest.raises(RunRequestError, match=message):
        kind(task_id="ask", **{"completion_window": 60, **needed, **arguments})


@pytest.mark.parametrize(
    "path", ["file://answers", "file://~/a@/b", "file://localhost/answers", "file://my@rel"]
)
def test_a_relative_path_is_refused_in_whatever_form_before_anything_is_sent(
    scene: Scene, create: Make, path: str
) -> None:
    with pytest.raises(RunRequestError, match=r"must be absolute, as in file:///folder.*Nothing was sent"):
        scene.run(create(output_path=path))
    assert scene.creates() == 0
