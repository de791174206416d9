"""Pronunciations and times for recordings, from a dictionary and from a pack that speaks."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.lexicon import Lexicon, read_dictionary
from voicegraft.data.manifest import read_manifest
from voicegraft.data.recordings import write_pairs
from voicegraft.inference.pack import DEFAULT_PACK, open_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.recipes.align import AlignConfig, align, pronounce
from voicegraft.text.units import PHONES

DICTIONARY = """;;; a comment
HELLO  HH AH0 L OW1
HELLO(2)  HH EH0 L OW1
owl AW1 L # birds
'TIS  T IH1 Z
"""


def test_a_dictionary_is_read_without_stress_and_with_its_first_pronunciations(tmp_path: Path) -> None:
    (tmp_path / "words").write_text(DICTIONARY)
    assert read_dictionary(tmp_path / "words") == {"hello": ("hh", "ax", "l", "ow"), "owl": ("aw", "l")}


@pytest.mark.parametrize(
    ("text", "message"), [("owl\n", None), ("owl AW1 QQ\n", r"words:1: expected a word and phones of the CMU set")]
)
def test_a_dictionary_of_other_phones_is_refused(text: str, message: str | None, tmp_path: Path) -> None:
    (tmp_path / "words").write_text(text)
    if message is None:
        assert read_dictionary(tmp_path / "words") == {}
    else:
        with pytest.raises(VoicegraftError, match=message):
            read_dictionary(tmp_path / "words")
    with pytest.raises(VoicegraftError, match="cannot read"):
        read_dictionary(tmp_path / "nothing")


def test_a_pack_says_how_words_are_pronounced() -> None:
    """The pocket pack, which ships: these words it knows."""
    words = ["cat", "dog", "seven", "yellow", "the", "paper", "station", "window", "morning"]
    found = pronounce(open_pack(DEFAULT_PACK), words)
    assert list(found) == words and all(set(phones) <= set(PHONES) for phones in found.values())
    assert found["cat"] == ("k", "ae", "t") and found["seven"][0] == "s" and found["window"][-1] == "ow"


def recorded(work: Path, texts: list[str]) -> list[float]:
    """The pocket voice's own speech as a corpus; when each sentence's words end, in seconds."""
    speaker = Speaker.load()
    pairs, ends = [], []
    for number, text in enumerate(texts):
        speech = speaker.say(text, "kathleen", seed=number)
        whole = len(speech.samples) // 480 * 480
        utterance = tiny.made_up_utterance(f"u{number}", "ann", "train", tiny.SENTENCES[0], False, 0).utterance
        changed = {**utterance.__dict__, "text": text, "duration_sec": whole / speech.sample_rate}
        pairs.append((type(utterance)(**changed), (speech.samples[:whole] * 32767).astype(np.int16)))
        ends += [word.end_sec for word in speech.sentences[0].words]
    write_pairs(work / "speech" / "ann-000", pairs, 24_000)
    return ends


def test_recordings_get_the_times_at_which_their_sounds_are_said(tmp_path: Path) -> None:
    texts = ["The white cat slept by the window.", "I have 7 yellow papers."]
    truth = recorded(tmp_path, texts)
    (tmp_path / "book.txt").write_text("The morning was cold and very long.\n\nNo words 123 here.")
    align(AlignConfig(str(tmp_path), text=str(tmp_path / "book.txt")))
    rows = read_manifest(tmp_path / "alignments" / "round0" / "ann-000")
    assert [row.text for row in rows] == [texts[0], "I have seven yellow papers."]
    found = [
        end
        for row in rows
        for unit, following, end in zip(row.units, [*row.units[1:], "."], row.unit_ends_sec, strict=True)
        if unit in PHONES and following not in PHONES
    ]
    assert len(found) == len(truth)
    assert np.median(np.abs(np.array(found) - np.array(truth))) < 0.03
    lexicon = Lexicon.load(tmp_path / "lexicon.json")
    assert {"seven", "morning", "cold"} <= set(lexicon.entries)
    assert (tmp_path / "sentences.txt").read_text().splitlines()[-1] == "The morning was cold and very long."
    before = (tmp_path / "lexicon.json").stat().st_mtime_ns
    align(AlignConfig(str(tmp_path)))
    done = tmp_path / "alignments" / "round0" / "done"
    done.unlink()  # as after a kill just before the end
    align(AlignConfig(str(tmp_path)))
    assert done.is_file() and (tmp_path / "lexicon.json").stat().st_mtime_ns == before


def test_a_pack_that_cannot_align_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path, ["The cat slept."])
    shutil.copytree(DEFAULT_PACK, tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack" / "monitor")
    with pytest.raises(VoicegraftError, match="has no monitor or does not spell, so it cannot align"):
        align(AlignConfig(str(tmp_path), teacher=str(tmp_path / "pack")))
    with pytest.raises(VoicegraftError, match=r"expected plain text at .*nowhere \(align.text\)"):
        align(AlignConfig(str(tmp_path), text=str(tmp_path / "nowhere")))
