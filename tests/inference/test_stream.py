from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.acoustic.acoustic_lm import AcousticLM
from voicegraft.acoustic.vocoder import Vocoder
from voicegraft.inference.engine import Engine, sentence_tokens
from voicegraft.inference.pack import Pack
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.sentence import MOST_PHONES, SpeakOptions
from voicegraft.inference.stream import acoustic_frames, render
from voicegraft.text.units import BOUNDARIES, START, words_of
from voicegraft.tokenizers.vocabulary import END_OF_UNIT

TEXT = "The owl sees."
OPTIONS = SpeakOptions(max_unit_frames=6)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Sentences


def test_what_is_said_is_the_words_in_order(pack: Pack) -> None:
    tokens = sentence_tokens(pack.lm, TEXT, "ann", OPTIONS, generator())
    codes = list(tokens)
    assert codes and min(codes) >= 0 and max(codes) < 27
    assert tokens.units[0] == START and START not in tokens.units[1:]
    assert [u for u in tokens.units if u in BOUNDARIES] == [w.boundary for w in words_of(TEXT)]
    assert tokens.units[-1] in BOUNDARIES and tokens.units[1] not in BOUNDARIES
    assert [s.unit for s in tokens.spoken] == tokens.units
    assert sum(s.num_frames for s in tokens.spoken) == len(codes)
    assert [s.start_frame for s in tokens.spoken] == np.cumsum(
        [0, *(s.num_frames for s in tokens.spoken[:-1])]
    ).tolist()
    for spoken in tokens.spoken:  # a phone is heard, a boundary may be empty
        assert spoken.num_frames >= (spoken.unit not in (START, *BOUNDARIES))


def test_the_same_seed_says_the_same(pack: Pack) -> None:
    one, same, other = (list(sentence_tokens(pack.lm, TEXT, "ann", OPTIONS, generator(s))) for s in (1, 1, 2))
    assert one == same != other


def test_the_likeliest_codes_and_lengths_need_no_seed(pack: Pack) -> None:
    options = replace(OPTIONS, semantic=Sampling(0.0, 1.0), length_spread=0.0)
    one, other = (list(sentence_tokens(pack.lm, TEXT, "ann", options, generator(s))) for s in (1, 2))
    assert one == other


@contextmanager
def wanting_to_go_on(pack: Pack, much: float) -> Iterator[None]:
    """A model that wants to go on to the next letter or unit so much more or less."""
    bias = pack.lm.speech_embedding.head.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias[END_OF_UNIT] += much
        yield
        bias.copy_(before)


@pytest.mark.parametrize("eagerness", [0.0, -3.0, -4.0, -5.0, -1e9])
def test_the_merged_copy_says_the_same_as_the_expert(pack: Pack, eagerness: float) -> None:
    """Also where letters make several phones, and what was begun too early is taken back."""
    options = replace(OPTIONS, semantic=Sampling(0.0, 1.0))
    said = []
    with wanting_to_go_on(pack, eagerness):
        for merged in (False, True):
            tokens = sentence_tokens(tiny.decode_through(pack.lm, merged), "We see.", "ann", options, generator())
            said.append((list(tokens), tokens.units))
    assert said[0] == said[1]


def test_units_last_as_long_as_the_model_says_whatever_the_temperature_of_the_codes(pack: Pack) -> None:
    for temperature in (0.1, 2.0):
        options = replace(OPTIONS, max_unit_frames=40, semantic=Sampling(temperature, 1.0), length_spread=1.0)
        spoken = [sentence_tokens(pack.lm, TEXT, "ann", options, generator(seed)) for seed in range(6)]
        mean = np.mean([len(list(tokens)) / len(tokens.units) for tokens in spoken])
        # Going on has logit 4 against 27 codes around 0: about two chances in three.
        assert 0.6 < mean < 1.8


def test_a_slower_pace_takes_longer(pack: Pack) -> None:
    lengths = [
        len(list(sentence_tokens(pack.lm, TEXT, "ann", replace(OPTIONS, pace=pace), generator())))
        for pace in (3.0, 0.0, -3.0)
    ]
    assert lengths == sorted(lengths) and lengths[0] < lengths[2]


def test_a_unit_lasts_as_long_as_the_middle_of_the_models_distribution(pack: Pack) -> None:
    options = replace(OPTIONS, max_unit_frames=400, long_unit_frames=400, length_spread=0.0)
    head = pack.lm.speech_embedding.head
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    with torch.no_grad():
        for tensor in head.state_dict().values():
            tensor.zero_()  # going on is as likely as each of the 27 codes, always
    try:

        def lengths(spread: float, count: int) -> list[int]:
            """Of the phones of so many sentences, said together."""
            some, engine = replace(options, length_spread=spread), Engine(pack.lm)
            said = [sentence_tokens(pack.lm, "We go.", "ann", some, generator(seed), engine) for seed in range(count)]
            for tokens in said:
                engine.join(tokens)
            while any(not tokens.is_over for tokens in said):
                engine.step()
                for tokens in said:
                    tokens.take()
            return [s.num_frames for tokens in said for s in tokens.spoken if s.unit not in (START, *BOUNDARIES)]

        median = next(n for n in range(100) if (27 / 28) ** n <= 0.5)
        assert set(lengths(0.0, 1)) == {median}
        drawn = lengths(1.0, 40)
        assert len(drawn) == 80 and np.mean(drawn) == pytest.approx(28, rel=0.25) and np.std(drawn) > 20
        narrow = lengths(0.2, 8)
        assert np.std(narrow) < 6 and np.median(narrow) == pytest.approx(median, abs=2)
    finally:
        head.load_state_dict(before)


