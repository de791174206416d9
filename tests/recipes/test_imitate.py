"""`recipe imitate`: the LLM's own answers with their alternatives, the same after a kill; nothing unfit is used."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.data.chat import chat_prompt
from voicegraft.data.listening_tasks import ListeningTask, load_tasks, prompt_of
from voicegraft.data.responses import Response, block_file, read_responses
from voicegraft.recipes import imitate as recipe
from voicegraft.recipes.imitate import ImitateConfig, imitate, judge
from voicegraft.teachers.answers import Answer, LocalAnswerer, RemoteAnswerer

ASKED = [[Message.user(text)] for text in ("Is it late?", "Where do the owls of my house go, and why now?", "We see.")]


def test_a_local_answer_is_greedy_and_its_alternatives_are_the_models() -> None:
    """Of a batch of prompts of unlike lengths, against one full forward for each."""
    backbone, tokenizer = tiny.llama(), tiny.byte_tokenizer()
    answers = LocalAnswerer(backbone, tokenizer, "tiny").answer(ASKED, 6, 5)
    for messages, answer in zip(ASKED, answers, strict=True):
        prompt = chat_prompt(tokenizer, messages)
        with torch.no_grad():
            logits = backbone(torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
        wanted = logits.log_softmax(-1).topk(5)
        assert answer.top_ids is not None and answer.top_logprobs is not None
        assert answer.ids == wanted.indices[:, 0].tolist() and answer.ended == (answer.ids[-1] in (1, 203))
        np.testing.assert_array_equal(answer.top_ids, wanted.indices.numpy())
        np.testing.assert_allclose(answer.top_logprobs, wanted.values.numpy(), atol=5e-3)


class _Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[dict[str, Any]]] = []
    busy = 1  # requests that are turned away first

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).busy -= 1
        if self.busy >= 0:
            return self.send_error(503)
        self.asked.append(request)
        steps = [
            {"token": char, "top_logprobs": [{"token": char, "logprob": -0.5}, {"token": "?!", "logprob": -1.0}]}
            for char in "Yes."
        ]
        choice = {"message": {"content": "Yes."}, "finish_reason": "stop", "logprobs": {"content": steps}}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Server) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()
        thread.join()


def test_a_server_answers_in_the_backbones_tokens(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tokenizer = tiny.byte_tokenizer()
    (answer,) = RemoteAnswerer(server, "big", tokenizer, parallel=1).answer([[Message.user("Late?")]], 8, 2)
    assert answer.text == "Yes." and tokenizer.decode(answer.ids) == "Yes.\n" and answer.ended
    assert answer.top_ids is not None and answer.top_logprobs is not None
    assert answer.top_ids[:, 0].tolist() == answer.ids and answer.top_ids[:4, 1].tolist() == [-1] * 4
    np.testing.assert_allclose(np.exp(answer.top_logprobs[:, 0].astype(float)), [*[np.exp(-0.5)] * 4, 1], atol=1e-3)
    assert _Server.asked[-1]["temperature"] == 0 and _Server.asked[-1]["messages"][0]["content"] == "Late?"
    with pytest.raises(VoicegraftError, match="does not answer"):
        RemoteAnswerer("http://127.0.0.1:9/v1", "big", tokenizer).answer(ASKED, 8, 0)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("A walk in the park.", ""),
        (" \n.", "empty"),
        ("I'm sorry, but I can't assist with that.", "apology"),
        ("As an AI I have no house.", "apology"),
        ("the owl and the owl and the owl and the owl", "endless"),
        ("Yes\nYes\nYes\nYes", "endless"),
    ],
)
def test_unfit_answers_are_told_from_fit_ones(reply: str, reason: str) -> None:
    task = ListeningTask(("{audio}",), name="answer")
    assert judge(Response("answer", "{audio}", "We see.", ""), Answer(reply, [5], True), task).reason == reason


def test_who_repeats_an_apology_does_not_apologise() -> None:
    row = Response("repeat", "{audio}", "I'm sorry, he said.", "")
    assert not judge(row, Answer("I'm sorry, he said.", [5], True), ListeningTask(("{audio}",))).reason


@pytest.mark.parametrize(
    ("reply", "wording", "answer", "reason"),
    [
        ('Here: {"question": "Who?", "answer": "An owl"}', "Who?\n{audio}", "An owl", ""),
        ("None.", "{audio}", "None.", "none"),
        ('{"question": "Who?"}', "{audio}", '{"question": "Who?"}', "not_json"),
        ("Who? An owl.", "{audio}", "Who? An owl.", "not_json"),
    ],
)
def test_a_made_up_question_becomes_the_wording(reply: str, wording: str, answer: str, reason: str) -> None:
    task = ListeningTask(("{audio}",), form="qa")
    row = judge(Response("spoken_qa", "{audio}", "The owl sees.", ""), Answer(reply, [5], True), task)
    assert (row.wording, row.reply, row.reason) == (wording, answer, reason)


def test_the_packaged_tasks_are_sound() -> None:
    tasks = load_tasks()
    wordings = [wording for task in tasks.values() for wording in (*task.trained, *task.held_out)]
    assert len({*wordings}) == len(wordings)
    assert any(task.small and not task.trained for task in tasks.values()), "a task that a small LLM is tested on alone"
    assert next(message.text for message in prompt_of(tasks["topic"].trained[0], "We see.")).endswith("\nWe see.")
    with pytest.raises(VoicegraftError, match=r"no task sing; it has topic"):
        load_tasks(names=["sing"])


def test_a_wording_has_one_place_for_the_audio() -> None:
    for wrong in ("Repeat.", "{audio}\n{audio}", "Text: {audio}"):
        with pytest.raises(ValueError, match="on a line of its own"):
            ListeningTask((wrong,))


@pytest.fixture
def config(tmp_path: Path) -> ImitateConfig:
    tiny.write_backbone(tmp_path / "backbone")
    lines = [f"Does owl {number} see my house?" if number % 3 else f"Owl {number} goes home." for number in range(30)]
    (tmp_path / "lines.txt").write_text("\n".join([*lines, "Too short.", "The birch canoe slid on the smooth planks."]))
    return ImitateConfig(
        work=str(tmp_path),
        texts=(tmp_path / "lines.txt",),
        max_tokens=4,
        top_k=3,
        licence="CC0",
        licences={"lines.txt:1": "own"},
        device="cpu",
    )


def rows_of(config: ImitateConfig) -> list[Any]:
    pairs = read_responses(Path(config.out or Path(config.work) / "imitation"), kept=False)
    return [(r, t.ids.tolist(), t.top_ids.tolist(), t.top_logprobs.tolist()) for r, t in pairs]


def test_a_killed_run_goes_on_and_a_higher_limit_only_adds(
    config: ImitateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "BLOCK", 16)
    work = Path(config.work)
    imitate(replace(config, out=str(work / "whole")))
    whole = rows_of(replace(config, out=str(work / "whole")))
    imitate(replace(config, limit=20))
    assert rows_of(config) == whole[:32]
    block_file(work / "imitation", 0).unlink()
    imitate(config)
    assert rows_of(config) == whole and len(whole) > 60
    texts = {row.text for row, *_ in whole}
    assert len(texts) == 30 and all(row.writer == "backbone" for row, *_ in whole)
    assert {row.licence for row, *_ in whole if row.origin == "lines.txt:1"} == {"own"}
    assert {row.licence for row, *_ in whole if row.origin == "lines.txt:5"} == {"CC0"}
    assert all(row.text.endswith("?") for row, *_ in whole if row.task == "answer")
    splits = [row.split for row, *_ in whole]
    assert splits == sorted(splits, reverse=True) and {*splits} == {"train", "val"}, "held back ones come first"
    with pytest.raises(VoicegraftError, match="top_k was 3, now 2"):
        imitate(replace(config, top_k=2))
    assert "| topic |" in (work / "imitation" / "README.md").read_text()
