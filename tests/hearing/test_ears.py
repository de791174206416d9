"""Ears: what transformers' own encoders say, for sound of any length, alone or in company."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.encoders import FAMILIES, NUM_LAYERS, sounds, write_encoder
from tests.whispers import write_ctranslate2, write_whisper
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.encoders.whisper_decoder import WhisperDecoder

RATE = 16_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("ears")
    return {family: write_encoder(base / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("recogniser") / "whisper")


def ears(folder: Path, **settings: object) -> Ears:
    return Ears(EncoderSettings(str(folder), **settings))  # type: ignore[arg-type]


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_is_transformers_own(folders: dict[str, Path], family: str) -> None:
    heard = ears(folders[family], tail_sec=-1.0)
    (sound,) = sounds(RATE)  # as long as the tiny Whisper's window
    assert heard.sample_rate == RATE and heard.frames_per_sec == 50
    reader = heard.encoder.reader
    inputs = reader.inputs(sound[None], reader.span(50))
    whole = reader.own(AutoModel.from_pretrained(folders[family]).eval())
    (found,) = heard([sound])
    assert found.frames.shape == (50, heard.width) and found.transcript is None
    assert torch.allclose(found.frames, whole(inputs).last_hidden_state[0], atol=1e-5)
    lower = ears(folders[family], tail_sec=-1.0, layer=1)([sound])[0].frames
    assert torch.allclose(lower, whole(inputs, output_hidden_states=True).hidden_states[1][0], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("tail_sec", [0.3, -1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_single_waveforms(folders: dict[str, Path], family: str, tail_sec: float) -> None:
    heard = ears(folders[family], tail_sec=tail_sec)
    waveforms = [sounds(length, seed)[0] for seed, length in enumerate((800, 5003, 12_000, 40_007))]
    together = heard(waveforms)
    for waveform, features in zip(waveforms, together, strict=True):
        assert features.frames.shape == (len(waveform) // 320, heard.width)
        assert torch.allclose(features.frames, heard([waveform])[0].frames, atol=1e-5)


@torch.inference_mode()
def test_whisper_may_be_told_less_than_its_window(folders: dict[str, Path]) -> None:
    """Sound that is cut to what fits beside the tail is what filling the window with silence says."""
    short, padded = (ears(folders["whisper"], tail_sec=tail) for tail in (0.4, -1.0))
    (sound,) = sounds(RATE * 6 // 10)
    assert torch.allclose(short([sound])[0].frames, padded([sound])[0].frames, atol=1e-5)
    (sound,) = sounds(RATE * 3 // 10)
    assert not torch.allclose(short([sound])[0].frames, padded([sound])[0].frames, atol=1e-2)


def test_only_trainable_ears_learn(folders: dict[str, Path]) -> None:
    for family, folder in folders.items():
        settings = EncoderSettings(str(folder))
        for trainable in (False, True):
            heard = Ears(settings, trainable).train()
            assert not any(module.training for module in heard.modules())
            assert any(p.requires_grad for p in heard.parameters()) == trainable
            frames = heard([sounds(9000)[0]])[0].frames
            assert frames.requires_grad == trainable, family
            if trainable:
                frames.square().sum().backward()
                learnt = [name for name, p in heard.named_parameters() if p.grad is not None and p.grad.any()]
                assert any("layers.0." in name for name in learnt) and any("conv" in name for name in learnt)


def test_a_fingerprint_is_of_weights_and_use(recogniser: Path, tmp_path: Path) -> None:
    first = ears(recogniser).fingerprint
    assert first == ears(write_ctranslate2(tmp_path / "ct2", recogniser)).fingerprint
    others = [{"layer": 1}, {"tail_sec": 0.5}, {"reads": "decoder"}]
    assert len({first, *(ears(recogniser, **other).fingerprint for other in others)}) == 4
    changed = ears(recogniser)
    with torch.no_grad():
        changed.encoder.model.conv1.bias[0] += 1
    assert changed.fingerprint != first


@torch.inference_mode()
def test_the_decoder_says_what_transformers_decodes(recogniser: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    heard = ears(recogniser, reads="decoder")
    model = WhisperForConditionalGeneration.from_pretrained(recogniser).eval()
    tokenizer = heard.decoder._tokenizer
    prompt = heard.decoder._prompt
    said = set()
    for seed in range(4):
        (sound,) = sounds(RATE * 7 // 10, seed)
        (found,) = heard([sound])
        mel = heard.encoder.reader.inputs(sound[None], RATE)
        tokens = tokenizer.encode(found.transcript, add_special_tokens=False).ids
        output = model(mel, decoder_input_ids=torch.tensor([[*prompt, *tokens]]), output_hidden_states=True)
        expected = output.decoder_hidden_states[-1][0, len(prompt) - 1 :][: len(found.frames)]
        assert torch.allclose(found.frames[: len(expected)], expected, atol=1e-4)
        said.add(found.transcript)
    assert len(said) > 1


@torch.inference_mode()
def test_the_decoder_gets_five_seconds_of_silence(tmp_path: Path) -> None:
    """That behind ``tail_sec`` of it was encoded once, alone; it stands where it stood there."""
    folder = write_whisper(tmp_path / "whisper", seconds=8)
    sound = sounds(RATE * 7 // 10)
    for tail_sec, heard_sec, all_sec in ((1.0, 1.7, 5.7), (6.0, 6.7, 6.7), (60.0, 8.0, 8.0), (-1.0, 8.0, 8.0)):
        heard = ears(folder, reads="decoder", tail_sec=tail_sec)
        own, most = round(heard_sec * 50), round(all_sec * 50)
        silence = heard.encoder.encode(torch.zeros(1, 320), 400)[:, own:most]
        text, states, *_ = heard.decoder.transcribe(torch.cat([heard.encoder.encode(sound, own), silence], 1))
        (found,) = heard([sound[0]])
        assert found.transcript == text and torch.equal(found.frames, states)


def test_a_loop_is_said_once() -> None:
    from voicegraft.encoders.whisper_decoder import _loop

    assert _loop([1, 2, 3, 4, *[5, 6, 7, 8] * 3]) == 8
    assert _loop([9] * 12) == 11
    assert _loop([1, 2, 1, 2, 1, 2]) == 0  # people say no, no, no
    assert _loop([*range(40)]) == 0


def test_mistakes_are_told(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEGRAFT_PARTS", str(tmp_path))
    with pytest.raises(VoicegraftError, match="voicegraft parts get whisper-base"):
        Ears()
    heard = ears(folders["whisper"])
    with pytest.raises(VoicegraftError, match="at least 50 ms of sound, got 49 ms"):
        heard([torch.zeros(790)])
    with pytest.raises(VoicegraftError, match="one channel"):
        heard([torch.zeros(2, 16_000)])
    with pytest.raises(VoicegraftError, match=f"from 0 to {NUM_LAYERS}, got 9"):
        ears(folders["whisper"], layer=9)
    with pytest.raises(VoicegraftError, match="recogniser of type whisper"):
        WhisperDecoder.from_pretrained(folders["hubert"])
    with pytest.raises(VoicegraftError, match="nothing learns"):
        Ears(EncoderSettings(str(folders["whisper"]), reads="decoder"), trainable=True)
    with pytest.raises(ValueError, match="layer"):
        EncoderSettings(reads="decoder", layer=2)
