"""The forgetting report: what it counts, that it sees damage, and that it is a gate."""

import csv
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests import tiny
from tests.corpora import write_corpora
from voicegraft import cli
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode
from voicegraft.evaluation.tasks import harness
from voicegraft.evaluation.tasks.base import Measured, Subject
from voicegraft.evaluation.tasks.forgetting import compare, logit_difference, retention, same_answers
from voicegraft.evaluation.tasks.harness import PublicTask
from voicegraft.evaluation.tasks.routing import confusion
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.router import Router, RouterConfig, RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.recipes import evaluate_forgetting as recipe

SMALL = {
    "books_held_out": 0.1,
    "limit": 3,
    "num_dialogues": 4,
    "questions_per_kind": 3,
    "num_spoken": 6,
    "context": 64,
    "max_answer_tokens": 4,
    "device": "cpu",
}


def said(score: float, *answers: str, chance: float = 0.1, count: int = 200) -> Measured:
    return Measured("generated", score, chance, count, answers)


def perplexity(score: float) -> Measured:
    return Measured("perplexity", score, 258.0, 1000)


def test_retention_is_the_mean_over_tasks_and_gains_do_not_make_up_for_losses() -> None:
    before = {"a": said(0.8), "b": said(0.4), "c": perplexity(10.0)}
    after = {"a": said(0.4), "b": said(0.6), "c": perplexity(20.0)}
    rows = compare(before, after)
    assert [row.retained for row in rows] == pytest.approx([0.5, 1.5, 0.5])
    assert retention(rows) == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert retention(compare(before, before)) == 1.0


def test_tasks_at_chance_level_are_shown_and_do_not_count() -> None:
    before = {"known": said(0.8), "guessed": said(0.13), "never": said(0.0, chance=0.0), "noise": perplexity(300.0)}
    after = before | {"known": said(0.2)}
    rows = {row.task: row for row in compare(before, after)}
    assert {task for task, row in rows.items() if row.above_chance} == {"known"}
    assert retention(list(rows.values())) == pytest.approx(0.25)
    assert retention([row for task, row in rows.items() if task != "known"]) is None
    assert compare({"few": said(0.2, count=20)}, {"few": said(0.2, count=20)})[0].above_chance is False
    assert compare({"many": said(0.2, count=2000)}, {"many": said(0.2, count=2000)})[0].above_chance is True


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_model_retains_nothing(broken: float) -> None:
    assert retention(compare({"p": perplexity(10.0)}, {"p": perplexity(broken)})) == 0.0


def test_same_answers_are_told_of_what_was_generated_alone() -> None:
    before = {"q": said(0.5, "yes", "no"), "options": Measured("chosen", 0.5, 0.25, 2, ("0", "1")), "p": perplexity(9)}
    after = {"q": said(0.5, "yes", "No"), "options": Measured("chosen", 0.5, 0.25, 2, ("0", "1")), "p": perplexity(9)}
    assert same_answers(before, after) == 0.5
    assert [row.same_answers for row in compare(before, after)] == [0.5, 1.0, None]
    assert same_answers({"p": perplexity(9)}, {"p": perplexity(9)}) is None


@pytest.fixture(scope="module")
def backbone() -> PreTrainedModel:
    return tiny.llama()


@pytest.fixture()
def lm() -> SpeechLM:
    return tiny.fused()


TEXTS = [encode(tiny.byte_tokenizer(), text) for text in ("What is red?", "Once upon a time", "a")]
SENTENCES = [("The owl sees.", "ann"), ("We go home.", "ben")]


def test_logits_differ_where_another_expert_writes(lm: SpeechLM, backbone: PreTrainedModel) -> None:
    assert logit_difference(backbone, Subject.writing(lm), TEXTS) == 0.0
    lm.fixed = "speech"
    assert logit_difference(backbone, Subject.writing(lm), TEXTS) > 0.01


