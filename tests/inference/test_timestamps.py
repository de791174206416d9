import json
import re
from pathlib import Path

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.inference.report import SpeechReport, SpokenPhone, SpokenSentence, SpokenWord
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.timestamps import CUE_SEC, LINE_CHARS, TimestampWriter, cues

LONG = (
    "She paid $5 & left <at once>, because the owl that lived in her house had not been fed since Tuesday, "
    "and nobody but she knew where the mice were kept, how many of them there were, or what they were called."
)


def sentence(written: str, start_sec: float = 0.0, word_sec: float = 0.4) -> SpokenSentence:
    """Every piece between spaces is said as one word, but "$5", which is said as two."""
    words: list[SpokenWord] = []
    at = start_sec
    for match in re.finditer(r"\S+", written):
        for name in ("five", "dollars") if match.group() == "$5" else (re.sub(r"\W", "", match.group()),):
            if name:
                phones = (SpokenPhone("ax", at, at + word_sec),)
                words.append(SpokenWord(name, match.span(), round(at, 3), round(at + word_sec, 3), phones))
                at += word_sec
    return SpokenSentence(written, "in words", start_sec, at, tuple(words), "ok")


@pytest.mark.parametrize("word_sec", [0.1, 0.4, 2.0])
def test_captions_hold_all_that_is_written_in_order_and_in_time(word_sec: float) -> None:
    said = sentence(LONG, 3.0, word_sec)
    made = list(cues(said))
    assert " ".join(text.replace("\n", " ") for text, _, _ in made) == LONG
    edges = [edge for _, start, end in made for edge in (start, end)]
    assert edges == sorted(edges) and edges[0] == 3.0 and edges[-1] == said.words[-1].end_sec
    for text, start, end in made:
        assert text.count("\n") <= 1 and all(len(line) <= 1.3 * LINE_CHARS for line in text.split("\n"))
        assert end - start <= CUE_SEC + word_sec or len(text.split()) == 1
    lengths = [end - start for _, start, end in made]
    assert min(lengths) > 0.3 * max(lengths), "no word is left alone"


def test_a_sentence_that_fits_is_one_caption() -> None:
    assert list(cues(sentence("It is $5."))) == [("It is $5.", 0.0, pytest.approx(1.2))]


def test_nothing_said_is_no_caption() -> None:
    assert list(cues(SpokenSentence("1", "one", 0.0, 0.0, (), "failed"))) == []


def test_the_formats_are_what_players_read(tmp_path: Path) -> None:
    for suffix in (".srt", ".vtt"):
        with TimestampWriter(tmp_path / f"a{suffix}") as writer:
            writer.add(sentence("Pay $5 & go <now>."))
            writer.add(sentence("It was late.", 3661.5))
    srt = (tmp_path / "a.srt").read_text()
    assert srt.startswith(
        "1\n00:00:00,000 --> 00:00:02,000\nPay $5 & go <now>.\n\n2\n01:01:01,500 --> 01:01:02,700\nIt was"
    )
    vtt = (tmp_path / "a.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.000\nPay $5 &amp; go &lt;now&gt;.\n\n2\n01:01:01.500")


def test_json_has_every_word_and_ends_with_what_became_of_the_whole(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    with TimestampWriter(out, {"audio": "a.wav"}) as writer:
        writer.add(sentence("Pay $5."))
        assert not out.exists()  # nobody takes half a file for a whole one
        writer.close(SpeechReport(duration_sec=1.25, num_words=3))
    read = json.loads(out.read_text())
    assert read["audio"] == "a.wav" and read["duration_sec"] == 1.25 and read["status"] == "ok"
    (said,) = read["sentences"]
    assert [word["word"] for word in said["words"]] == ["Pay", "5"]
    assert [word["written"] for word in said["words"]] == ["Pay", "$5."]
    assert said["words"][1]["start_sec"] == 0.4


def test_an_error_leaves_no_file_and_an_older_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("older")
    with pytest.raises(KeyboardInterrupt), TimestampWriter(tmp_path / "a.srt") as writer:
        writer.add(sentence("Pay $5."))
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_what_is_really_said_is_written_down(speaker: Speaker, tmp_path: Path) -> None:
    with TimestampWriter(tmp_path / "a.json") as writer:
        stream = speaker.stream("We see 25 owls. Go!", "ann", on_spoken=writer.add)
        list(stream)
        writer.close(stream.report)
    read = json.loads((tmp_path / "a.json").read_text())
    words = [(word["word"], word["written"]) for said in read["sentences"] for word in said["words"]]
    assert words == [("We", "We"), ("see", "see"), ("twenty", "25"), ("five", "25"), ("owls", "owls"), ("Go", "Go")]
    assert read["num_words"] == 6 and read["sentences"][1]["start_sec"] > read["sentences"][0]["end_sec"]


@pytest.mark.parametrize(
    ("name", "complaint"), [("a.txt", r"ends in \.json, \.srt, \.vtt, got a\.txt"), ("no/a.srt", "cannot write")]
)
def test_a_place_that_cannot_be_is_an_error(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(VoicegraftError, match=complaint):
        TimestampWriter(tmp_path / name)