def test_every_sentence_ends_even_if_the_model_never_wants_to(pack: Pack) -> None:
    with wanting_to_go_on(pack, -1e9):
        tokens = sentence_tokens(pack.lm, "We go.", "ann", OPTIONS, generator())
        codes = list(tokens)
    assert tokens.machine.cut
    assert len(tokens.units) == 1 + 2 + MOST_PHONES * 4  # the silence before, two boundaries, four letters
    assert {s.num_frames for s in tokens.spoken} == {OPTIONS.max_unit_frames}
    assert len(codes) == OPTIONS.max_unit_frames * len(tokens.units)


def test_a_sentence_that_only_wants_to_end_still_has_a_sound_per_word(pack: Pack) -> None:
    with wanting_to_go_on(pack, 1e9):
        tokens = sentence_tokens(pack.lm, TEXT, "ann", OPTIONS, generator())
        codes = list(tokens)
    assert not tokens.machine.cut
    assert len(codes) == len(words_of(TEXT)) == sum(u not in (START, *BOUNDARIES) for u in tokens.units)


# Acoustic frames


@torch.inference_mode()
def reference_frames(model: AcousticLM, semantic: list[int], voice: np.ndarray, forget: bool) -> np.ndarray:
    """All frames at once known: explicit padding."""
    c = model.config
    padded = [model.beyond] * c.past + semantic + [model.beyond] * c.ahead
    state, frames = model.start(), []
    for t in range(len(semantic)):
        ids = torch.tensor([padded[t : t + c.past + 1 + c.ahead]])
        heard = torch.from_numpy(voice)[None]
        _, state = model.step(ids, heard, state, 0.7, forget=forget, blend=True)
        frames.append(state.previous[0].numpy())
    return np.stack(frames)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0), (3, 0), (0, 4), (1, 1)])
def test_there_is_a_frame_for_every_token(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = AcousticLM(replace(tiny.ACOUSTIC, past=shape[0], ahead=shape[1])).eval()
    model.codebooks.normal_()
    voice = model.named_voice("ben")
    for num_tokens in range(11):
        semantic = generator(num_tokens).integers(27, size=num_tokens).tolist()
        options = SpeakOptions(acoustic_temperature=0.7, acoustic_history=num_tokens % 2 == 0)
        frames = list(acoustic_frames(model, semantic, voice, options))
        assert len(frames) == num_tokens
        if frames:
            assert np.array_equal(np.stack(frames), reference_frames(model, semantic, voice, num_tokens % 2 == 1))


def test_frames_come_only_so_far_behind_the_tokens(pack: Pack) -> None:
    read = []

    def tokens() -> Iterator[int]:
        for i in range(10):
            read.append(i)
            yield i

    seen = []
    for _ in acoustic_frames(pack.acoustic, tokens(), pack.acoustic.named_voice("ann"), OPTIONS):
        seen.append(len(read))
    ahead = pack.acoustic.config.ahead
    assert seen == [min(10, n + 1 + ahead) for n in range(10)]


# Sound


def random_frame(pack: Pack, seed: int) -> np.ndarray:
    codes = torch.from_numpy(generator(seed).integers(16, size=(1, 3, 1)))
    return cast(Vocoder, pack.vocoder).latents(codes)[0, :, 0].numpy()


@pytest.mark.parametrize("num_frames", [0, 1, 2, 3, 7, 20])
def test_the_sound_is_as_long_as_its_frames_whatever_the_chunks(pack: Pack, num_frames: int) -> None:
    frames = [random_frame(pack, i) for i in range(num_frames)]
    whole = None
    for first, chunk in ((5, 10), (1, 1), (3, 7), (100, 100), (2, 50)):
        pieces = list(render(pack.vocoder, frames, first, chunk))
        sound = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        assert len(sound) == num_frames * 480 and sound.dtype == np.float32
        whole = sound if whole is None else whole
        np.testing.assert_allclose(sound, whole, atol=1e-4 * max(1e-3, float(np.abs(whole).max(initial=0))), rtol=1e-3)


def test_the_first_sound_comes_with_the_first_chunk(pack: Pack) -> None:
    read = []

    def frames() -> Iterator[np.ndarray]:
        for i in range(30):
            read.append(i)
            yield random_frame(pack, i)

    sound = render(pack.vocoder, frames(), 4, 10)
    next(sound)
    assert len(read) == 4
    next(sound)
    assert len(read) == 14
