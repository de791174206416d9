"""What every semantic tokenizer owes its users, whatever it is made of; and pretrained encoders as they come."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from tests import encoders
from tests.encoders import KINDS, LAYER, NUM_LAYERS, VOCAB, open_units, sounds, write_encoder
from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.speech_encoder import FAMILIES, SpeechEncoder
from voicegraft.tokenizers.base import SemanticEncoder
from voicegraft.tokenizers.encoder_units import EncoderUnits
from voicegraft.tokenizers.loading import open_semantic


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tokenizer of a kind, written at the first call."""
    base = tmp_path_factory.mktemp("units")

    def folder(kind: str) -> Path:
        if not (base / kind).exists():
            encoders.write_units(base / kind, kind)
        return base / kind

    return folder


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> Path:
    return folder_of(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> SemanticEncoder:
    return open_units(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder's folder, as downloaded."""
    return write_encoder(tmp_path_factory.mktemp("source") / family, family)


def lengths(tokenizer: SemanticEncoder) -> list[int]:
    hop = tokenizer.spec.hop
    return [hop, hop + 1, 2 * hop - 1, 2 * hop, 7 * hop + 79, 7 * hop + 81, 50 * hop, 51 * hop, 130 * hop + 5]


@torch.inference_mode()
def test_there_is_one_code_per_hop_for_every_length(tokenizer: SemanticEncoder) -> None:
    spec = tokenizer.spec
    assert spec.frame_rate == 50 and spec.num_codebooks == 1
    for num_samples in lengths(tokenizer):
        codes = tokenizer.encode(sounds(num_samples))
        assert codes.shape == (1, 1, num_samples // spec.hop), num_samples
        assert not codes.is_floating_point()
        assert ((codes >= 0) & (codes < spec.vocab_size)).all()


@torch.inference_mode()
def test_codes_follow_the_sound(tokenizer: SemanticEncoder) -> None:
    one, other = (tokenizer.encode(sounds(32_000, seed)) for seed in (1, 2))
    assert len(one.unique()) > 5
    assert (one != other).float().mean() > 0.3


@torch.inference_mode()
def test_a_batch_is_its_single_sequences(tokenizer: SemanticEncoder) -> None:
    batch = sounds(70 * tokenizer.spec.hop + 7, batch=3)
    assert torch.equal(tokenizer.encode(batch), torch.cat([tokenizer.encode(row[None]) for row in batch]))


@torch.inference_mode()
def test_what_is_saved_again_says_the_same(tokenizer: SemanticEncoder, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "again", {"recipe": "test"})
    again = open_units(tmp_path / "again")
    assert again.spec == tokenizer.spec
    samples = sounds(60 * tokenizer.spec.hop)
    assert torch.equal(again.encode(samples), tokenizer.encode(samples))


def test_a_fingerprint_covers_the_weights(tokenizer: SemanticEncoder, tmp_path: Path) -> None:
    assert isinstance(tokenizer, torch.nn.Module)
    seen = {tokenizer.spec.fingerprint}
    names = [name for name, tensor in tokenizer.state_dict().items() if tensor.is_floating_point()]
    names = names[:: 1 + len(names) // 6]  # all would take minutes
    for name in names:
        other = copy.deepcopy(tokenizer)
        with torch.no_grad():
            other.state_dict()[name].view(-1)[0] += 1.0
        other.save(tmp_path / "other", {})
        found = open_units(tmp_path / "other").spec.fingerprint
        assert found not in seen, name
        seen.add(found)
    assert len(seen) == len(names) + 1 > 1


def test_the_fingerprint_is_of_the_same_weights_on_every_opening(folder: Path, tokenizer: SemanticEncoder) -> None:
    assert open_units(folder).spec.fingerprint == tokenizer.spec.fingerprint == tokenizer.spec.fingerprint


def test_units_that_sound_alike_begin_as_neighbours(tokenizer: SemanticEncoder) -> None:
    torch.manual_seed(0)
    vocab_size = tokenizer.spec.vocab_size
    rows = tokenizer.rows(48, 0.02)
    assert rows.shape == (vocab_size, 48)
    assert 0.01 < float(rows.std()) < 0.03
    codes = torch.arange(vocab_size).repeat(200)
    perturbed, others = tokenizer.perturb(codes, 0.1), codes[torch.randperm(len(codes))]
    far = [(rows[codes] - rows[other])[codes != other].norm(dim=-1).mean() for other in (perturbed, others)]
    assert far[0] < 0.9 * far[1]


def test_nudging_replaces_about_that_share(tokenizer: SemanticEncoder) -> None:
    torch.manual_seed(0)
    codes = torch.randint(tokenizer.spec.vocab_size, (40, 50))
    assert torch.equal(tokenizer.perturb(codes, 0.0), codes)
    for share in (0.05, 0.2):
        perturbed = tokenizer.perturb(codes, share)
        assert perturbed.shape == codes.shape and perturbed.dtype == codes.dtype
        assert ((perturbed >= 0) & (perturbed < tokenizer.spec.vocab_size)).all()
        # An FSQ code has several digits, each of which moves with this chance: so the range is a wide one.
        assert 0.6 * share < float((perturbed != codes).float().mean()) < 2.5 * share


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(folder.rglob("*.safetensors"))):
        for name, damaged in {
            "cut": path.read_bytes()[:-9],
            "changed": path.read_bytes()[:-4] + b"\x00\x00\x80\x40",
        }.items():
            broken = tmp_path / f"{number}-{name}"
            copy_folder(folder, broken)
            (broken / path.relative_to(folder)).write_bytes(damaged)
            with pytest.raises(VoicegraftError, match=f"{broken}"):
                open_units(broken)
    for path in sorted(folder.rglob("*.json")):
        broken = tmp_path / path.relative_to(folder).as_posix().replace("/", "-")
        copy_folder(folder, broken)
        (broken / path.relative_to(folder)).unlink()
        with pytest.raises(VoicegraftError, match=f"{broken}"):
            open_units(broken)
    with pytest.raises(VoicegraftError, match="does not exist"):
        open_semantic(tmp_path / "nothing")


def copy_folder(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


@torch.inference_mode()
@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_frames_are_the_hidden_states_of_transformers(source: Path, layer: int) -> None:
    """A run through the whole model; its last hidden state may have passed a final norm, so it is not compared."""
    encoder = SpeechEncoder.from_pretrained(source, layer)
    samples = sounds(50 * encoder.hop, batch=2)
    features = encoder(samples)
    assert features.shape == (2, 50, 16)
    assert torch.isfinite(features).all()
    if layer < NUM_LAYERS:
        span = encoder.reader.span(50)
        inputs = encoder.reader.inputs(samples, span)
        whole = AutoModel.from_pretrained(source).eval()
        part = encoder.reader.own(whole)
        expected = part(inputs, output_hidden_states=True).hidden_states[layer]
        assert torch.allclose(features, expected[:, :50], atol=1e-4)


@torch.inference_mode()
def test_sound_shorter_than_a_hop_has_no_frame(source: Path) -> None:
    encoder = SpeechEncoder.from_pretrained(source, LAYER)
    for num_samples in (0, 1, encoder.hop - 1):
        assert encoder(sounds(num_samples, batch=2)).shape == (2, 0, encoder.width)


@torch.inference_mode()
def test_only_the_wanted_layers_are_kept_and_run(source: Path, tmp_path: Path) -> None:
    sizes = []
    for layer in range(NUM_LAYERS + 1):
        encoder = SpeechEncoder.from_pretrained(source, layer)
        encoder.save(tmp_path / str(layer))
        again = SpeechEncoder.load(tmp_path / str(layer))
        assert again.layer == layer
        assert torch.equal(again(sounds(8000)), encoder(sounds(8000)))
        sizes.append((tmp_path / str(layer) / "model.safetensors").stat().st_size)
    assert sizes == sorted(set(sizes))


@torch.inference_mode()
def test_every_window_of_long_sound_is_read_in_full(source: Path) -> None:
    """Features depend on what is around; where there is a limit, the frames of a window depend on it alone."""
    encoder = SpeechEncoder.from_pretrained(source, LAYER)
    window = encoder.reader.window or 50
    samples = sounds((2 * window + 9) * encoder.hop)
    features = encoder(samples)
    assert features.shape[1] == 2 * window + 9
    if encoder.reader.window:
        assert torch.allclose(features[:, :window], encoder(samples[:, : window * encoder.hop]), atol=1e-5)
        assert torch.allclose(features[:, -9:], encoder(samples[:, -window * encoder.hop :])[:, -9:], atol=1e-5)


def test_features_can_be_standardised(source: Path) -> None:
    units = EncoderUnits.from_encoder(source, LAYER, VOCAB)
    before = units.spec.fingerprint
    units.standardise(units.features(sounds(48_000))[0])
    features = units.features(sounds(48_000))[0]
    assert torch.allclose(features.mean(0), torch.zeros(16), atol=1e-3)
    assert torch.allclose(features.std(0, correction=0), torch.ones(16), atol=1e-3)
    assert units.spec.fingerprint != before


def test_what_cannot_be_an_encoder_is_refused(source: Path, tmp_path: Path) -> None:
    for layer in (-1, NUM_LAYERS + 1):
        with pytest.raises(VoicegraftError, match=f"from 0 to {NUM_LAYERS}, got {layer}"):
            EncoderUnits.from_encoder(source, layer, VOCAB)
    for vocab_size in (1, 4097):
        with pytest.raises(VoicegraftError, match=f"from 2 to 4096, got {vocab_size}"):
            EncoderUnits.from_encoder(source, LAYER, vocab_size)
    with pytest.raises(VoicegraftError, match="nothing: there is no such folder; check the path"):
        EncoderUnits.from_encoder(tmp_path / "nothing", LAYER, VOCAB)

    copy_folder(source, tmp_path / "deaf")
    (tmp_path / "deaf" / "preprocessor_config.json").unlink()
    with pytest.raises(VoicegraftError, match=r"preprocessor_config\.json"):
        EncoderUnits.from_encoder(tmp_path / "deaf", LAYER, VOCAB)

    copy_folder(source, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(VoicegraftError, match="safetensors"):
        EncoderUnits.from_encoder(tmp_path / "pickled", LAYER, VOCAB)


def test_weights_that_lack_a_layer_are_refused(source: Path, tmp_path: Path) -> None:
    """transformers would fill it with random numbers."""
    SpeechEncoder.from_pretrained(source, 1).save(tmp_path / "short")
    path = tmp_path / "short" / "config.json"
    config = json.loads(path.read_text())
    config.update({key: 2 for key in ("num_hidden_layers", "encoder_layers") if key in config})
    path.write_text(json.dumps(config))
    with pytest.raises(VoicegraftError, match="incomplete"):
        SpeechEncoder.load(tmp_path / "short")


def test_other_models_are_refused_with_a_list_of_what_fits(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(VoicegraftError, match=r"hubert.*wav2vec2-bert.*wavlm.*whisper.*found bert"):
        EncoderUnits.from_encoder(tmp_path, 1, VOCAB)


def test_a_whisper_extractor_of_another_length_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, "whisper")
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chunk_length": 2, "n_samples": 32_000}))
    with pytest.raises(VoicegraftError, match=r"16000 samples.*32000"):
        EncoderUnits.from_encoder(tmp_path, 1, VOCAB)


@torch.inference_mode()
@pytest.mark.gpu
def test_units_move_to_the_gpu(folder: Path) -> None:
    on_cpu, on_gpu = open_units(folder), open_units(folder)
    assert isinstance(on_gpu, torch.nn.Module)
    on_gpu.cuda()
    samples = sounds(60 * on_cpu.spec.hop)
    codes = on_gpu.encode(samples.cuda())
    assert codes.is_cuda
    assert (codes.cpu() == on_cpu.encode(samples)).float().mean() > 0.9
    assert on_gpu.perturb(codes, 0.5).is_cuda
