"""Vectors of audio among the embeddings of text."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests import tiny
from tests.data.test_chat import CLIP
from tests.ears import sound, write_listening
from tests.encoders import write_encoder
from tests.fusion.test_speech_lm import FAMILIES, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import AUDIO, answered_questions, collate_answers
from voicegraft.encoders.listening import Ears
from voicegraft.fusion.experts import LISTENING
from voicegraft.fusion.listening import Hearing, ListeningHeader, embedded
from voicegraft.fusion.lora_training import answer_loss
from voicegraft.fusion.mole import MoLE
from voicegraft.fusion.text_lm import TextLM

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


# With an expert


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_with_audio_is_the_same_in_steps_in_a_batch_and_alone(family: str, tmp_path: Path) -> None:
    """In one batch with another without audio, whose logits are the untouched backbone's."""
    untouched = random_backbone(family)
    backbone = copy.deepcopy(untouched)
    expert = tiny.lora(untouched, tmp_path, LISTENING)
    mole = MoLE(backbone, {"text": None, LISTENING: Hearing.expert(expert.parent)})
    batch = collate_answers(ITEMS[:2], 1, CPU)
    size, other = len(ITEMS[0]), len(ITEMS[1])
    whole = embedded(backbone, batch["input_ids"], HEARD[:3])
    with mole.gated(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])):
        together = backbone(inputs_embeds=whole).logits
    with mole.gated(LISTENING):
        alone = backbone(inputs_embeds=whole[:1, :size]).logits
        cache = DynamicCache(config=backbone.config)
        ids = torch.tensor([ITEMS[0].ids[size - 4 :]])
        pieces = [{"inputs_embeds": whole[:1, : size - 4]}, *({"input_ids": i} for i in ids.split(1, 1))]
        steps = [backbone(**piece, past_key_values=cache, use_cache=True).logits for piece in pieces]
    bare = untouched(torch.tensor([ITEMS[1].ids])).logits
    within = {"atol": 2e-4 * float(alone.abs().max()), "rtol": 0.0}
    torch.testing.assert_close(together[:1, :size], alone, **within)
    torch.testing.assert_close(torch.cat(steps, 1), alone, **within)
    torch.testing.assert_close(together[1:, :other], bare, **within)


# On disk


@pytest.fixture(scope="module")
def backbone() -> PreTrainedModel:
    return tiny.llama()


@pytest.fixture(scope="module", params=["whisper", "hubert"])
def pack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backbone: PreTrainedModel) -> Path:
    return write_listening(tmp_path_factory.mktemp("packs") / "listening", backbone, request.param)


@pytest.fixture
def hearing(pack: Path, backbone: PreTrainedModel) -> Hearing:
    return Hearing.load(pack, backbone, tiny.byte_tokenizer())


def test_what_is_heard_is_what_the_connector_makes_of_the_encoders_frames(hearing: Hearing) -> None:
    one, two = sound(0.7), sound(0.4, seed=1)
    found = hearing.listen([one, two, one])
    frames = [hearing.ears([torch.from_numpy(w.samples)])[0].frames for w in (one, two)]
    for vectors, own in zip(found, (*frames, frames[0]), strict=True):
        assert torch.equal(vectors, hearing.connector(own[None], torch.tensor([len(own)])).vectors[0])
    assert found[0] is found[2] is hearing.listen([one])[0]  # heard once
    assert not any(p.requires_grad for p in hearing.parameters())


def test_sound_of_another_rate_is_heard_as_if_resampled(hearing: Hearing) -> None:
    (vectors,) = hearing.listen([sound(0.7, rate=8000)])
    assert len(vectors) == len(hearing.listen([sound(0.7)])[0])


