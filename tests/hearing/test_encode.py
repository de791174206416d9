"""Features of a corpus: once, resumable, and what the encoder says; tokens stand where their words are said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.encoders import write_encoder
from tests.whispers import write_whisper
from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.features import HeardSpeech
from voicegraft.data.token_times import TokenAligner
from voicegraft.encoders.listening import Ears, EncoderSettings
from voicegraft.recipes.encode import EncodeConfig, ShardEncoder, encode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("made")
    tiny.write_made_up_speech(work)
    tiny.write_backbone(work / "backbone")
    write_whisper(work / "whisper", seconds=4)
    write_encoder(work / "hubert", "hubert")
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def config(work: Path, **options: object) -> EncodeConfig:
    encoder = EncoderSettings(str(work / "whisper"))
    defaults = {"encoder": encoder, "backbone": str(work / "backbone"), "aligner": str(work / "whisper")}
    return EncodeConfig(str(work), **{**defaults, "device": "cpu", **options})  # type: ignore[arg-type]


def test_features_are_what_the_encoder_hears(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode(config(work))
    assert "in 3 shards" in capsys.readouterr().out
    heard = HeardSpeech(work)
    assert len(heard.clips) == 12 and heard.header.width == 64 and heard.header.frames_per_sec == 50
    ears = Ears(EncoderSettings(str(work / "whisper")))
    assert heard.header.fingerprint == ears.fingerprint
    for clip in heard.clips[::3]:
        sound = torch.from_numpy(resampled(heard.samples(clip), heard.rate(clip), ears.sample_rate))
        with torch.inference_mode():
            expected = ears([sound])[0].frames.numpy()
        frames = heard.frames(clip)
        assert frames.dtype == np.float16 and np.allclose(frames, expected, atol=0.02)
        tokens = heard.alignment(clip)
        ids = tiny.byte_tokenizer()(clip.utterance.text, add_special_tokens=False)["input_ids"]
        assert tokens[:, 0].tolist() == ids
        assert tokens[0, 1] == 0 and (tokens[1:, 1] == tokens[:-1, 2]).all() and (tokens[:, 1] <= tokens[:, 2]).all()
        assert tokens[-1, 2] <= len(frames)
        assert heard.transcript(clip) is None


def test_a_killed_run_goes_on(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    encode(config(work))
    whole = {p.relative_to(work): p.read_bytes() for p in (work / "features").rglob("*.*")}
    shutil.rmtree(work / "features")
    clips, seen = ShardEncoder._clips, []

    def mortal(self: ShardEncoder, shard: str):  # type: ignore[no-untyped-def]
        for clip in clips(self, shard):
            seen.append(clip)
            if len(seen) == 6:
                raise KeyboardInterrupt
            yield clip

    with monkeypatch.context() as patch:
        patch.setattr(ShardEncoder, "_clips", mortal)
        with pytest.raises(KeyboardInterrupt):
            encode(config(work))
    done = [path.parent.name for path in (work / "features").glob("*/*/features.json")]
    assert len(done) == 1 and not done[0].startswith(".")
    encode(config(work))
    assert "in 2 shards" in (told := capsys.readouterr().out) and "1 shards were there" in told
    assert {p.relative_to(work): p.read_bytes() for p in (work / "features").rglob("*.*")} == whole


def test_kinds_of_features_lie_beside_one_another(work: Path) -> None:
    encode(config(work, shards=("ann",)))
    (first,) = (path.name for path in (work / "features").iterdir())
    hubert = EncoderSettings(str(work / "hubert"), layer=1)
    encode(config(work, encoder=hubert, shards=("ann", "ben")))
    encode(config(work, encoder=EncoderSettings(str(work / "whisper"), reads="decoder"), shards=("ann",)))
    with pytest.raises(VoicegraftError, match=r"several kinds.*name one"):
        HeardSpeech(work)
    assert len(HeardSpeech(work, first).clips) == 4
    kinds = [HeardSpeech(work, path.name) for path in (work / "features").iterdir()]
    (other,) = (kind for kind in kinds if kind.header.encoder == hubert)
    assert len(other.clips) == 8 and other.header.width == 16
    (decoder,) = (kind for kind in kinds if kind.header.encoder.reads == "decoder")
    assert all(isinstance(decoder.transcript(clip), str) for clip in decoder.clips)
    one = HeardSpeech(work, first)
    for a, b in zip(one.clips, other.clips, strict=False):
        assert np.array_equal(one.alignment(a), other.alignment(b))  # both of 50 frames a second


def test_features_that_do_not_fit_are_refused(work: Path) -> None:
    with pytest.raises(VoicegraftError, match="run voicegraft recipe encode"):
        HeardSpeech(work)
    encode(config(work, shards=("ann",)))
    (features,) = (work / "features").glob("*/ann")
    offsets = np.load(features / "frames" / "offsets.npy")
    np.save(features / "frames" / "offsets.npy", offsets[:-1])
    for again in (lambda: HeardSpeech(work), lambda: encode(config(work, shards=("ann",)))):
        with pytest.raises(VoicegraftError, match="holds 3 clips, the speech 4: delete it"):
            again()


class _Attentive(torch.nn.Module):
    """A decoder whose tokens are the words, and which looks at one stretch of frames after the other."""

    def __init__(self, bounds: list[int]) -> None:
        super().__init__()
        self.bounds = bounds

    def attention(self, encoded: torch.Tensor, text: str) -> tuple[list[tuple[int, int]], torch.Tensor]:
        weights = torch.zeros(encoded.shape[1], len(self.bounds) + 1)
        for token, (begin, end) in enumerate(zip([0, *self.bounds], [*self.bounds, len(weights)], strict=True)):
            weights[begin:end, token] = 1.0
        return [(0, 3), (3, 7), (7, 8)], weights


def test_tokens_stand_where_the_recogniser_looks(made: Path) -> None:
    aligner = TokenAligner(str(made / "whisper"), tiny.byte_tokenizer())
    aligner.decoder = _Attentive([30, 70, 80])
    tokens = aligner("The owl.", torch.zeros(100, 64))
    assert tokens[:, 2].tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    assert tokens[:, 1].tolist() == [0, *tokens[:-1, 2]]
    crowded = aligner("The owl.", torch.zeros(2, 64))
    assert crowded[-1, 2] <= 2 and (crowded[:, 1] <= crowded[:, 2]).all()


def test_the_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        EncodeConfig(workers=0)
