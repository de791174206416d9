"""Text in, speech out: sound begins while the answer is still being written."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests import tiny
from tests.dictation import dictated
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.lora_training import TextExpertTraining
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.writer import WritingOptions

ANSWER = "We see. The owl sees my house. We go home, now!"
QUESTION = "What is it?"


def test_the_first_sentence_sounds_before_the_rest_is_written(speaker: Speaker) -> None:
    events: list[tuple[str, str]] = []
    with dictated(speaker.pack.lm, ANSWER) as left:
        stream = speaker.ask(
            QUESTION,
            "ann",
            on_text=lambda piece: events.append(("text", piece)),
            on_sentence=lambda sentence: events.append(("sentence", sentence)),
        )
        assert not events and stream.text == "" and len(left) == len(ANSWER) + 1  # all waits until it is drawn
        for _ in stream:
            if ("sound", "") not in events:
                written = "".join(text for kind, text in events if kind == "text")
                # A sentence has ended for certain when the word after it is there.
                assert stream.text == written == "We see. The o"
                assert len(left) > len(" We go home, now!")
            events.append(("sound", ""))
    assert stream.text == "".join(text for kind, text in events if kind == "text") == ANSWER
    # Each sentence sounds to its end before the writing goes on.
    kinds = [kind for n, (kind, _) in enumerate(events) if n == 0 or events[n - 1][0] != kind]
    assert kinds == ["text", "sentence", "sound"] * 3


def test_what_is_said_is_what_speaking_the_text_would_say(speaker: Speaker) -> None:
    with dictated(speaker.pack.lm, ANSWER):
        stream = speaker.ask(QUESTION, "ann", seed=3)
        samples = np.concatenate(list(stream))
    said = speaker.say(ANSWER, "ann", seed=3)
    assert np.array_equal(samples, said.samples) and stream.sample_rate == said.sample_rate
    assert stream.report.num_words == said.report.num_words > 0 and stream.warnings == []
    assert 0 < stream.writing.first_text_sec < stream.report.first_audio_sec < stream.report.wall_sec
    assert stream.writing.wall_sec < stream.report.wall_sec
    assert stream.report.duration_sec == pytest.approx(said.duration_sec)


def test_what_is_asked_and_written_is_the_same_alone_and_spoken(speaker: Speaker) -> None:
    """Speech runs between the tokens of the answer, and leaves no trace in it."""
    options = WritingOptions(60, Sampling(1.0, 1.0))
    for conversation in (QUESTION, [Message.user("We?"), Message.assistant("Yes."), Message.user(QUESTION)]):
        alone = "".join(speaker.write(conversation, 5, options))
        stream = speaker.ask(conversation, "ann", 5, writing=options)
        list(stream)
        assert stream.text == alone != ""


@pytest.mark.parametrize("answer", ["", " ", "...", "!?", "🦉"])
def test_an_answer_without_a_word_is_text_alone(speaker: Speaker, answer: str, tmp_path: Path) -> None:
    with dictated(speaker.pack.lm, answer):
        stream = speaker.ask(QUESTION)
        assert stream.save(tmp_path / "a.wav").status == "empty"
    assert stream.text == answer.strip() and list(tmp_path.iterdir()) == []
    wanted = "nothing to say aloud" if answer.strip() else "the answer is empty"
    assert wanted in stream.warnings[-1] and all("\n" not in w for w in stream.warnings)


def test_a_stream_is_saved_as_it_is_drawn(speaker: Speaker, tmp_path: Path) -> None:
    chunks: list[float] = []
    with dictated(speaker.pack.lm, ANSWER):
        stream = speaker.ask(QUESTION, "ann")
        report = stream.save(tmp_path / "a.wav", lambda: chunks.append(stream.report.duration_sec))
    assert chunks == sorted(chunks) and len(chunks) > 2 and report is stream.report
    assert soundfile.info(tmp_path / "a.wav").duration == pytest.approx(report.duration_sec, abs=1e-3)


def test_mistakes_show_before_anything_is_written(speaker: Speaker, tmp_path: Path) -> None:
    mistakes: list[tuple[str, Callable[[], Any]]] = [
        ("no voice 'eve'", lambda: speaker.ask(QUESTION, "eve")),
        ("nothing was asked", lambda: speaker.ask("  ")),
        ("too long", lambda: speaker.ask("a" * 2000)),
        ("does not exist", lambda: speaker.ask(QUESTION).save(tmp_path / "none" / "a.wav")),
        ("ends in .wav", lambda: speaker.ask(QUESTION).save(tmp_path / "a.aac")),
    ]
    with dictated(speaker.pack.lm):  # there is nothing to write: a single token would be an IndexError
        for message, mistake in mistakes:
            with pytest.raises(VoicegraftError, match=message):
                mistake()


def text_expert(backbone: Path, folder: Path) -> Path:
    """An adapter that changes what is written."""
    training = TextExpertTraining(*load_backbone(backbone), tiny.LORA)
    with torch.no_grad():
        for name, parameter in training.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(len(name)))
    training.save(folder)
    return folder / "text"


def test_a_text_expert_writes_and_the_speech_expert_still_speaks(
    speaker: Speaker, pack_folder: Path, tmp_path: Path
) -> None:
    expert = text_expert(pack_folder / "backbone", tmp_path)
    other = Speaker.load(pack_folder, text_expert=expert)
    assert other.pack.lm.mole.identities == frozenset()
    texts = ["".join(s.write(QUESTION, options=WritingOptions(20))) for s in (speaker, other)]
    assert texts[0] != texts[1]
    assert np.array_equal(speaker.say("We see.", "ann").samples, other.say("We see.", "ann").samples)


def test_a_text_expert_of_another_backbone_is_refused(pack_folder: Path, tmp_path: Path) -> None:
    backbone = tmp_path / "backbone"
    shutil.copytree(pack_folder / "backbone", backbone)
    changed = copy.deepcopy(tiny.llama())
    with torch.no_grad():
        changed.base_model.norm.weight[0] = 2.0
    changed.save_pretrained(backbone)
    with pytest.raises(VoicegraftError, match="was trained with the backbone"):
        Speaker.load(pack_folder, text_expert=text_expert(backbone, tmp_path))
    with pytest.raises(VoicegraftError, match="no PEFT adapter in"):
        Speaker.load(pack_folder, text_expert=tmp_path)