def test_sound_that_arrives_is_heard_alike_however_it_is_cut(hearing: Hearing) -> None:
    rate = 11_025
    whole = sound(1.4, rate=rate)
    found = []
    for sizes in ([len(whole.samples)], [777] * 20, [1, 9_000, 0, 5]):
        stream = hearing.start(rate, chunk_sec=0.5, context_sec=0.2)
        for piece in np.split(whole.samples, np.cumsum(sizes)):
            stream.push(piece)
        waveform = stream.finish()
        assert np.array_equal(waveform.samples, whole.samples) and waveform.sample_rate == rate
        found.append(hearing.listen([waveform])[0])
    assert len(found[0]) == len(hearing.listen([whole])[0])
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_short_sound_that_arrives_is_heard_in_one_go(hearing: Hearing) -> None:
    whole = sound(0.7)
    stream = hearing.start(16_000, chunk_sec=0.5, context_sec=0.2)
    for piece in np.split(whole.samples, 7):
        stream.push(piece)
    assert torch.equal(hearing.listen([stream.finish()])[0], hearing.listen([whole])[0])


def test_before_it_has_arrived_most_is_heard(hearing: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    heard = Ears.forward
    stream = hearing.start(16_000, chunk_sec=0.5, context_sec=0.2)
    stream.push(sound(1.6).samples)
    monkeypatch.setattr(Ears, "forward", lambda self, waves: left.append(len(waves[0])) or heard(self, waves))
    stream.finish()
    assert sum(left) <= (0.5 + 2 * 0.2) * 16_000 + 400


def test_an_encoder_is_opened_when_there_is_something_to_hear(pack: Path, backbone: PreTrainedModel) -> None:
    hearing = Hearing.load(pack, backbone, tiny.byte_tokenizer(), encoder="/nowhere")
    assert hearing.listen([]) == []
    with pytest.raises(VoicegraftError, match="/nowhere: there is no such folder"):
        hearing.listen([sound(0.5)])


def test_parts_that_do_not_fit_are_told(pack: Path, backbone: PreTrainedModel, tmp_path: Path) -> None:
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        other.base_model.norm.weight[0] = 2.0
    with pytest.raises(VoicegraftError, match=r"the connector was made for an backbone of other kind \(fingerprint"):
        Hearing.load(pack, other, tiny.byte_tokenizer())
    encoder = write_encoder(tmp_path / "encoder", "whisper", seed=5)
    foreign = Hearing.load(pack, backbone, tiny.byte_tokenizer(), encoder=encoder)
    with pytest.raises(VoicegraftError, match=r"the connector was made for an encoder of other kind \("):
        foreign.listen([sound(0.5)])
    with pytest.raises(VoicegraftError, match="at least 50 ms"):
        Hearing.load(pack, backbone, tiny.byte_tokenizer()).listen([Waveform(np.zeros(9, np.float32), 16_000)])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encoder": {"model": "../encoder"}}, r"listening.json names an encoder outside the pack \(\.\./encoder\)"),
        ({"encoder": {"model": "/etc"}}, "names an encoder outside the pack"),
        ({"format": 9}, "has format 9, this version reads 1; upgrade voicegraft"),
        ({"mode": "loud"}, "mode"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_header_that_cannot_be_meant_is_told(
    pack: Path, backbone: PreTrainedModel, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    shutil.copytree(pack, tmp_path / "pack")
    tiny.edit_json(tmp_path / "pack" / "listening.json", **changes)
    with pytest.raises(VoicegraftError, match=message):
        Hearing.load(tmp_path / "pack", backbone, tiny.byte_tokenizer())


def test_a_folder_without_a_header_is_no_listening_pack(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"expected a listening pack in .*, found no listening\.json"):
        ListeningHeader.read(tmp_path)


@torch.inference_mode()
def test_a_backbone_and_a_listening_pack_are_a_model_that_hears(pack: Path, tmp_path: Path) -> None:
    tiny.write_backbone(tmp_path / "backbone")
    lm = TextLM.load(tmp_path / "backbone", listening=pack)
    assert lm.mole.names == ("text", "listening") and lm.writing() == "text" and lm.writing(hears=True) == "listening"
    ids = torch.tensor([ITEMS[1].ids])
    assert torch.equal(lm.text_logits(ids), tiny.llama()(ids).logits)
    assert not any(p.requires_grad for p in lm.parameters())
    shutil.copytree(pack, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / LISTENING)
    bare = TextLM.load(tmp_path / "backbone", listening=tmp_path / "bare")
    with bare.mole.gated(bare.writing(hears=True)):  # the connector alone: the identity hears
        assert torch.equal(bare.backbone(ids).logits, tiny.llama()(ids).logits)
