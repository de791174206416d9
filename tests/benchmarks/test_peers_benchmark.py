"""The benchmark of peers with made-up ones: what is said once is kept, who is missing is left out, all stand in one table."""

import json
from pathlib import Path

import pytest

from benchmarks.peer_engines import Opener, Peer, Sound
from benchmarks.peers import PeersConfig, compare
from tests.evaluation.conftest import RATE, CountingRecognizer, LevelPredictor, SpectrumJudge, ToneSpeaker, tone
from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import Judges
from voicegraft.teachers.base import Unsayable

pytestmark = pytest.mark.benchmarks

pytest.importorskip("jiwer")


@pytest.fixture
def judges() -> Judges:
    return Judges(CountingRecognizer(), LevelPredictor(), SpectrumJudge(), names={"recognizer": "counting"})


def peer(said: list[str], extra_words: int = 0) -> Opener:
    """Says a tone for each word, and some more; cannot say "mute"."""

    def say(text: str) -> Sound:
        said.append(text)
        if text == "mute":
            raise Unsayable("it is mute")
        return tone(300, len(text.split()) + extra_words), RATE

    return lambda: (say, "1.0")


def missing() -> Peer:
    raise VoicegraftError("run: pip install somebody")


def test_peers_and_a_pack_stand_in_one_table(
    judges: Judges, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("word word word word\nmute\nword word word word\nword\n")
    said: list[str] = []
    peers = {"right": peer(said), "ann": peer([], extra_words=1), "absent": missing}

    def run(limit: int, speaker: ToneSpeaker | None = None) -> dict[str, dict[str, str]]:
        config = PeersConfig(tmp_path / "prompts.txt", tmp_path / "out", limit, voices=("ann",))
        return {row["voice"]: row for row in compare(config, peers, judges, speaker)}  # type: ignore[arg-type]

    found = run(3, ToneSpeaker())
    printed = capsys.readouterr()
    assert list(found) == ["right", "ann", "pack ann"]
    assert "absent is left out: run: pip install somebody" in printed.err and "right cannot say 0002" in printed.err
    # Of nine words "mute" is missed, by the other one word too many is heard twice besides.
    assert found["right"]["WER [95 %]"].startswith("0.111") and found["ann"]["WER [95 %]"].startswith("0.333")
    assert all(row["RTF [95 %]"] != "-" and row["DNSMOS [95 %]"] != "-" for row in found.values())
    assert [row["CPU s per s"] == "-" for row in found.values()] == [False, False, True]
    written = json.loads((tmp_path / "out" / "peers.json").read_text())
    assert written["table"] == list(found.values()) and written["systems"]["right"] == "1.0"

    said.clear()
    assert run(3)["right"] == found["right"]
    assert said == ["word word word word", "mute"]  # what only the first call costs, and what could not be said
    said.clear()
    assert run(4)["right"]["clips"] == "4" and said[-1] == "word"


def test_where_nobody_speaks_nothing_is_compared(judges: Judges, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("word\n")
    with pytest.raises(VoicegraftError, match="nothing to compare"):
        compare(PeersConfig(tmp_path / "prompts.txt", tmp_path / "out"), {"absent": missing}, judges)
