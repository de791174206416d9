"""A connector learns to read without the LLM; rare tokens are spelt."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode
from voicegraft.data.features import Encoded, FeaturesHeader, HeardSpeech, write_features
from voicegraft.data.manifest import read_manifest
from voicegraft.data.respelling import respelling
from voicegraft.encoders.listening import EncoderSettings
from voicegraft.fusion.backbone import load_backbone, tokenizer_fingerprint
from voicegraft.fusion.connectors.aligned import Aligned
from voicegraft.fusion.connectors.base import open_connector
from voicegraft.recipes.train_connector import (
    Read,
    SpecAugment,
    TrainConnectorConfig,
    _masked,
    _spikes,
    train_connector,
)
from voicegraft.train.config import LoopConfig

WIDTH, FRAMES_PER_LETTER = 20, 8
TOKENIZER = tiny.byte_tokenizer()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech in which every letter sounds alike, wherever it stands."""
    made = tmp_path_factory.mktemp("made")
    tiny.write_made_up_speech(made)
    tiny.write_backbone(made / "backbone")
    sound = np.random.default_rng(0).standard_normal((258, WIDTH))
    header = FeaturesHeader(EncoderSettings(), "ears", WIDTH, 50.0, tokenizer_fingerprint(TOKENIZER), "aligner")
    for shard in (made / "speech").iterdir():
        clips = []
        for utterance in read_manifest(shard):
            ids = encode(TOKENIZER, utterance.text)
            begins = FRAMES_PER_LETTER * np.arange(len(ids))
            frames = np.repeat(sound[ids], FRAMES_PER_LETTER, 0)
            clips.append(Encoded(frames, np.stack([ids, begins, begins + FRAMES_PER_LETTER], 1), None))
        write_features(made / "features" / "key" / shard.name, header, clips)
    return made


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def config(work: Path, **options: object) -> TrainConnectorConfig:
    loop = LoopConfig(steps=90, lr=5e-3, warmup_steps=5, precision="no", validate_every=1000)
    small = TrainConnectorConfig(
        str(work), str(work / "backbone"), width=48, layers=1, heads=2, dropout=0.0, least=1, order=0, batch_frames=1500,
        loop=loop, masks=SpecAugment(time_masks=0, width_masks=0), device="cpu",
    )  # fmt: skip
    return replace(small, **options)  # type: ignore[arg-type]


def test_it_learns_to_read(work: Path) -> None:
    train_connector(config(work, vary=0.3))
    model = open_connector(work / "connector")
    assert isinstance(model, Aligned)
    model.attach(*load_backbone(work / "backbone"))
    model.check_encoder(WIDTH, "ears")
    sound = np.random.default_rng(0).standard_normal((258, WIDTH))
    for text in (tiny.SENTENCES[0], "The owl sees now."):  # one of them was never heard
        frames = torch.from_numpy(np.repeat(sound[encode(TOKENIZER, text)], FRAMES_PER_LETTER, 0)).float()[None]
        assert TOKENIZER.decode(model.read(frames, torch.tensor([frames.shape[1]]))[0]) == text


def test_n_grams_are_counted_in_what_nothing_holds_back(work: Path) -> None:
    held = next(clip.utterance.text for clip in HeardSpeech(work).clips if clip.utterance.split != "train")
    counted = []
    for number, line in enumerate(["", held.upper(), "We zoom."]):
        (path := work / f"{number}.txt").write_text(f"{line}\n" * 3)
        train_connector(config(work, loop=LoopConfig(steps=1, precision="no"), order=3, texts=(path,)))
        model = open_connector(work / "connector")
        assert isinstance(model, Aligned) and model.ngrams is not None
        counted.append(model.ngrams.state_dict())
        for name in ("connector", "connector-training"):
            (work / name).rename(work / f"{name}-{number}")
    assert all(torch.equal(counted[0][key], counted[1][key]) for key in counted[0])
    assert counted[0]["keys3"].shape != counted[2]["keys3"].shape
    backbone, tokenizer = load_backbone(work / "backbone")
    model.attach(backbone, tokenizer)
    frames, lengths = torch.randn(2, 60, WIDTH), torch.tensor([60, 30])
    with torch.no_grad():
        vectors = model(frames, lengths).rows()
    for row, tokens in zip(vectors, model.read(frames, lengths), strict=True):
        assert torch.equal(row, backbone.get_input_embeddings().weight[tokens])  # as if the text had been written


