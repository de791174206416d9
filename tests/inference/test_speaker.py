from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.inference import speaker as speaking
from voicegraft.inference.report import SpokenSentence
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speaker import SENTENCE_PAUSE_SEC, Speaker

TEXT = "We see. The owl, now!"


def test_the_same_text_and_seed_give_the_same_samples(speaker: Speaker, pack_folder: Path) -> None:
    once = speaker.say(TEXT, "ann", seed=3)
    speaker.say("Something else in between.", "ben")
    assert np.array_equal(speaker.say(TEXT, "ann", seed=3).samples, once.samples)
    assert np.array_equal(Speaker.load(pack_folder).say(TEXT, "ann", seed=3).samples, once.samples)
    assert not np.array_equal(speaker.say(TEXT, "ann", seed=4).samples, once.samples)
    assert not np.array_equal(speaker.say(TEXT, "ben", seed=3).samples, once.samples)


def test_a_drained_stream_is_what_is_said(speaker: Speaker) -> None:
    stream = speaker.stream(TEXT, "ann", seed=1)
    pieces = list(stream)
    said = speaker.say(TEXT, "ann", seed=1)
    assert len(pieces) > 2 and all(p.dtype == np.float32 for p in pieces)
    assert np.array_equal(np.concatenate(pieces), said.samples)
    assert stream.report.num_words == said.report.num_words > 0 and stream.sample_rate == said.sample_rate == 24_000


@pytest.mark.parametrize("chunks", [(1, 1), (7, 3), (500, 500)])
def test_the_size_of_chunks_changes_nothing(speaker: Speaker, chunks: tuple[int, int]) -> None:
    usual = speaker.say(TEXT, "ann")
    options = replace(tiny.OPTIONS, first_chunk_frames=chunks[0], chunk_frames=chunks[1])
    other = speaker.say(TEXT, "ann", options=options)
    size = float(np.abs(usual.samples).max())
    np.testing.assert_allclose(other.samples, usual.samples, atol=1e-3 * size, rtol=1e-3)


def test_text_that_arrives_in_pieces_is_said_as_a_whole(speaker: Speaker) -> None:
    asked = []

    def pieces() -> Iterator[str]:
        for piece in ("We s", "ee. The o", "wl, now!", " "):
            asked.append(piece)
            yield piece

    stream = speaker.stream(pieces(), "ann", seed=1)
    first = next(stream)
    assert len(asked) < 4  # it speaks before all has come
    assert np.array_equal(np.concatenate([first, *stream]), speaker.say(TEXT, "ann", seed=1).samples)


def test_the_report_says_what_was_spoken(speaker: Speaker) -> None:
    begun: list[str] = []
    spoken: list[SpokenSentence] = []
    stream = speaker.stream("We see 2 owls 🦉. Go!", "ben", on_sentence=begun.append, on_spoken=spoken.append)
    samples = np.concatenate(list(stream))
    report = stream.report
    assert begun == ["We see 2 owls 🦉.", "Go!"]
    assert [sentence.spoken for sentence in spoken] == ["We see two owls.", "Go!"]
    assert [sentence.written for sentence in spoken] == begun
    assert report.num_sentences == 2 and report.num_words == 5 and report.num_faults == report.num_retries == 0
    assert report.skipped == ["🦉"]
    assert report.duration_sec == pytest.approx(len(samples) / 24_000)
    assert 0 < report.first_audio_sec <= report.wall_sec
    spoken_sec = sum(sentence.end_sec - sentence.start_sec for sentence in spoken)
    assert report.duration_sec == pytest.approx(spoken_sec + SENTENCE_PAUSE_SEC)
    assert spoken[1].start_sec == pytest.approx(spoken[0].end_sec + SENTENCE_PAUSE_SEC)


def test_every_word_has_its_times_and_what_it_reads(speaker: Speaker) -> None:
    sentences = speaker.say("We see 25 owls 🦉. Go!", "ann").sentences
    words = [word for sentence in sentences for word in sentence.words]
    assert [word.word for word in words] == ["We", "see", "twenty", "five", "owls", "Go"]
    written = [sentence.written[slice(*word.span)] for sentence in sentences for word in sentence.words]
    assert written == ["We", "see", "25", "25", "owls", "Go"]
    edges = [edge for word in words for edge in (word.start_sec, word.end_sec)]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= sentences[-1].end_sec + 1e-9
    for word in words:
        assert word.phones[0].start_sec == word.start_sec and word.phones[-1].end_sec == word.end_sec > word.start_sec


