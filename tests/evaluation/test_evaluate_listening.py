"""Floors, ceiling and cascade are one code; a model that hears nothing is at the floor, and one that reads at the ceiling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import chat_prompt, encode
from voicegraft.data.listening_tasks import load_tasks
from voicegraft.data.splits import text_key
from voicegraft.evaluation.listening.answering import (
    BESIDE,
    CASCADE,
    NOTHING,
    PURE,
    TEXT,
    WRONG_AUDIO,
    WRONG_TEXT,
    LmAnswering,
)
from voicegraft.evaluation.listening.behaviour import PARTS, QUESTION, cases
from voicegraft.evaluation.listening.clips import RATE, Spoken, read_clips, unspoken
from voicegraft.evaluation.listening.items import questions, sentences
from voicegraft.evaluation.speech.reserved import ReservedTexts
from voicegraft.fusion.mole import MoLE
from voicegraft.fusion.text_lm import TextLM
from voicegraft.recipes.evaluate_listening import EvaluateListeningConfig, evaluate_listening

TEXTS = ("The owl sees my house.", "What is the capital of Austria?", "We go home now.", "My house sees the owl.")


def true_text(samples: np.ndarray, sample_rate: int) -> str:
    """What is said in a clip, by its length."""
    return TEXTS[min(range(4), key=lambda i: abs(len(samples) / sample_rate - (1 + i / 2)))]


class Scribe:
    """Knows each clip by its length, and hears one of them wrongly."""

    name = "scribe"
    num_calls = 0

    def transcribe(self, samples: np.ndarray, sample_rate: int) -> str:
        self.num_calls += 1
        if not np.any(samples):
            return ""
        return true_text(samples, sample_rate).replace("We go home now.", "We go home.")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder, rows = tmp_path / "said", []
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        time = np.arange(round(RATE * (1 + number / 2))) / RATE
        write_audio(folder / f"{number}.wav", (0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32), RATE)
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": text, "speaker": "ann", "duration_sec": 1.0})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


class PerfectEars:
    """Hears the words as the LLM itself embeds them: what a connector could be at best."""

    def __init__(self, lm: TextLM) -> None:
        self.lm, self.connector, self.ears = lm, nn.Linear(1, 1), SimpleNamespace(fingerprint="perfect")
        self.connector.READS = False

    def listen(self, waveforms: Sequence[Waveform]) -> list[Tensor]:
        texts = [true_text(w.samples, w.sample_rate) for w in waveforms]
        return [self.lm.embed_text(torch.tensor(encode(self.lm.tokenizer, text), dtype=torch.long)) for text in texts]

    def start(self, sample_rate: int) -> Self:
        self.pushed: list[np.ndarray] = []
        return self

    def push(self, samples: np.ndarray) -> None:
        self.pushed.append(samples)

    def finish(self) -> Waveform:
        return Waveform(np.concatenate(self.pushed), RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm")
    tiny.llama().save_pretrained(folder)
    tiny.byte_tokenizer().save_pretrained(folder)
    return folder


def evaluated(
    corpus: Path, out: Path, scribe: Scribe, lm: TextLM, backbone: str = "", **options: Any
) -> dict[str, Any]:
    config = EvaluateListeningConfig(
        out, backbone=backbone, test_speech=(corpus,), tasks=("topic", "repeat", "title"), max_tokens=2, unspoken=5, timed=1,
        device="cpu", **options,
    )  # fmt: skip
    return evaluate_listening(config, lm, scribe, progress=False)


def test_a_report_goes_on_where_it_stopped(corpus: Path, tmp_path: Path, folder: Path) -> None:
    scribe, out, lm = Scribe(), tmp_path / "out", TextLM.load(folder)
    evaluated(corpus, out, scribe, lm, limit=2)
    once = scribe.num_calls
    found = evaluated(corpus, out, scribe, lm)
    assert scribe.num_calls == once + 2 + 1  # two more clips, and one is timed
    told = (out / "report.md").read_text()
    assert evaluated(corpus, out, scribe, lm)["behaviour"] == found["behaviour"]
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()[1:]]
    assert len({(r["who"], r["corpus"], r["id"], r["task"], r["wording"]) for r in rows}) == len(rows)
    assert found["words"]["said"]["Whisper's decoder"]["wer"]["value"] == pytest.approx(1 / 20)
    assert found["right"][QUESTION]["said"][TEXT]["num"] == 1
    assert all(part in told for part in PARTS) and "Where nobody says anything" in told
    for part in PARTS:
        group = found["behaviour"][part]
        assert group[TEXT]["kl"]["value"] == 0 and group[TEXT]["agreement"]["value"] == 1
        assert group[NOTHING]["kl"]["value"] > group[CASCADE]["kl"]["value"] >= 0
    assert "## Conversations" in told and "--test-speech SAID" in told
    assert found["conversations"]["all"][CASCADE]["num"] == 2  # the one that the clips can say
    assert (out / "conversations.md").read_text().count("*What is the capital of Austria?*") == 1
    assert (out / "conversations.txt").read_text().splitlines() == found["unsaid"]
    rows = [row for row in rows if "kl" in row or not row["task"]]
    right = [r for r in rows if r["who"] == CASCADE and r["task"] and r["id"] != "2"]
    assert right and all(r["kl"] == 0 and r["agreed"] == r["num_tokens"] for r in right)
    assert min(r["kl"] for r in rows if r["who"] == WRONG_TEXT) > 1e-6


def test_who_hears_as_well_as_the_llm_reads_is_at_the_ceiling(corpus: Path, tmp_path: Path, folder: Path) -> None:
    lm, out = TextLM.load(folder), tmp_path / "out"
    evaluated(corpus, out, Scribe(), lm)  # floors and ceiling alone
    read = (out / "rows.jsonl").read_bytes()
    lm = TextLM(MoLE(lm.backbone, {"text": None, "listening": None}), lm.tokenizer)
    lm.hearing = PerfectEars(lm)
    found = evaluated(corpus, out, Scribe(), lm, str(folder))
    assert (out / "rows.jsonl").read_bytes() == read  # which are not made again
    for part in PARTS:
        group = found["behaviour"][part]
        assert group[PURE]["kl"]["value"] == 0 and group[PURE]["agreement"]["value"] == 1
        assert group[WRONG_AUDIO] == group[WRONG_TEXT] and group[BESIDE]["kl"]["value"] > 0
    assert found["words"]["said"][PURE] == found["words"]["said"][TEXT]
    assert found["conversations"]["all"][PURE] == found["conversations"]["all"][TEXT]
    assert found["forgetting"]["largest difference of a text logit"] == "0"
    assert {*found["first token"]} == {TEXT, CASCADE, PURE}


def test_answers_are_those_of_transformers(folder: Path) -> None:
    lm = TextLM.load(folder)
    model, tokenizer = lm.backbone, lm.tokenizer
    answering, asked = LmAnswering(lm), [Message.user("Who sees the owl?")]
    longer = [Message.user("Who sees the owl, and who goes home?")]
    ids = torch.tensor([chat_prompt(tokenizer, asked)])
    said, more = answering.write([asked, longer], 6)
    assert answering.write([longer], 6) == [more]
    truth = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=1)
    assert said == truth[0, ids.shape[1] :].tolist()
    logits = model(truth).logits[0, ids.shape[1] - 1 : -1].log_softmax(-1)
    torch.testing.assert_close(answering.log_probs(asked, said), logits)


def test_wordings_and_tasks_of_the_benchmark_are_not_those_of_training() -> None:
    tasks = load_tasks()
    silent = Waveform(np.zeros(8, np.float32), RATE)
    clips = [Spoken("c", str(number), f"This is the text number {number}.", silent) for number in range(50)]
    found = list(cases(clips, tasks, {}, {}))
    trained = {wording for task in tasks.values() for wording in task.trained}
    for case in found:
        assert (case.wording in trained) == (case.part == "seen wording")
        assert (case.part == "unseen task") == (not tasks[case.task].trained)
    assert {case.part for case in found} == set(PARTS)
    again = list(cases(clips[::-1], tasks, {}, {}))
    assert {case.key("") for case in found} == {case.key("") for case in again}


def test_right_answers_are_whole_words_of_the_answer() -> None:
    item = questions()[text_key("what is the capital of germany")]
    assert item.is_right("It is BERLIN, of course.") and not item.is_right("A Berliner.")
    packaged = [*questions().values(), *sentences().values()]
    reserved = ReservedTexts()
    assert len(packaged) == 200 and all(one.text in reserved for one in packaged)
    for one in sentences().values():
        assert any(f" {answer.lower()}" in f" {one.text.lower()}" for answer in one.answers), one


def test_nobody_speaks_in_noise() -> None:
    made = unspoken(10)
    assert len({clip.corpus for clip in made}) == 5 and not any(clip.text for clip in made)
    again = unspoken(10)
    for one, other in zip(made, again, strict=True):
        assert np.array_equal(one.waveform.samples, other.waveform.samples)
        level = np.sqrt(np.mean(one.waveform.samples**2))
        assert (level == 0) == (one.corpus == "silence") and level < 0.05


def test_held_back_clips_alone(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    splits = ("train", "test", "train", "val")
    (corpus / "manifest.jsonl").write_text(
        "\n".join(json.dumps(row | {"split": split}) for row, split in zip(rows, splits, strict=True))
    )
    assert sorted(clip.id for clip in read_clips(corpus)) == ["1", "3"]
    assert [clip.id for clip in read_clips(corpus, whole=True)][:2] == [c.id for c in read_clips(corpus, True, limit=2)]
    with pytest.raises(VoicegraftError, match="different texts"):
        evaluate_listening(EvaluateListeningConfig(corpus / "out", test_speech=(corpus,), limit=1))
