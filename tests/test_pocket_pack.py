"""The pack that ships: what it writes is the untouched backbone's, its router errs nowhere, and it answers aloud."""

from pathlib import Path

import pytest
import torch

from voicegraft.core.messages import Message
from voicegraft.data import questions as qa
from voicegraft.data.chat import chat_prompt
from voicegraft.evaluation.tasks.base import Subject
from voicegraft.evaluation.tasks.routing import confusion
from voicegraft.evaluation.tasks.short_answers import ShortAnswers
from voicegraft.fusion.backbone import load_backbone
from voicegraft.inference.pack import DEFAULT_PACK
from voicegraft.inference.speaker import Speaker

ASKED = [q for kind in qa.MADE_UP for q in qa.make_up(kind, seed=11, count=80, held_out=True)]


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker.load()


@torch.inference_mode()
def test_text_is_the_untouched_backbones_on_200_prompts(speaker: Speaker) -> None:
    lm = speaker.pack.lm
    assert lm.router is not None and lm.mole.identities == {"text"}
    untouched, tokenizer = load_backbone(DEFAULT_PACK / "backbone")
    task = ShortAnswers(ASKED[:240], batch=16)
    assert len(task.questions) >= 200
    assert task.answers(Subject(untouched, tokenizer)) == task.answers(Subject.writing(lm))
    for prompt in task.prompts(tokenizer)[:40]:
        ids = torch.tensor([prompt])
        with lm.mole.gated(lm.writing()):
            assert torch.equal(lm.backbone(ids).logits, untouched(ids).logits)
        with lm.mole.gated("speech"):  # the expert is there, and would spoil it
            assert not torch.allclose(lm.backbone(ids).logits, untouched(ids).logits, atol=1.0)


@torch.inference_mode()
def test_the_router_errs_on_no_prompt(speaker: Speaker) -> None:
    lm = speaker.pack.lm
    odd = ["", "?", "HELLO", "12345 " * 40, "def f(x): return x", "你好", "kathleen", "Say this aloud: hello.", "\n\n"]
    texts = [chat_prompt(lm.tokenizer, [Message.user(q.text)]) for q in ASKED] + [lm.text_ids(text) for text in odd]
    texts += torch.randint(0, 2048, (40, 12), generator=torch.Generator().manual_seed(0)).tolist()
    spoken = [(q.text, voice) for q in ASKED[:60] for voice in speaker.voices]
    spoken += [(text, voice) for text in odd if any(map(str.isalpha, text)) for voice in speaker.voices]
    found = confusion(lm, texts, spoken)
    assert found["decided_by"] == "router"
    assert found["right"] == {"text": 1.0, "speech": 1.0}, found["counts"]


def test_it_answers_aloud(speaker: Speaker, tmp_path: Path) -> None:
    answer = speaker.ask("Peter has a red coat. What colour is the coat of Peter?")
    sound = torch.cat([torch.from_numpy(chunk) for chunk in answer])
    assert answer.text == "red"
    assert 0.3 < len(sound) / speaker.sample_rate < 2.0 and answer.report.status == "ok"
    assert float(sound.abs().max()) > 0.05
