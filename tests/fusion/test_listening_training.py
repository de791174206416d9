"""Training of what hears, against straightforward computations of the whole."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests import tiny
from tests.encoders import sounds, write_encoder
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import AUDIO, answered_questions
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.fusion.backbone import backbone_fingerprint
from voicegraft.fusion.connectors.base import ConnectorConfig, new_connector, open_connector
from voicegraft.fusion.experts import LISTENING, LoraSettings
from voicegraft.fusion.listening_training import ListeningBatch, ListeningTraining, Piece, divergence

DRAW = torch.Generator().manual_seed(3)
TOKENIZER = tiny.byte_tokenizer()
SOUND = Waveform(torch.zeros(100).numpy(), 16_000)
ITEMS = answered_questions(
    TOKENIZER,
    [
        (Message.user("Say: ", SOUND, " and ", SOUND), "We."),
        (Message.user("Where?"), "Here, now."),
        (Message.user(SOUND), "Yes"),
    ],
)
FRAMES = [torch.randn(n, 24, generator=DRAW) for n in (11, 4, 17)]
PIECES = [Piece(FRAMES[0], 2, 9), Piece(FRAMES[1]), Piece(FRAMES[2], 3)]
COUNTS = [len(item) - item.num_prompt for item in ITEMS]


def training(lora: LoraSettings | None = None, ears: Ears | None = None, **options: bool) -> ListeningTraining:
    torch.manual_seed(0)
    backbone = tiny.llama()
    encoder, width = (ears.fingerprint, ears.width) if ears else ("ears", 24)
    fits = ConnectorConfig(width, 32, encoder, backbone_fingerprint(backbone))
    connector = new_connector("stack", {"stacked": 3, "hidden": 20}, fits)
    return ListeningTraining(backbone, TOKENIZER, connector, lora, ears, **options)


def batch(top: int = 0, has_top: tuple[bool, ...] = (True, False, True)) -> ListeningBatch:
    logprobs = torch.randn(sum(COUNTS), 258, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    best = logprobs.topk(top)
    known = torch.tensor([has for has, count in zip(has_top, COUNTS, strict=True) for _ in range(count)])
    ids = best.indices.masked_fill(~known[:, None], -1)
    return ListeningBatch(ITEMS, PIECES, ids, best.values.masked_fill(~known[:, None], -torch.inf))


def by_hand(model: ListeningTraining) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and tokens of the answers, each sequence alone and put together token by token."""
    pieces = iter(PIECES)
    logits, targets = [], []
    for item in ITEMS:
        rows = []
        for token in item.ids:
            if token == AUDIO:
                piece = next(pieces)
                frames = piece.sound[piece.begin : piece.end]
                rows.append(model.connector(frames[None], torch.tensor([len(frames)])).vectors[0])
            else:
                rows.append(model.backbone.get_input_embeddings().weight[[token]])
        out = model.backbone(inputs_embeds=torch.cat(rows)[None]).logits[0]
        count = len(item) - item.num_prompt
        logits.append(out[-count - 1 : -1])
        targets += item.ids[item.num_prompt :]
    return torch.cat(logits), torch.tensor(targets)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, alpha=4)])
def test_a_batch_is_its_sequences_computed_one_by_one(lora: LoraSettings | None) -> None:
    model = training(lora)
    if lora is not None:
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    logits, targets = by_hand(model)
    found, wanted = model.answers(batch())
    assert torch.equal(wanted, targets)
    torch.testing.assert_close(found, logits, atol=1e-5, rtol=1e-4)
    loss, metrics = model(batch())
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets), atol=1e-5, rtol=1e-4)
    assert "kl" not in metrics


