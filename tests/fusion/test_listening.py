"""Vectors of audio among the embeddings of text."""

import copy

import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.data.test_chat import CLIP
from voicegraft.core.messages import Message
from voicegraft.data.chat import AUDIO, answered_questions, collate_answers
from voicegraft.fusion.listening import embedded
from voicegraft.fusion.lora_training import answer_loss

CPU = torch.device("cpu")
DRAW = torch.Generator().manual_seed(0)
HEARD = [0.1 * torch.randn(n, 32, generator=DRAW) for n in (3, 1, 0, 2)]
PAIRS = [
    ([Message.user(CLIP, " Who? ", CLIP), Message.assistant("Me."), Message.user("And ", CLIP, "?")], "You."),
    ("Why?", "So."),
    (Message.user("Repeat: ", CLIP), "Yes, it is."),
]
ITEMS = [
    item.widened(lengths)
    for item, lengths in zip(answered_questions(tiny.byte_tokenizer(), PAIRS), [(3, 1, 0), (), (2,)], strict=True)
]


def by_hand(table: Tensor, ids: list[int], heard: list[Tensor]) -> Tensor:
    vectors = iter(torch.cat(heard))
    return torch.stack([next(vectors) if i == AUDIO else table[i] for i in ids])


@torch.inference_mode()
def test_vectors_stand_in_the_places_of_audio() -> None:
    backbone = tiny.llama()
    table = backbone.get_input_embeddings().weight
    ids = collate_answers(ITEMS, 1, CPU)["input_ids"]
    found = embedded(backbone, ids, HEARD)
    for row, item, own in zip(found, ITEMS, (HEARD[:3], [HEARD[2]], HEARD[3:]), strict=True):
        assert torch.equal(row[: len(item)], by_hand(table, item.ids, own))
    with pytest.raises(ValueError, match="expected 6 vectors of audio, got 5"):
        embedded(backbone, ids, [*HEARD[:3], HEARD[3][:1]])


def test_a_batch_that_mixes_prompts_with_and_without_audio_learns_what_its_rows_do() -> None:
    """The losses of the rows, by their numbers of tokens, are the batch's; gradients reach every vector and nothing else."""
    backbone = tiny.llama().requires_grad_(False)
    heard = [vectors.clone().requires_grad_() for vectors in HEARD]

    def loss(rows: slice, vectors: list[Tensor]) -> Tensor:
        batch = collate_answers(ITEMS[rows], 1, CPU)
        return answer_loss(backbone, {**batch, "inputs_embeds": embedded(backbone, batch["input_ids"], vectors)})[0]

    whole = loss(slice(None), heard)
    whole.backward()
    assert all(v.grad is not None and (v.grad.abs().sum(1) > 0).all() for v in heard if len(v))
    single = [loss(slice(i, i + 1), own) for i, own in enumerate((HEARD[:3], [], HEARD[3:]))]
    counts = torch.tensor([len(item) - item.num_prompt for item in ITEMS])
    torch.testing.assert_close(whole.detach(), (torch.stack(single) * counts).sum() / counts.sum())
    text = collate_answers(ITEMS[1:2], 1, CPU)
    torch.testing.assert_close(single[1], answer_loss(copy.deepcopy(backbone), text)[0], rtol=0, atol=0)
