"""Judges with weights from outside, on tiny random models saved as a user's would be."""

import json
import sys

import numpy as np
import pytest
import torch

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges import load as judges
from voicegraft.evaluation.judges.transformer import UtmosPredictor, WavLmJudge, WhisperRecognizer

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

RATE = 16_000
SILENCE = np.zeros(RATE, np.float32)


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """English only, as whisper-tiny.en: random words of a vocabulary of letters."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer

    folder = tmp_path_factory.mktemp("whisper")
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    (folder / "vocab.json").write_text(json.dumps({letter: n for n, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    tokenizer.add_tokens([f"<|{0.02 * n:.2f}|>" for n in range(1501)], special_tokens=False)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20).save_pretrained(folder)
    end, start, no_times = (tokenizer.convert_tokens_to_ids(special) for special in specials)
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=20, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_target_positions=32, pad_token_id=end, eos_token_id=end, bos_token_id=end, decoder_start_token_id=start,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    # Random logits would mostly pick marks that are not written out: they are forbidden, which leaves letters.
    settings = {"no_timestamps_token_id": no_times, "is_multilingual": False, "max_length": 20}
    settings |= {"begin_suppress_tokens": [end], "suppress_tokens": list(range(end, len(tokenizer)))}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    model.generation_config._from_model_config = False
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8, 8),
        conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8), num_feat_extract_layers=3, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, tdnn_dim=(16, 16, 32), tdnn_kernel=(5, 3, 1), tdnn_dilation=(1, 2, 1),
        xvector_output_dim=12, use_weighted_layer_sum=True, num_buckets=16, max_bucket_distance=32,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


class Loudness(torch.nn.Module):
    """Between 1 and 5 by the mean level of int16 samples."""

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        if samples.dtype != torch.int16:
            raise ValueError("int16 expected")
        return 1 + 4 * (samples.float().abs().mean() / 32768.0)


class TwoScores(torch.nn.Module):
    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples[0, :2].float()


@pytest.fixture
def utmos(tmp_path):
    torch.jit.script(Loudness()).save(str(tmp_path / "utmos.jit"))
    return tmp_path / "utmos.jit"


def test_whisper_hears_words_and_nothing_in_silence(whisper):
    recognizer = WhisperRecognizer(str(whisper))
    heard = recognizer.transcribe(noise(1.0), RATE)
    assert heard and "<|" not in heard
    assert recognizer.transcribe(noise(1.5), 24_000) != ""
    assert recognizer.transcribe(noise(1.0), RATE) == heard
    assert recognizer.transcribe(SILENCE, RATE) == recognizer.transcribe(SILENCE[:0], RATE) == ""


def test_whisper_hears_more_than_its_window(whisper):
    recognizer = WhisperRecognizer(str(whisper))
    recognizer._model.generation_config.suppress_tokens = []  # how far it came is told by timestamps
    windows = []
    recognizer._model.model.encoder.register_forward_hook(lambda *_: windows.append(1))
    recognizer.transcribe(noise(30.0), RATE)
    num_short = len(windows)
    assert "<|" not in recognizer.transcribe(noise(61.0), RATE)
    assert len(windows) - num_short >= max(3, num_short + 1)


def test_wavlm_gives_unit_vectors_at_any_length(wavlm):
    judge = WavLmJudge(str(wavlm))
    one, again, other = judge.embed(noise(1), RATE), judge.embed(0.1 * noise(1), RATE), judge.embed(noise(2, 1), RATE)
    assert one.shape == (12,) and np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ again == pytest.approx(1, abs=1e-4) != one @ other
    assert judge.embed(noise(0.15), RATE).shape == (12,)
    assert judge.embed(SILENCE, RATE) is judge.embed(SILENCE[:0], RATE) is None


def test_utmos_rates_sixteen_bit_samples(utmos):
    predictor = UtmosPredictor(str(utmos))
    score = predictor.score(noise(1.0), RATE)
    assert set(score) == {"ovrl"} and 1 < score["ovrl"] < 2
    assert predictor.score(0.1 * noise(1.0), RATE) == pytest.approx(score, abs=1e-3)
    assert predictor.score(SILENCE, RATE) == {}


def test_names_tell_weights_apart_and_keep_the_place_secret(whisper, wavlm, utmos):
    names = judges.load_judges(f"whisper:{whisper}", f"utmos:{utmos}", f"wavlm-sv:{wavlm}", "none").names
    assert [names[role].split()[0] for role in ("recognizer", "mos", "speaker")] == ["whisper", "utmos", "wavlm-sv"]
    weights = {role: name for role, name in names.items() if role != "texts"}
    assert all("/" not in name and len(name.split()[-1]) == 16 for name in weights.values())
    from transformers import WavLMForXVector

    model = WavLMForXVector.from_pretrained(wavlm)
    with torch.no_grad():
        model.feature_extractor.bias.add_(1)
    model.save_pretrained(wavlm)
    assert WavLmJudge(str(wavlm)).name != names["speaker"]


@pytest.mark.parametrize("load", [WhisperRecognizer, WavLmJudge])
def test_weights_that_are_not_here_are_not_downloaded(load, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("wants the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(VoicegraftError, match=r"hf download nobody/nothing.*nothing is downloaded here"):
        load("nobody/nothing")
    with pytest.raises(VoicegraftError, match="expected a folder with config"):
        load(str(tmp_path))


def test_pickled_weights_are_refused(wavlm, tmp_path):
    from transformers import WavLMForXVector

    model = WavLMForXVector.from_pretrained(wavlm)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(VoicegraftError, match=r"model\.safetensors"):
        WavLmJudge(str(tmp_path))


def test_files_that_are_no_utmos_are_refused(tmp_path):
    with pytest.raises(VoicegraftError, match=r"utmos\.jit of balacoon/utmos"):
        UtmosPredictor(str(tmp_path / "missing.jit"))
    (tmp_path / "text.jit").write_text("hello")
    with pytest.raises(VoicegraftError, match="as TorchScript"):
        UtmosPredictor(str(tmp_path / "text.jit"))
    torch.jit.script(TwoScores()).save(str(tmp_path / "two.jit"))
    with pytest.raises(VoicegraftError, match="into one score"):
        UtmosPredictor(str(tmp_path / "two.jit")).score(noise(1.0), RATE)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"recognizer": "sphinx"}, "no recognizer judge 'sphinx'; choose whisper, pocketsphinx, both or whisper:MODEL"),
        ({"recognizer": "whisper:"}, "whisper:MODEL"),
        ({"mos": "utmos"}, "dnsmos or utmos:MODEL"),
        ({"speaker": "whisper:x"}, "resemblyzer or wavlm-sv:MODEL"),
        ({"faults": "dnsmos"}, "pocketsphinx or none"),
    ],
)
def test_unknown_judges_are_named_with_the_known(asked, message, monkeypatch):
    for known in ("PocketSphinxRecognizer", "DnsMosPredictor", "ResemblyzerJudge"):
        monkeypatch.setattr(judges, known, object)
    with pytest.raises(VoicegraftError, match=message):
        judges.load_judges(**asked)


@pytest.mark.parametrize(
    ("package", "role"), [("pocketsphinx", "recognizer"), ("speechmos.dnsmos", "mos"), ("resemblyzer", "speaker")]
)
def test_every_missing_package_is_named_with_the_extra(package, role, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "onnxruntime", sys)
    load = {"recognizer": "PocketSphinxRecognizer", "mos": "DnsMosPredictor", "speaker": "ResemblyzerJudge"}[role]
    with pytest.raises(VoicegraftError, match=rf"{package.split('.')[0]}.*pip install voicegraft\[evaluate\]"):
        getattr(judges, load)()
