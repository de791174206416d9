"""Experts learn what they are shown, and nothing else moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from tests import tiny
from tests.fusion.test_speech_lm import FAMILIES, IDS, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.chat import answered_questions, collate_answers, sentence_ids
from voicegraft.data.sequences import IGNORE, SpeechSequence, speech_sequence
from voicegraft.fusion.backbone import backbone_fingerprint
from voicegraft.fusion.experts import Belongs, Expert, LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining, TextExpertTraining, answer_loss

CPU = torch.device("cpu")
PAIRS = [("Where is the owl?", "home"), ("Who sees my house now?", "we")]


def sequences(lm: SpeechExpertTraining) -> list[SpeechSequence]:
    made = []
    for number, text in enumerate(tiny.SENTENCES):
        units = tiny.LEXICON.units(text)
        assert units is not None
        said: tuple[Any, ...] = ()
        if number % 2:
            counts = np.arange(len(units)) % 3 + 1
            said = (np.arange(counts.sum()) % 27, counts)
        made.append(
            speech_sequence(lm.vocabulary, sentence_ids(lm.tokenizer, text), tiny.words_said(text), "ben", units, *said)
        )
    return made


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_loses_what_its_single_sequences_lose(family: str) -> None:
    for activated in (False, True):
        lm = tiny.trained_expert(random_backbone(family), activated=activated)
        made = sequences(lm)
        together, parts = lm(collate(made, CPU))
        singles = [lm(collate([s], CPU))[0] for s in made]
        weights = torch.tensor([float((s.target != IGNORE).sum()) for s in made])
        mean = (torch.stack(singles) * weights).sum() / weights.sum()
        torch.testing.assert_close(together, mean, atol=1e-4, rtol=1e-4)
        assert parts.keys() == {"g2p", "speak", "g2p_accuracy"} and all(torch.isfinite(p) for p in parts.values())


def test_training_moves_the_expert_and_the_rows_and_never_the_backbone() -> None:
    lm = tiny.trained_expert(tiny.llama()).train()
    trained = {n for n, p in lm.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in n or n.startswith("speech_embedding.") for n in trained)
    before = backbone_fingerprint(lm.backbone)
    losses = train(lm, collate(sequences(lm), CPU))
    assert losses[-1] < 0.8 * losses[0]
    assert backbone_fingerprint(lm.backbone) == before
    with lm.peft_model.disable_adapter(), torch.no_grad():
        assert torch.equal(lm.eval().backbone(input_ids=IDS).logits, tiny.llama()(input_ids=IDS).logits)


def test_one_lora_learns_answers_as_well_as_speech() -> None:
    lm = tiny.trained_expert(tiny.llama()).train()
    losses = train(lm, collate_answers(answered_questions(lm.tokenizer, PAIRS), 1, CPU))
    assert losses[-1] < 0.97 * losses[0]  # it began far away, with what shakes a text


def train(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> list[float]:
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        adam.zero_grad()
        loss, _ = model(batch)
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return losses


def test_a_text_expert_learns_answers_and_is_pefts(tmp_path: Path) -> None:
    training = TextExpertTraining(tiny.llama(), tiny.byte_tokenizer(), LoraSettings(rank=4, alpha=4))
    batch = collate_answers(answered_questions(training.tokenizer, PAIRS), 1, CPU)
    losses = train(training, batch)
    assert losses[-1] < 0.97 * losses[0]
    training.save(tmp_path)
    again = PeftModel.from_pretrained(tiny.llama(), str(tmp_path / "text")).eval()
    with torch.no_grad():
        torch.testing.assert_close(answer_loss(again, batch)[0], training.eval()(batch)[0], atol=2e-3, rtol=2e-3)
    Expert.load(tmp_path / "text", Belongs.to(tiny.llama(), tiny.byte_tokenizer()))


def test_only_the_answer_is_learnt() -> None:
    tokenizer = tiny.byte_tokenizer()
    items = answered_questions(tokenizer, PAIRS)
    batch = collate_answers(items, 1, CPU)
    for ids, answer, (_, written) in zip(batch["input_ids"], batch["answer"], PAIRS, strict=True):
        assert tokenizer.decode(ids[answer]) == f" {written}\n"
    prompt = tokenizer.decode(items[0].ids[: items[0].num_prompt])
    assert prompt.endswith(f"Question: {PAIRS[0][0]}\nAnswer:")


@torch.inference_mode()
def test_training_can_go_on_from_an_expert(tmp_path: Path) -> None:
    trained = tiny.trained_expert(tiny.llama())
    trained.save(tmp_path, {})

    def fresh(semantic: str = "s", lora: LoraSettings = tiny.LORA) -> SpeechExpertTraining:
        return SpeechExpertTraining(tiny.llama(), tiny.byte_tokenizer(), tiny.VOCABULARY, semantic, lora)

    torch.manual_seed(8)
    lm = fresh()
    lm.take(tmp_path)
    learnt = {n for n, p in lm.named_parameters() if p.requires_grad}
    wanted = trained.state_dict()
    assert all(
        torch.equal(t, wanted[n].half().float() if n in learnt else wanted[n]) for n, t in lm.state_dict().items()
    )
    with pytest.raises(VoicegraftError, match="another rank"):
        fresh(lora=LoraSettings(rank=5)).take(tmp_path)
    with pytest.raises(VoicegraftError, match="another vocabulary"):
        fresh(semantic="other").take(tmp_path)