def test_the_same_steps_make_the_same_weights(work: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    weights = []
    short = LoopConfig(steps=3, precision="no")
    for _ in range(2):
        train_connector(config(work, loop=short, masks=SpecAugment(), dropout=0.1))
        weights.append((work / "connector" / "weights.safetensors").read_bytes())
        for name in ("connector", "connector-training"):
            (work / name).rename(tmp_path_factory.mktemp("old") / name)
    assert weights[0] == weights[1]


def test_features_of_another_backbone_are_refused(work: Path) -> None:
    backbone, _ = load_backbone(work / "backbone")
    other = tiny.byte_tokenizer()
    other.add_tokens(["another"])
    backbone.resize_token_embeddings(len(other))
    backbone.save_pretrained(work / "other")
    other.save_pretrained(work / "other")
    with pytest.raises(VoicegraftError, match="another backbone"):
        train_connector(config(work, backbone=str(work / "other")))


def test_spikes_stand_where_tokens_are_said_and_never_on_one_another() -> None:
    def read(*centers: float) -> Read:
        return Read(None, torch.arange(1, 1 + len(centers)), torch.tensor(centers))  # type: ignore[arg-type]

    rows = _spikes([read(2.0, 13.0, 14.0, 15.9), read(19.0, 19.0, 19.0)], [6, 5], 6, stride=4)
    assert rows.tolist() == [[1, 0, 0, 2, 3, 4], [0, 0, 1, 2, 3, -1]]


def test_masks_hide_some_of_the_sound_and_never_all() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([200, 60])
    seen = _masked(torch.ones(2, 200, 40), lengths, SpecAugment()) > 0
    assert 0.6 < seen[0].float().mean() < 0.97
    assert 0.6 < seen[1, :60].float().mean() < 0.99 and seen[1, 60:].all(1).float().mean() < 1


CORPUS = ["the cat sat on the mat", "the cat ran", "the mat sat on the unseatable cat", "on the mat"] * 3


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, min_frequency=2, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("least", [1, 4, 1000])
def test_rare_tokens_are_spelt_with_frequent_ones(least: int) -> None:
    cutter = tokenizer()
    corpus = [encode(cutter, f" {text}") for text in CORPUS]
    spelling = respelling(cutter, corpus, least)
    used = [piece for text in corpus for piece in spelling(text)]
    for text in corpus:
        assert cutter.decode(spelling(text)) == cutter.decode(text)
    single = {piece for piece in spelling.pieces if len(cutter.convert_ids_to_tokens(piece)) == 1}
    assert set(used) <= set(spelling.pieces)
    assert all(used.count(piece) >= least for piece in set(spelling.pieces) - single)
    assert (len(used) == sum(map(len, corpus))) == (least == 1)
    assert (spelling.pieces == tuple(sorted(single))) == (least == 1000)
    assert set(encode(cutter, "abcxyzQ9")) - set(spelling.pieces) <= set(encode(cutter, "abc"))


def test_spelling_that_varies_says_the_same() -> None:
    cutter = tokenizer()
    text = encode(cutter, f" {CORPUS[0]}")
    spelling = respelling(cutter, [encode(cutter, f" {line}") for line in CORPUS], 2)
    draws = [spelling.varied(text, 0.5, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1] and len({tuple(draw) for draw in draws}) > 2
    for draw in draws:
        assert cutter.decode(draw) == cutter.decode(text) and set(draw) <= set(spelling.pieces)
        assert len(draw) > len(spelling(text))
    assert spelling.varied(text, 0.0, np.random.default_rng(0)) == spelling(text)
