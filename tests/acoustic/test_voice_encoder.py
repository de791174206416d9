"""A voice is a vector of length one that does not depend on how long or how loud the recording is."""

import torch

from tests import tiny
from voicegraft.acoustic.voice_encoder import VoiceEncoder, VoiceEncoderConfig

CONFIG = VoiceEncoderConfig(mel=tiny.MEL, channels=12, dilations=(1, 2), width=5)


@torch.inference_mode()
def test_vectors_have_length_one_and_tell_sounds_apart() -> None:
    torch.manual_seed(0)
    encoder = VoiceEncoder(CONFIG).eval()
    made = encoder(torch.randn(3, tiny.MEL.num_mels, 40) - 5)
    assert made.shape == (3, 5)
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(3))
    assert (made[0] - made[1]).norm() > 1e-3


@torch.inference_mode()
def test_the_same_said_twice_is_the_same_voice() -> None:
    """Pooling: what is repeated changes nothing but for the seam."""
    torch.manual_seed(0)
    encoder = VoiceEncoder(CONFIG).eval()
    mel = torch.randn(1, tiny.MEL.num_mels, 200) - 5
    once, twice = encoder(mel), encoder(torch.cat([mel, mel], -1))
    assert (once - twice).norm() < 0.2 * (once - encoder(torch.randn_like(mel) * 3)).norm()
