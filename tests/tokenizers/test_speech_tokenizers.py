"""The codec and the semantic tokenizer: what their codes may depend on, and that they can be stored."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.tokenizers.codec import Codec
from voicegraft.tokenizers.semantic import SemanticTokenizer, SemanticTrainer, warp_frequency

HOP = 480
AHEAD = 392  # samples that the codec sees beyond the end of a frame


def noise(num_samples: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(seed))


def trained_codec() -> Codec:
    """A codec whose codebooks lie where its latents are, so that codes tell inputs apart."""
    model = tiny.codec().train()
    model.rvq.started.fill_(False)
    with torch.no_grad():
        model(noise(HOP * 60, seed=9))
    return model.eval()


@pytest.fixture(scope="module")
def codec() -> Codec:
    return trained_codec()


@pytest.fixture(scope="module")
def semantic() -> SemanticTokenizer:
    """With the statistics of its bottleneck learnt, as after training: every level is in use."""
    torch.manual_seed(0)
    model = SemanticTokenizer(tiny.SEMANTIC)
    with torch.no_grad():
        for seed in range(40):
            model.latents(model.log_mel(noise(HOP * 20, seed)))
    return model.eval()


@torch.inference_mode()
def test_the_codec_looks_half_a_window_ahead_and_no_further(codec: Codec) -> None:
    samples = noise(HOP * 20)
    codes = codec.encode(samples)
    changed_inside = 0
    for frame in range(4, 16):
        end = (frame + 1) * HOP
        beyond, within = samples.clone(), samples.clone()
        beyond[:, end + AHEAD :] = 1.0
        within[:, end + AHEAD // 2 :] = 1.0
        assert torch.equal(codec.encode(beyond)[..., : frame + 1], codes[..., : frame + 1])
        changed_inside += int((codec.encode(within)[..., frame] != codes[..., frame]).any())
        assert (codec.encode(beyond) != codes).any()
    assert changed_inside > 6  # the look-ahead is used


@torch.inference_mode()
def test_the_codecs_decoder_never_looks_ahead(codec: Codec) -> None:
    codes = codec.encode(noise(HOP * 20))
    mel = codec.decode_mel(codes)
    assert mel.shape == (1, tiny.CODEC.mel.num_mels, 40)
    for frame in (0, 1, 7, 18):
        other = codes.clone()
        other[..., frame + 1 :] = (other[..., frame + 1 :] + 1) % tiny.CODEC.codebook_size
        changed = codec.decode_mel(other)
        assert torch.allclose(changed[..., : 2 * (frame + 1)], mel[..., : 2 * (frame + 1)], atol=1e-5)
        assert not torch.allclose(changed[..., 2 * (frame + 1) :], mel[..., 2 * (frame + 1) :], atol=1e-2)


@torch.inference_mode()
@pytest.mark.parametrize("num_samples", [HOP, HOP * 3 - 1, HOP * 7 + 250])
def test_there_is_one_frame_per_hop(codec: Codec, semantic: SemanticTokenizer, num_samples: int) -> None:
    samples = noise(num_samples)
    assert codec.encode(samples).shape == (1, 3, num_samples // HOP)
    assert semantic.encode(samples).shape == (1, 1, num_samples // HOP)


@torch.inference_mode()
def test_a_batch_is_its_single_sequences(codec: Codec, semantic: SemanticTokenizer) -> None:
    both = torch.cat([noise(HOP * 10, 1), noise(HOP * 10, 2)])
    for tokenizer in (codec, semantic):
        assert torch.equal(tokenizer.encode(both), torch.cat([tokenizer.encode(row[None]) for row in both]))


@torch.inference_mode()
def test_specs_say_what_the_codes_are(codec: Codec, semantic: SemanticTokenizer) -> None:
    for tokenizer in (codec, semantic):
        spec = tokenizer.spec
        codes = tokenizer.encode(noise(HOP * 40))
        assert codes.shape == (1, spec.num_codebooks, 40)
        assert codes.min() >= 0 and codes.max() < spec.vocab_size
        assert (spec.sample_rate, spec.hop, spec.frame_rate) == (24_000, HOP, 50.0)
    assert codec.spec.fingerprint != semantic.spec.fingerprint


@torch.inference_mode()
def test_what_is_loaded_is_what_was_rounded_and_saved(tmp_path: Path) -> None:
    for name, model in (("codec", trained_codec()), ("semantic", SemanticTokenizer(tiny.SEMANTIC).eval())):
        before = model.fingerprint()
        rounded = model.half().float()
        rounded.save(tmp_path / name, {"recipe": "test"})
        loaded = type(model).load(tmp_path / name)
        assert loaded.fingerprint() == rounded.fingerprint() != before
        assert not any(p.requires_grad for p in loaded.parameters()) and not loaded.training
        again = type(model).load(tmp_path / name)
        assert torch.equal(loaded.encode(noise(HOP * 9)), again.encode(noise(HOP * 9)))


def test_a_fingerprint_covers_every_weight_but_not_the_moving_averages() -> None:
    model = trained_codec()
    seen = {model.fingerprint()}
    with torch.no_grad():
        model.rvq.sums.add_(1.0)
        model.rvq.counts.add_(1.0)
        assert model.fingerprint() in seen
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and name not in ("rvq.sums", "rvq.counts"):
                tensor.view(-1)[0] += 1.0
                assert model.fingerprint() not in seen, name
                seen.add(model.fingerprint())


def test_the_codec_learns_and_all_parts_get_gradients() -> None:
    torch.manual_seed(0)
    model = Codec(tiny.CODEC)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        adam.zero_grad()
        loss, parts = model(noise(HOP * 30, seed=step % 3))
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        adam.step()
        losses.append(float(parts["mel"].detach()))
    assert losses[-1] < 0.7 * losses[0]


@torch.inference_mode()
def test_semantic_codes_do_not_hear_a_fixed_filter(semantic: SemanticTokenizer) -> None:
    """A loudness or a microphone adds the same to every frame of the log-mel."""
    mel = semantic.log_mel(noise(HOP * 20))
    tilt = torch.linspace(-2, 2, mel.shape[1])[:, None]
    codes = semantic.encode_mel(mel)
    assert codes.unique().numel() > 3
    assert (semantic.encode_mel(mel + tilt) == codes).float().mean() > 0.95  # rounding at the edge of a level


def test_the_semantic_trainer_teaches_phones_pitch_and_mels() -> None:
    torch.manual_seed(0)
    trainer = SemanticTrainer(SemanticTokenizer(tiny.SEMANTIC))
    mel = torch.randn(4, 20, 24)
    phones = torch.arange(12).repeat(4, 1) // 3
    phones[:, -2:] = -100
    pitch = torch.linspace(-0.5, 0.5, 12).repeat(4, 1)
    pitch[:, ::3] = torch.nan
    batch = (mel, mel, phones, pitch, torch.tensor([0, 1, 2, 3]))
    loss, parts = trainer(*batch, noise_share=0.5)
    loss.backward()
    assert torch.isfinite(loss) and parts.keys() >= {
        "phone",
        "phone_accuracy",
        "mel",
        "pitch",
        "code_perplexity",
    }
    for name, parameter in trainer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or parameter.ndim < 2, name


def test_warping_moves_a_band_and_one_changes_nothing() -> None:
    mel = torch.zeros(2, 40, 3)
    mel[:, 20] = 1.0
    warped = warp_frequency(mel, torch.tensor([1.0, 0.8]))
    assert torch.equal(warped[0], mel[0])
    assert int(warped[1, :, 0].argmax()) == 25  # the band is now read where 0.8 * 25 = 20
    edge = warp_frequency(mel, torch.tensor([2.0, 2.0]))
    assert edge.shape == mel.shape and torch.isfinite(edge).all()
