"""What a recogniser's decoder writes, as vectors for the LLM: while it arrives, and with its doubts."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests import tiny
from tests.ears import sound
from tests.whispers import write_whisper
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode
from voicegraft.encoders.listening import Ears, EncoderSettings, Features
from voicegraft.fusion.backbone import backbone_fingerprint
from voicegraft.fusion.connectors.base import ConnectorConfig
from voicegraft.fusion.connectors.states import States, StatesConfig
from voicegraft.fusion.listening import Hearing

TOKENIZER = tiny.byte_tokenizer()


@pytest.fixture(scope="module")
def backbone() -> PreTrainedModel:
    return tiny.llama()


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Ears:
    folder = write_whisper(tmp_path_factory.mktemp("recogniser") / "whisper", seconds=4)
    return Ears(EncoderSettings(str(folder), reads="decoder"))


def states(ears: Ears, backbone: PreTrainedModel, alternatives: int = 4) -> States:
    fits = ConnectorConfig(ears.width, 32, ears.fingerprint, backbone_fingerprint(backbone))
    made = States(StatesConfig(**vars(fits), alternatives=alternatives)).eval()
    made.attach(backbone, TOKENIZER)
    made.attach_ears(ears)
    return made


def batch(heard: Features) -> tuple[Tensor, Tensor]:
    return heard.frames[None], torch.tensor([len(heard.frames)])


@torch.inference_mode()
def test_a_draft_saves_time_and_changes_nothing(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ears.decoder is not None
    calls: list[int] = []
    model = ears.decoder.model
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda **given: calls.append(1) or forward(**given))
    piece = torch.from_numpy(sound(0.7, seed=2).samples)
    alone = ears.write(piece)
    said, needed = alone.tokens, len(calls)
    assert len(said) > 4
    wrong = [*said[:3], (said[3] + 1) % 250, *said[4:]]
    for draft, right in ((said, len(said)), (wrong, 3), (wrong[3:], 0), ([*said, 5, 5], len(said)), ([9] * 500, 0)):
        calls.clear()
        drafted = ears.write(piece, draft)
        assert drafted.tokens == said and drafted.transcript == alone.transcript
        torch.testing.assert_close(drafted.frames, alone.frames, atol=1e-4, rtol=1e-4)
        assert len(calls) == needed - right


@torch.inference_mode()
@pytest.mark.parametrize("rate", [16_000, 11_025])
def test_words_of_sound_that_arrives_are_those_of_the_whole(ears: Ears, backbone: PreTrainedModel, rate: int) -> None:
    whole = sound(9.0, rate=rate)  # the tiny Whisper hears four seconds at a time
    hearing = Hearing(states(ears, backbone), lambda: ears)
    stream = hearing.start(rate)
    for piece in np.array_split(whole.samples, 30):
        stream.push(piece)
    arrived = stream.finish()
    assert np.array_equal(arrived.samples, whole.samples)
    found, expected = hearing.listen([arrived])[0], hearing.listen([whole])[0]
    if rate == 16_000:  # resampling a stream is not resampling the whole
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert len(found) > 0
    with pytest.raises(VoicegraftError, match="at least 50 ms"):
        hearing.start(rate).finish()


@torch.inference_mode()
def test_a_vector_is_the_mean_of_what_may_have_been_said(ears: Ears, backbone: PreTrainedModel) -> None:
    assert ears.decoder is not None
    heard = ears.write(torch.from_numpy(sound(0.7, seed=2).samples))
    connector = states(ears, backbone)
    table = backbone.get_input_embeddings().weight
    (vectors,) = connector(*batch(heard)).rows()
    (read,) = connector.read(*batch(heard))
    assert TOKENIZER.decode(read) == heard.transcript and len(read) == len(vectors) > 4
    shared = [TOKENIZER.get_vocab().get(word) for word in ears.decoder.vocabulary]
    mixed = 0
    for token, vector in zip(read, vectors, strict=True):
        # A letter stands for one of the recogniser's tokens: the same letter has the same state only where it is told alone.
        if heard.tokens.count(shared.index(token)) != 1:
            continue
        state = heard.frames[heard.tokens.index(shared.index(token))]
        chances, others = (ears.decoder.words[:-1] @ state).softmax(-1).topk(4)
        known = [(c, shared[o]) for c, o in zip(chances, others.tolist(), strict=True) if shared[o] is not None]
        expected = sum(c * table[o] for c, o in known) / sum(c for c, _ in known)
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-4)
        mixed += 1
    assert mixed > 0
    (sure,) = states(ears, backbone, alternatives=1)(*batch(heard)).rows()
    assert torch.equal(sure, table[read])
    nothing = torch.zeros(1, 0, ears.width), torch.tensor([0])
    assert connector(*nothing).lengths.tolist() == [0] and connector.read(*nothing) == [[]]


def test_what_is_learnt_is_added(ears: Ears, backbone: PreTrainedModel) -> None:
    heard = ears.write(torch.from_numpy(sound(0.7, seed=2).samples))
    connector = states(ears, backbone).train()
    target = connector(*batch(heard)).vectors.detach() + 0.1
    optimizer = torch.optim.AdamW(connector.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (connector(*batch(heard)).vectors - target).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert encode(TOKENIZER, heard.transcript) == connector.read(*batch(heard))[0]  # words stay


@torch.inference_mode()
def test_what_the_recogniser_does_not_believe_is_told(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ears.decoder is not None
    piece = torch.from_numpy(sound(0.7, seed=2).samples)
    written = ears.decoder.transcribe(ears._encoded(piece[None]))
    said = torch.stack([ears.decoder.words @ state for state in written.states]).log_softmax(-1)
    chosen = said[range(len(written.tokens)), written.tokens].sum().item()
    assert written.log_prob * (len(written.tokens) + 1) <= chosen + 1e-3  # and the end
    for text, log_prob, sure in (("Yes.", -0.9, True), ("Yes.", -1.1, False), ("[Music] (sighs)", -0.1, False)):
        told = written._replace(text=text, log_prob=log_prob)
        monkeypatch.setattr(type(ears.decoder), "transcribe", lambda self, encoded, draft=(), told=told: told)
        assert ears([piece])[0].sure == sure


def test_ears_that_hear_no_words_are_refused(ears: Ears, backbone: PreTrainedModel) -> None:
    connector = states(ears, backbone)
    with pytest.raises(VoicegraftError, match=r"encoder.*fingerprint"):
        connector.attach_ears(Ears(EncoderSettings(ears.settings.model)))
    fresh = States(connector.config)
    with pytest.raises(VoicegraftError, match="attach"):
        fresh(torch.zeros(1, 2, ears.width), torch.tensor([2]))
    with pytest.raises(VoicegraftError, match="backbone before"):
        fresh.attach_ears(ears)