def routed(lm: SpeechLM, settings: RouterSettings, towards: str) -> SpeechLM:
    """A router that leans towards one expert, whatever it reads."""
    torch.manual_seed(0)
    width, layers = lm.speech_embedding.config.width, lm.mole.num_layers
    lm.router = Router(RouterConfig(lm.mole.names, width, layers, "b", settings)).eval().requires_grad_(False)
    for reader in lm.router.readers:
        bias = reader.leave.bias.view(-1, len(lm.mole.names))  # type: ignore[union-attr, operator]
        bias.zero_()
        bias[:, lm.mole.names.index(towards)] = 9.0
    return lm


@pytest.mark.parametrize("hardness", ["top-1", "soft"])
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("granularity", ["segment", "token"])
@pytest.mark.parametrize("towards", ["text", "speech"])
def test_confusion_counts_what_every_kind_of_router_chose(
    lm: SpeechLM, granularity: str, per_layer: bool, hardness: str, towards: str
) -> None:
    routed(lm, RouterSettings(granularity, per_layer, hardness, hidden=4), towards)  # type: ignore[arg-type]
    found = confusion(lm, TEXTS, SENTENCES)
    assert found["decided_by"] == "router"
    assert found["counts"]["text"] == {"text": 0, "speech": 0} | {towards: len(TEXTS)}
    assert found["counts"]["speech"] == {"text": 0, "speech": 0} | {towards: len(SENTENCES)}
    assert found["right"] == {"text": float(towards == "text"), "speech": float(towards == "speech")}


def test_confusion_tells_prompts_apart_as_the_router_does(lm: SpeechLM) -> None:
    routed(lm, RouterSettings(hidden=16), "text")
    reader = lm.router.readers[0]  # type: ignore[union-attr]
    with torch.no_grad():
        reader.leave.bias.zero_()  # type: ignore[union-attr, operator]
    texts = [encode(tiny.byte_tokenizer(), chr(97 + i) * 3) for i in range(26)]
    expected = [lm.router.decide(lm.embed_text(torch.tensor([ids])))[0].argmax().item() for ids in texts]  # type: ignore[union-attr]
    found = confusion(lm, texts, [])
    assert 0 < sum(expected) < len(texts)
    assert found["counts"]["text"] == {"text": expected.count(0), "speech": expected.count(1)}
    assert found["right"]["speech"] is None


