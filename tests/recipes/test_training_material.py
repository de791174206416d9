"""What the training recipes feed their models."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import sentence_ids
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.prepared import Clip, PreparedSpeech
from voicegraft.data.sequences import plain_sequence, speech_sequence
from voicegraft.data.shards import RaggedArray, write_ragged
from voicegraft.data.speech_sequences import (
    WORDS_PER_LIST,
    Context,
    LazySequences,
    Plain,
    Spelling,
    sentences_of,
    vary,
    word_lists,
)
from voicegraft.data.splits import text_key
from voicegraft.data.tokens import Tokens
from voicegraft.recipes.speech_material import Material, Round, material
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_acoustic import Corruption, Row, TrainAcousticConfig, stack
from voicegraft.recipes.train_codec import waveform_crops
from voicegraft.recipes.train_semantic import Batches, TrainSemanticConfig
from voicegraft.recipes.train_speech import TrainSpeechConfig, corrupt_inputs
from voicegraft.recipes.train_vocoder import pitch_tracks
from voicegraft.text.frontend import open_frontend
from voicegraft.text.units import PHONES
from voicegraft.tokenizers.fsq import FSQ
from voicegraft.tokenizers.semantic import SemanticConfig, SemanticTokenizer
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, MASK

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("material")
    tiny.write_made_up_speech(work)
    return work


def test_crops_follow_from_the_number_and_the_seed(work: Path) -> None:
    speech = PreparedSpeech(work, ["ann"])
    clips = speech.select("train")
    one = waveform_crops(speech, clips, 4, 9600, number=3, seed=1)
    assert one.shape == (4, 9600) and one.abs().max() <= 1
    assert torch.equal(one, waveform_crops(speech, clips, 4, 9600, number=3, seed=1))
    for number, seed in ((4, 1), (3, 2)):
        assert not torch.equal(one, waveform_crops(speech, clips, 4, 9600, number, seed))
    whole = speech.samples(clips[0])
    long = waveform_crops(speech, clips[:1], 1, len(whole) + 100, 0, 0)[0].numpy()
    assert np.array_equal(long, np.pad(whole, (0, 100)))


def test_semantic_crops_keep_mels_phones_and_pitch_together(work: Path) -> None:
    config = TrainSemanticConfig(str(work), model=tiny.SEMANTIC, batch_size=6, crop_frames=20, human_share=0.5)
    batches = Batches(config, PreparedSpeech(work), CPU, salt=0)
    batch = batches(7)
    assert {k: tuple(v.shape) for k, v in batch.items()} == {
        "mel": (6, 20, 40),
        "phones": (6, 20),
        "pitch": (6, 20),
        "speaker": (6,),
        "warp": (6,),
    }
    again = batches(7)
    assert all(torch.equal(v.nan_to_num(), again[k].nan_to_num()) for k, v in batch.items())
    human = batch["speaker"] < 2
    assert human.sum() == 3
    assert (batch["phones"][human] == -100).all() and (batch["phones"][~human] >= 0).any()
    assert ((batch["warp"] - 1).abs() <= config.warp + 1e-6).all()
    # A long crop is padded with silence that nobody is asked about.
    long = Batches(TrainSemanticConfig(str(work), model=tiny.SEMANTIC, crop_frames=500), PreparedSpeech(work), CPU, 0)
    clip = long.synthetic[0]
    row = long.crop(clip, 0.5)
    frames = round(clip.utterance.duration_sec * 50)
    assert (row["phones"][frames:] == -100).all() and (row["phones"][:frames] >= 0).all()
    assert np.isnan(row["pitch"][frames:]).all() and np.allclose(row["mel"][:, 2 * frames :], np.log(1e-5))
    # Where a phone sounds there is energy, where a boundary is there is little.
    loud = np.exp(row["mel"]).reshape(20, -1, 2).sum((0, 2))[:frames]
    spoken = row["phones"][:frames] < len(PHONES)
    assert loud[spoken].mean() > 1.5 * loud[~spoken].mean()


def test_the_vocoders_pitch_lies_ahead_of_its_codes(work: Path, tmp_path: Path) -> None:
    speech = PreparedSpeech(work, ["ann"])
    pitch = pitch_tracks(speech, tmp_path / "pitch", tiny.VOCODER)
    for clip in speech.clips:
        track = pitch(clip)
        assert len(track) == 2 * (len(speech.samples(clip)) // tiny.FRAME)
        voiced = track[~np.isnan(track)]
        assert len(voiced) > 10 and np.abs(np.median(voiced) - np.log(190)) < 0.05


def test_tokens_are_kept_and_those_of_another_tokenizer_refused(work: Path) -> None:
    tiny.write_parts(work)
    config = TokenizeConfig(str(work), device="cpu")
    tokenize(config)
    files = {p: p.stat().st_mtime_ns for p in (work / "tokens").rglob("*") if p.is_file()}
    tokenize(config)
    assert files and {p: p.stat().st_mtime_ns for p in files} == files
    clip = PreparedSpeech(work, ["ann"]).clips[0]
    with pytest.raises(VoicegraftError, match="but 'another' is in use"):
        Tokens(work, "codec", "another")(clip)


def test_damage_is_as_rare_and_as_small_as_configured() -> None:
    torch.manual_seed(0)
    config = TrainAcousticConfig(forget_history=0.2, wrong_history=0.3, wrong_digits=0.1)
    damage = Corruption(config, SemanticTokenizer(SemanticConfig(levels=(5, 3, 7))))
    sums = torch.randn(20, 100, 4)
    history = damage.history(sums)
    forgotten = (history == 0).all(-1)
    kept = (history == sums).all(-1)
    assert forgotten.float().mean() == pytest.approx(0.2, abs=0.03)
    assert (~kept & ~forgotten).float().mean() == pytest.approx(0.3, abs=0.03)
    fsq = FSQ((5, 3, 7))
    ids = torch.randint(106, (20, 100))  # 105 stands for beyond
    corrupt_inputs = damage.semantic(ids)
    assert torch.equal(corrupt_inputs[ids == 105], ids[ids == 105]) and (corrupt_inputs[ids < 105] < 105).all()
    steps = (fsq.digits(corrupt_inputs[ids < 105]) - fsq.digits(ids[ids < 105])).abs()
    assert steps.max() == 1 and 0.05 < (steps > 0).float().mean() < 0.1  # those at an edge stay


def test_codes_that_were_said_are_hidden_or_nudged_and_nothing_else_is() -> None:
    torch.manual_seed(0)
    fsq = FSQ(tiny.SEMANTIC.levels)
    first = tiny.VOCABULARY.first_code
    token = torch.randint(-1, first + fsq.vocab_size, (40, 200))
    tokenizer = SemanticTokenizer(tiny.SEMANTIC)
    batch = {"token": token, "target": torch.randint(9, (40, 200)), "more": token[..., None].expand(-1, -1, 2)}
    made = corrupt_inputs(batch, tiny.VOCABULARY, tokenizer, TrainSpeechConfig(hidden_codes=0.3, wrong_digits=0.1))
    codes = token >= first
    assert torch.equal(made["token"][~codes], token[~codes]) and torch.equal(made["target"], batch["target"])
    before, after = token[codes], made["token"][codes]
    hidden = after == MASK
    assert hidden.float().mean() == pytest.approx(0.3, abs=0.02)
    assert (after[~hidden] >= first).all()
    steps = (fsq.digits(after[~hidden] - first) - fsq.digits(before[~hidden] - first)).abs()
    assert steps.max() == 1 and 0.04 < (steps > 0).float().mean() < 0.1
    assert (made["more"] == MASK).float().mean() == pytest.approx(0.3 * float(codes.float().mean()), abs=0.02)
    same = corrupt_inputs(batch, tiny.VOCABULARY, tokenizer, TrainSpeechConfig(hidden_codes=0.0, wrong_digits=0.0))
    assert torch.equal(same["token"], token)


def test_word_lists_show_rare_words_often() -> None:
    lexicon = Lexicon({"the": ("dh", "ax"), "owl": ("aw", "l"), "yacht": ("y", "aa", "t")})
    sentences = ["The owl."] + ["The the the."] * 33
    lists = word_lists(lexicon, sentences, 2000, seed=0)
    assert lists == word_lists(lexicon, sentences, 2000, seed=0) != word_lists(lexicon, sentences, 2000, seed=1)
    words = [w.lower().strip(".") for text in lists for w in text.split()]
    assert len(words) == 2000 * WORDS_PER_LIST and all(t[0].isupper() and t.endswith(".") for t in lists)
    said = {word: words.count(word) / len(words) for word in lexicon.entries}
    whole = 101**0.5 + 2**0.5 + 1
    for word, share in {"the": 101**0.5, "owl": 2**0.5, "yacht": 1}.items():
        assert said[word] == pytest.approx(share / whole, abs=0.01)


def test_no_pronunciation_is_validated_that_is_trained_on(work: Path) -> None:
    speech = PreparedSpeech(work)
    clips = [clip.utterance for clip in speech.clips]
    texts = [f"The {word} number {n} sees my house." for n in range(100) for word in ("owl", "dog")]
    sentences = [*texts, *(u.text for u in clips), *(text.upper() for text in texts)]
    train, held_back = (sentences_of(split, sentences, speech) for split in ("train", "val"))
    assert sorted([*train, *held_back]) == sorted(sentences)
    keys, trained = {text_key(text) for text in held_back}, {text_key(text) for text in train}
    assert len(keys) >= 20 and not keys & trained
    assert all((text_key(u.text) in trained) == (u.split == "train") for u in clips)
    assert sentences_of("val", sentences[::-1], speech) == held_back[::-1]
    assert not sentences_of("val", [], speech)


def test_the_expert_validates_other_sentences_than_it_trains_on(tmp_path: Path) -> None:
    """However few there are beside those that are asked for."""
    tiny.write_made_up_speech(tmp_path)
    heard: dict[str, list[str]] = {}

    class Texts:
        def of_clip(self, clip: Clip, train: bool) -> None: ...

        def of_text(self, number: int, text: str, train: bool) -> None:
            heard.setdefault("train" if train else "val", []).append(text)

        def length(self, clip: Clip) -> int:
            return 0

    speech = PreparedSpeech(tmp_path)
    sentences = [f"{name} {verb} {place}." for name in "ABCDEF" for verb in ("sees", "has") for place in "XYZ"]
    for split, count in (("train", 20_000), ("val", 200)):
        material(Texts(), speech, sentences_of(split, sentences, speech), None, split, count, 0)
    assert len(heard["train"]) + len(heard["val"]) == len(sentences) and not set(heard["train"]) & set(heard["val"])


def test_rows_are_stacked_with_padding_that_is_not_trained() -> None:
    heard = np.zeros(7, np.float32)
    rows = [Row(np.arange(n), np.ones((2 * n, 2), np.int16), np.arange(2 * n) // 2, heard, n % 2) for n in (3, 5)]
    batch = stack(rows, 27, CPU)
    assert batch.semantic.tolist() == [[0, 1, 2, 27, 27], [0, 1, 2, 3, 4]]
    assert batch.codes.shape == (2, 2, 10) and (batch.codes[0, :, 6:] == -1).all() and (batch.codes[1] == 1).all()
    assert batch.tokens[0].tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 0, 0]
    assert batch.voice.tolist() == [1, 1] and batch.reference.shape == (2, 7)


def test_sequences_are_mixed_by_the_shares_of_a_round() -> None:
    tokenizer = tiny.byte_tokenizer()

    def sequences(texts: tuple[str, ...]) -> list:
        units = [tiny.LEXICON.units(t) for t in texts]
        return [
            speech_sequence(tiny.VOCABULARY, sentence_ids(tokenizer, t), tiny.words_said(t), "ann", u)
            for t, u in zip(texts, units, strict=True)
            if u is not None
        ]

    mixed = Material(sequences(tiny.SENTENCES[:1]), sequences(tiny.SENTENCES[1:3]), sequences(tiny.SENTENCES * 5))
    items, buckets = mixed.mixed(Round(human_share=0.5, synthetic_share=0.3), budget=400)
    positions = np.zeros(3)
    for number in range(1500):
        for i in buckets.draw(number, 0):
            positions[0 if i == 0 else 1 if i < 3 else 2] += len(items[i])
    np.testing.assert_allclose(positions / positions.sum(), [0.5, 0.3, 0.2], atol=0.04)


def test_some_texts_are_written_carelessly_and_always_the_same_ones() -> None:
    texts = [vary("The Owl sees.", str(key)) for key in range(1000)]
    assert texts == [vary("The Owl sees.", str(key)) for key in range(1000)]
    assert set(texts) == {"The Owl sees.", "the owl sees.", "The Owl sees"}
    assert 60 < texts.count("the owl sees.") < 140 and 60 < texts.count("The Owl sees") < 140


def test_initialisms_are_spelt_in_letters_whose_names_are_known() -> None:
    tokenizer = tiny.byte_tokenizer()
    names = {"b": ("b", "iy"), "f": ("eh", "f"), "i": ("ay",)}
    spelling = Spelling(tokenizer, Lexicon({**tiny.LEXICON.entries, **names}))
    for seed in range(40):
        letters, word, phones = spelling.initialism(random.Random(seed))
        assert 2 <= len(letters) <= 4 and set(letters) <= set("ABFIQ")
        assert word.letters == letters and [p for group in word.groups for p in group] == phones
        assert tokenizer.decode(word.ids) == letters


def test_a_text_is_spelt_word_by_word() -> None:
    tokenizer = tiny.byte_tokenizer()
    spelling = Spelling(tokenizer, tiny.LEXICON)
    for text in tiny.SENTENCES:
        units = tiny.LEXICON.units(text)
        words = spelling.words(text, units or [])
        assert words is not None
        assert " ".join(tokenizer.decode(word.ids) for word in words) == text
        spelt = [p for word in words for group in word.groups for p in group]
        assert spelt == [u for u in units or [] if u in PHONES]
        assert all(len(word.groups) == len(word.letters) for word in words)
    assert spelling.words("We go.", ["^", "w", "iy", "|", "g", "ow", "g", "ow", "g", "ow", "g", "."]) is None


def test_plain_training_reads_the_text_that_is_spoken(tmp_path: Path) -> None:
    tiny.write_made_up_speech(tmp_path)
    write_ragged(tmp_path / "tokens" / "semantic" / "ann", [np.ones((9, 1))] * 4, "int16", key="k")
    context, tokens = Context(tiny.byte_tokenizer()), Tokens(tmp_path, "semantic", "k")
    clip = PreparedSpeech(tmp_path, ["ann"]).clips[0]
    for name, text, said in (
        ("english", "It costs $5.", "It costs five dollars."),
        ("verbatim", "Das kostet 5 €.", "Das kostet 5 €."),
        ("english", "Привет.", None),
    ):
        source = Plain(tiny.PLAIN, tokens, context, open_frontend(name))
        made = source.of_clip(replace(clip, utterance=replace(clip.utterance, text=text)), False)
        if said is None or made is None:
            assert made is None and said is None
        else:
            ids = sentence_ids(context.tokenizer, said)
            assert made.text[: len(ids)].tolist() == ids and not (made.token[: len(ids)] >= 0).any()


def test_a_text_that_cannot_be_said_gives_way_to_the_next_one(work: Path) -> None:
    clips = PreparedSpeech(work, ["ann"]).clips[:3]
    made = plain_sequence(tiny.PLAIN, [0, 5], "ann", [30, 31], 1)
    some = LazySequences(clips, [9] * 3, lambda clip: None if clip.row == 1 else made)
    assert all(one is made for one in some) and len(list(some)) == 3 and some[-1] is made
    with pytest.raises(IndexError):
        some[3]
    with pytest.raises(VoicegraftError, match=r"none of the 3 texts, such as 'We go home, now!', can be said"):
        LazySequences(clips, [9] * 3, lambda clip: None)[1]


def test_plain_sequences_are_made_when_they_are_asked_for(tmp_path: Path) -> None:
    tiny.write_made_up_speech(tmp_path)
    speech = PreparedSpeech(tmp_path)
    tokenizer = SemanticTokenizer(tiny.SEMANTIC)
    for name in ("ann", "ben", "flite-000"):
        audio = RaggedArray(tmp_path / "speech" / name / "audio")
        codes = (tokenizer.encode(torch.from_numpy(a / np.float32(32768))[None])[0].T.numpy() for a in audio)
        write_ragged(tmp_path / "tokens" / "semantic" / name, codes, "int16", key="k")
    tokens = Tokens(tmp_path, "semantic", "k")
    longest = max(tokens.length(clip) for clip in speech.clips)
    source = Plain(tiny.PLAIN, tokens, Context(tiny.byte_tokenizer()), open_frontend("english"), 2, longest - 1)
    made = material(source, speech, [], None, "train", 0, 0)
    usable = [c for c in speech.select("train", synthetic=False) if tokens.length(c) < longest]
    assert isinstance(made.human, LazySequences) and len(made.human) == len(usable) < len(speech.select("train", False))
    assert not made.pronunciation
    for clip, sequence, length in zip(usable, made.human, made.human.lengths, strict=True):
        codes = tokens(clip)[:, 0]
        assert len(codes) == tokens.length(clip)
        said = [
            t for group in np.column_stack([sequence.target, sequence.more_target]) for t in group if t > END_OF_UNIT
        ]
        assert said == tiny.PLAIN.stream(codes)
        assert 0.3 < length / len(sequence) < 3
    mixture, buckets = made.mixed(Round(human_share=0.5, synthetic_share=0.5), 200)
    whole = len(made.human) + len(made.synthetic)
    assert [len(mixture[i]) for i in range(whole)] == [len(s) for kind in (made.human, made.synthetic) for s in kind]
    with pytest.raises(IndexError):
        mixture[whole]
    assert set(buckets.draw(0, 0)) <= set(range(whole))