def test_there_is_silence_between_sentences_and_no_click_at_the_ends(speaker: Speaker) -> None:
    said = speaker.say("Go. Go.", "ann")
    size = float(np.abs(said.samples).max())
    assert abs(said.samples[0]) < 0.01 * size and abs(said.samples[-1]) < 0.01 * size
    pause = round(SENTENCE_PAUSE_SEC * 24_000)
    first = round(said.sentences[0].end_sec * 24_000)
    assert not said.samples[first : first + pause].any()
    assert np.abs(said.samples).max() <= 1.0


def test_pauses_of_markup_are_silence_between_sentences_and_at_the_end(speaker: Speaker) -> None:
    without = speaker.say("Go. Go.", "ann")
    said = speaker.say("<speak>Go. <break time='500ms'/> Go. <break time='1s'/></speak>", "ann")
    assert said.spoken_text == without.spoken_text
    assert said.duration_sec - without.duration_sec == pytest.approx(1.5)
    assert not said.samples[-24_000:].any()


@pytest.mark.parametrize("text", ["", "   \n", "...", "🦉", "!?", "<speak><break time='1s'/></speak>"])
def test_nothing_to_say_is_a_status(speaker: Speaker, text: str) -> None:
    said = speaker.say(text)
    assert said.status == "empty" and said.duration_sec == 0 and len(said.samples) == 0


def test_a_bound_that_was_used_is_a_status(speaker: Speaker) -> None:
    assert speaker.say("Go.", options=SpeakOptions(max_unit_frames=40)).status == "ok"
    cut = speaker.say("The owl sees my house.", options=SpeakOptions(max_unit_frames=1, pace=-30.0))
    assert cut.status == "cut"
    phones = [phone for word in cut.sentences[0].words for phone in word.phones]
    assert all(phone.end_sec - phone.start_sec <= 0.0201 for phone in phones)


def test_voices_are_those_of_the_acoustic_model(speaker: Speaker) -> None:
    assert speaker.voices == ["ann", "ben"] and speaker.default_voice == "ben"
    assert np.array_equal(speaker.say("Go.").samples, speaker.say("Go.", "ben").samples)
    with pytest.raises(VoicegraftError, match="no voice 'flite-slt'; this pack speaks as: ann, ben"):
        speaker.stream("Go.", "flite-slt")


def test_recordings_go_through_the_tokenizers(speaker: Speaker) -> None:
    samples = 0.2 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    for made in (
        speaker.resynthesize_codec(samples),
        speaker.resynthesize_semantic(samples, "ann"),
        speaker.resynthesize_semantic(samples.astype(np.float64)[::1], "ann"),
    ):
        assert made.shape == samples.shape and made.dtype == np.float32 and np.isfinite(made).all()


def test_the_fingerprint_is_of_the_weights(speaker: Speaker, pack_folder: Path) -> None:
    assert speaker.fingerprint == Speaker.load(pack_folder).fingerprint
    assert len(speaker.fingerprint) == 16


def test_a_device_that_is_not_there_is_an_error(pack_folder: Path) -> None:
    with pytest.raises(VoicegraftError, match="expected a device"):
        Speaker.load(pack_folder, device="abacus")


@pytest.mark.gpu
def test_it_speaks_on_a_gpu(pack_folder: Path) -> None:
    said = Speaker.load(pack_folder, device="cuda").say(TEXT, "ann")
    assert said.duration_sec > 0 and np.isfinite(said.samples).all()


def test_speech_and_text_are_made_on_the_threads_of_the_speaker(
    pack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small models on one, whatever the program has; the program keeps its own."""
    before, seen = torch.get_num_threads(), []
    render = speaking.render
    monkeypatch.setattr(speaking, "render", lambda *a: (seen.append(torch.get_num_threads()), render(*a))[1])
    try:
        torch.set_num_threads(2)
        for asked, wanted in ((None, 1), (2, 2), (3, 3)):
            speaker = Speaker.load(pack_folder, num_threads=asked)
            next(speaker.stream("Go home."))
            assert seen.pop() == wanted and torch.get_num_threads() == 2
            next(speaker.write("Who?"), None)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