def test_without_a_router_the_task_decides_and_fixed_gates_decide_all(lm: SpeechLM) -> None:
    found = confusion(lm, TEXTS, SENTENCES)
    assert found["decided_by"] == "task" and found["right"] == {"text": 1.0, "speech": 1.0}
    for fixed in ("speech", torch.tensor([0.2, 0.8])):
        lm.fixed = fixed  # type: ignore[assignment]
        found = confusion(lm, TEXTS, SENTENCES)
        assert found["decided_by"] == "fixed gates" and found["right"] == {"text": 0.0, "speech": 1.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora, a backbone that has learnt a little of them, and a random expert for it."""
    folder = tmp_path_factory.mktemp("forgetting")
    write_corpora(folder / "data")
    model, tokenizer = tiny.llama().train(), tiny.byte_tokenizer()
    text = (folder / "data" / "books-pd" / "One_1.txt").read_text()
    rows = torch.tensor(encode(tokenizer, text[: 64 * 64])[: 64 * 64]).view(64, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(30):
        part = rows[8 * (step % 8) :][:8]
        model(input_ids=part, labels=part).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder / "backbone")
    tokenizer.save_pretrained(folder / "backbone")
    loaded, _ = load_backbone(folder / "backbone")
    tiny.trained_expert(loaded).save(folder / "expert", {})
    return folder


def config(place: Path, out: Path, **changes: object) -> recipe.EvaluateForgettingConfig:
    config = recipe.EvaluateForgettingConfig(
        out=out, data=place / "data", work=place / "work", backbone=place / "backbone", expert=place / "expert"
    )
    return replace(config, **{**SMALL, **changes})  # type: ignore[arg-type]


def test_an_untouched_backbone_retains_everything_to_the_last_bit(place: Path, tmp_path: Path) -> None:
    report = recipe.evaluate_forgetting(config(place, tmp_path))
    assert report.retention == 1.0 and report.passed
    assert report.logit_difference == 0.0 and report.same_answers == 1.0
    rows = {row.task: row for row in report.rows}
    assert rows["perplexity: books"].above_chance and rows["perplexity: books"].before < 100
    assert {"own: reading", "own: trivia", "perplexity: dialogues"} <= set(rows)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["passed"] and written["router"]["right"] == {"text": 1.0, "speech": 1.0}
    text = (tmp_path / "report.md").read_text()
    assert "bit for bit" in text and "own: reading" in text and "the task decides" in text
    for name in ("scores.svg", "router.svg"):
        assert name in text and "</svg>" in (tmp_path / name).read_text()
    assert (tmp_path / "report.html").read_text().count("data:image/svg") == 2


def test_gates_forced_to_the_speech_expert_show_as_forgetting(place: Path, tmp_path: Path) -> None:
    lm = SpeechLM.load(place / "backbone", place / "expert")
    lm.fixed = "speech"
    report = recipe.evaluate_forgetting(config(place, tmp_path), lm)
    assert report.retention is not None and report.retention < 0.8 and not report.passed
    assert report.logit_difference > 0.1 and report.same_answers is not None and report.same_answers < 1
    assert report.router["counts"]["text"]["text"] == 0
    assert "below the threshold" in (tmp_path / "report.md").read_text()


def test_the_exit_status_is_a_gate(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = recipe.evaluate_forgetting
    small = {**SMALL, "questions_per_kind": 1, "limit": 1}
    monkeypatch.setattr(recipe, "evaluate_forgetting", lambda given: evaluate(replace(given, **small)))
    asked = ["evaluate", "forgetting", "--backbone", str(place / "backbone"), "--expert", str(place / "expert")]
    asked += ["--data", str(place / "data"), "--work", str(place / "work"), "--out", str(tmp_path)]
    assert cli.main(asked) == 0
    assert "Retention 1.0000" in capsys.readouterr().out
    assert cli.main([*asked, "--text-expert", str(place / "expert" / "speech")]) == 1  # it writes as it should speak
    assert cli.main([*asked, "--tasks", "own"]) == 1  # nothing above chance, nothing shown


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tasks", "own,chess"], "no task 'chess'"),
        (["--expert", "x"], "--backbone"),
        (["--router", "x"], "--expert"),
        (["--threshold", "99"], "between 0 and 1"),
        (["--limit", "0"], "limit to be 1 or more"),
        (["--pack", "nowhere"], "no pack.json"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "forgetting", "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_missing_harness_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(VoicegraftError, match=r"pip install voicegraft\[harness\]"):
        harness.need_harness()


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few questions of every task of the harness, in the files' forms."""
    folder = tmp_path_factory.mktemp("tasks")

    def write(place: str, text: str) -> None:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)

    for part in ("test", "train"):
        arc = [
            {
                "instruction": f"Please choose the correct answer to the question: Which is {i}?\n\nAnswer1: one Answer2: "
                "two Answer3: the third\n\nAnswer format: answer1/answer2/answer3",
                "answer": f"answer{1 + i % 3}",
            }
            for i in range(6)
        ]
        write(f"llm-adapters-qa/ARC-Easy/{part}.json", json.dumps(arc))
        for name in ("ARC-Challenge", "openbookqa"):
            write(f"llm-adapters-qa/{name}/{part}.json", json.dumps(arc))
        truth = [
            {"instruction": f"question: is {i} odd?\n\nAnswer", "answer": str(i % 2 > 0).lower()} for i in range(5)
        ]
        write(f"llm-adapters-qa/boolq/{part}.json", json.dumps(truth))
        sums = [{"question": f"What is {i} and 1?", "answer": f"It is\n#### {i + 1}"} for i in range(2)]
        write(f"gsm8k/{part}.jsonl", "\n".join(map(json.dumps, sums)) + "\n")
    ways = {
        "piqa": "Please choose the correct solution to the question: Open {i}.\n\n"
        "Solution1: Turn it.\n\nSolution2: Push it.\n\nAnswer format: solution1/solution2",
        "winogrande": "Please choose the correct answer to fill in the blank to complete the given sentence: "
        "The {i} did _ .\n\nOption1: cat Option2: dog Answer format: option1/option2",
    }
    for name, asked in ways.items():
        rows = [{"instruction": asked.format(i=i), "answer": f"option{1 + i % 2}"} for i in range(4)]
        write(f"llm-adapters-qa/{name}/test.json", json.dumps(rows))
    for subject in ("maths", "music"):
        for part in ("test", "dev"):
            write(f"mmlu/{part}/{subject}_{part}.csv", "")
            with (folder / f"mmlu/{part}/{subject}_{part}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["question", *(f"choice{i}" for i in range(4)), "answer"])
                writer.writerows([f"{subject},\n{i}?", "a", "b, c", "d", "e", i % 4] for i in range(4))
    return folder


def test_local_files_become_questions_with_their_answers(corpora: Path) -> None:
    (arc,) = PublicTask.read("arc_easy", corpora).subsets
    assert arc.test[1] == {"question": "Which is 1?", "choices": ["one", "two", "the third"], "answer": 1}
    (ways,) = PublicTask.read("piqa", corpora).subsets
    assert ways.test[1] == {"question": "Open 1.", "choices": ["Turn it.", "Push it."], "answer": 1}
    (blanks,) = PublicTask.read("winogrande", corpora).subsets
    assert blanks.test[2] == {"question": "The 2 did _ .", "choices": ["cat", "dog"], "answer": 0}
    with pytest.raises(VoicegraftError, match="no examples to show before a question of winogrande"):
        PublicTask.read("winogrande", corpora, num_shots=1)
    (truth,) = PublicTask.read("boolq", corpora).subsets
    assert truth.test[1] == {"question": "Is 1 odd?", "choices": ["no", "yes"], "answer": 1}
    mmlu = PublicTask.read("mmlu", corpora).subsets
    assert [len(task.test) for task in mmlu] == [4, 4]
    assert mmlu[1].test[2]["question"] == "music,\n2?\nA. a\nB. b, c\nC. d\nD. e" and mmlu[1].test[2]["answer"] == 2
    limited = PublicTask.read("mmlu", corpora, 3)
    assert sum(len(subset.test) for subset in limited.subsets) == 3 and limited == PublicTask.read("mmlu", corpora, 3)
    with pytest.raises(VoicegraftError, match="cannot read"):
        PublicTask.read("gsm8k", corpora / "nowhere")
    with pytest.raises(VoicegraftError, match="no questions of mmlu"):
        PublicTask.read("mmlu", corpora / "nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(harness.PUBLIC))
def test_the_harness_asks_through_the_gates(name: str, corpora: Path, lm: SpeechLM, backbone: PreTrainedModel) -> None:
    pytest.importorskip("lm_eval")
    tokenizer, task = (
        tiny.byte_tokenizer(),
        PublicTask.read(name, corpora, num_shots=int(name not in ("piqa", "winogrande"))),
    )
    entered = 0

    def writing() -> AbstractContextManager[None]:
        nonlocal entered
        entered += 1
        return lm.mole.gated(lm.writing())

    fused = Subject(lm.backbone, tokenizer, writing)
    (before,) = task.measure(Subject(backbone, tokenizer)).values()
    assert before.count == sum(len(subset.test) for subset in task.subsets) == len(before.answers)
    assert {name: before} == task.measure(fused)
    assert entered >= before.count
    json.dumps([asdict(row) for row in compare({name: before}, {name: before})])  # NumPy's numbers stay inside
    if before.kind == "generated":  # the best of few options may well stay the best
        lm.fixed = "speech"
        assert task.measure(fused)[name].answers != before.answers