@pytest.mark.parametrize("by_distribution", [True, False])
def test_the_loss_is_the_divergence_where_it_is_known_else_cross_entropy(by_distribution: bool) -> None:
    model = training(by_distribution=by_distribution)
    logits, targets = by_hand(model)
    every = batch(258)
    known = every.top_ids[:, 0] >= 0
    theirs = torch.zeros(len(known), 258)
    theirs[known] = theirs[known].scatter(1, every.top_ids[known], every.top_logprobs[known])
    kl = F.kl_div(logits.log_softmax(-1), theirs, reduction="none", log_target=True).sum(-1)
    cross = F.cross_entropy(logits, targets, reduction="none")
    loss, metrics = model(every)
    torch.testing.assert_close(metrics["kl"], kl[known].mean(), atol=2e-5, rtol=1e-3)
    expected = torch.where(known, kl, cross) if by_distribution else cross
    torch.testing.assert_close(loss, expected.mean(), atol=2e-5, rtol=1e-3)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.connector.parameters())


@pytest.mark.parametrize("k", [1, 7, 250])
def test_of_a_part_of_the_distribution_the_rest_is_one_more_token(k: int) -> None:
    mine, theirs = torch.randn(5, 258, generator=DRAW) * 2, (torch.randn(5, 258, generator=DRAW) * 2).log_softmax(-1)
    best = theirs.topk(k)
    grouped = []
    for x in (mine.log_softmax(-1), theirs):
        top = x.gather(1, best.indices).exp()
        grouped.append(torch.cat([top, 1 - top.sum(1, keepdim=True)], 1).clamp(min=1e-6))
    expected = F.kl_div(grouped[0].log(), grouped[1], reduction="none").sum(1)
    whole = F.kl_div(mine.log_softmax(-1), theirs, reduction="none", log_target=True).sum(1)
    found = divergence(mine, best.indices, best.values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    assert (found <= whole + 1e-5).all() and (found >= -1e-6).all()
    holed = torch.cat([best.indices, torch.full((5, 3), -1)], 1), F.pad(best.values, (0, 3), value=-torch.inf)
    torch.testing.assert_close(divergence(mine, *holed), found)


def test_only_what_may_learn_moves_and_the_llm_is_hashed() -> None:
    for lora in (None, LoraSettings(rank=4, alpha=4)):
        model = training(lora)
        before, weights = model.frozen(), copy.deepcopy(dict(model.named_parameters()))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0)
        model(batch(5))[0].backward()
        optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, weights[name])}
        assert any(name.startswith("connector.") for name in moved)
        assert all(name.startswith("connector.") or ".lora_" in name for name in moved)
        assert any(".lora_B." in name for name in moved) == (lora is not None)
        assert model.frozen() == before
    with torch.no_grad():
        model.backbone.get_input_embeddings().weight[0] += 1
    assert model.frozen() != before


def test_an_encoder_that_learns_is_saved_with_a_connector_that_fits_it(tmp_path: Path) -> None:
    ears = Ears(EncoderSettings(str(write_encoder(tmp_path / "hubert", "hubert"))), trainable=True)
    model = training(ears=ears)
    waves = [sounds(5000, seed)[0] for seed in range(2)]
    pieces = [Piece(waves[0], 0, 9), Piece(waves[0], 9), Piece(waves[1])]
    loss = model(replace(batch(), heard=pieces))[0]
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in ears.parameters())
    with torch.no_grad():
        for p in ears.parameters():
            p -= 0 if p.grad is None else 0.1 * p.grad
        after = model(replace(batch(), heard=pieces))[0]
    assert after != loss
    model.save(tmp_path / "out", {})
    again = Ears(EncoderSettings(str(tmp_path / "out" / "encoder")), trainable=True)
    connector = open_connector(tmp_path / "out" / "connector")
    connector.check_encoder(again.width, again.fingerprint)
    with torch.no_grad():
        torch.testing.assert_close(again([waves[0]])[0].frames, ears([waves[0]])[0].frames)


def test_an_adapter_is_gone_on_from(tmp_path: Path) -> None:
    settings = LoraSettings(rank=4, alpha=4)
    model = training(settings)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    model.save(tmp_path, {})
    other = training(settings)
    other.take(tmp_path / LISTENING)
    torch.testing.assert_close(other(batch())[0], model(batch())[0], atol=5e-3, rtol=0)  # saved in half precision
    with pytest.raises(VoicegraftError, match="another rank"):
        training(LoraSettings(rank=2, alpha=4)).take(tmp_path / LISTENING)
