import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, read_manifest, write_manifest
from voicegraft.data.prepared import PreparedSpeech, frame_classes, frame_counts
from voicegraft.text.units import BOUNDARIES, PHONES, SILENCE, START, UNIT_CLASS


def utterance(units: list[str], ends: list[float]) -> Utterance:
    return Utterance("1", "", "text", "ann", "train", 1.0, tuple(units), tuple(ends))


def test_phones_have_a_class_each_and_boundaries_share_one() -> None:
    assert [UNIT_CLASS[p] for p in PHONES] == list(range(len(PHONES)))
    assert {UNIT_CLASS[b] for b in (START, *BOUNDARIES)} == {SILENCE} == {len(PHONES)}


def test_exact_times_give_exact_counts() -> None:
    u = utterance([START, "s", "iy", "."], [0.1, 0.2, 0.3, 0.5])
    assert frame_counts(u, 25, 50.0).tolist() == [5, 5, 5, 10]
    assert frame_classes(u, 25, 50.0).tolist() == [
        *[SILENCE] * 5, *[PHONES.index("s")] * 5, *[PHONES.index("iy")] * 5, *[SILENCE] * 10
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_counts_fill_the_frames_and_no_phone_is_empty(seed: int) -> None:
    random = np.random.default_rng(seed)
    units = [START]
    for _ in range(random.integers(1, 6)):
        units += [*random.choice(PHONES, random.integers(1, 4)), str(random.choice(BOUNDARIES))]
    is_phone = np.asarray([u in PHONES for u in units])
    # Times may be much too short, or reach beyond the end: recordings are cut, and aligners round.
    ends = np.cumsum(random.exponential(random.choice([0.002, 0.03, 0.1]), len(units)))
    num_frames = int(random.integers(is_phone.sum(), is_phone.sum() + 60))
    counts = frame_counts(utterance(units, ends.tolist()), num_frames, 50.0)
    assert counts.sum() == num_frames
    assert (counts[is_phone] >= 1).all() and (counts >= 0).all()
    assert len(frame_classes(utterance(units, ends.tolist()), num_frames, 50.0)) == num_frames


def test_an_utterance_without_times_has_no_classes() -> None:
    assert (frame_classes(utterance([], []), 7, 50.0) == -100).all()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("speech")
    tiny.write_made_up_speech(work)
    return work


def test_clips_are_selected_by_split_and_kind(work: Path) -> None:
    speech = PreparedSpeech(work)
    assert speech.speakers == ["ann", "ben", "flite-slt"]
    assert len(speech.clips) == 12 and len(speech.select("train")) == 9 and len(speech.select("val")) == 3
    assert {c.utterance.speaker for c in speech.select("train", synthetic=False)} == {"ann", "ben"}
    assert {c.utterance.speaker for c in speech.select("val", synthetic=True)} == {"flite-slt"}
    assert PreparedSpeech(work, ["be"]).speakers == ["ben"]


def test_the_arrays_of_a_clip_agree(work: Path) -> None:
    speech = PreparedSpeech(work)
    for clip in speech.clips:
        samples = speech.samples(clip)
        assert samples.dtype == np.float32 and 0.05 < np.abs(samples).max() <= 1
        assert len(samples) == round(clip.utterance.duration_sec * tiny.RATE)
        assert len(speech.array(clip, "mel")) == len(samples) // tiny.MEL.hop
        assert len(speech.array(clip, "pitch")) == len(samples) // tiny.FRAME


def test_aligned_manifests_take_the_place_of_the_shards_own(work: Path, tmp_path: Path) -> None:
    rows = read_manifest(work / "speech" / "ann")
    units = (START, "m", "ay", ".")
    aligned = [Utterance(**{**u.__dict__, "units": units, "unit_ends_sec": (0.0, 0.1, 0.2, 0.3)}) for u in rows]
    write_manifest(tmp_path / "ann", aligned)
    speech = PreparedSpeech(work, aligned=tmp_path)
    by_shard = {c.folder.name: c.utterance.units for c in speech.clips}
    assert by_shard["ann"] == units and by_shard["ben"] == () and START in by_shard["flite-000"]


def test_shards_of_audio_alone_are_enough_until_features_are_asked_for(work: Path, tmp_path: Path) -> None:
    shard = tmp_path / "speech" / "ann-000"
    shutil.copytree(work / "speech" / "ann", shard)
    shutil.rmtree(shard / "mel")
    shutil.rmtree(shard / "pitch")
    shutil.copytree(shard, shard.with_name(".ann-001.partial"))  # what a killed run leaves is no shard
    speech = PreparedSpeech(tmp_path)
    assert len(speech.clips) == 4 and len(speech.samples(speech.clips[0])) > 0
    for kind in ("mel", "pitch"):
        with pytest.raises(VoicegraftError, match=f"has audio but no {kind}.*--features"):
            speech.array(speech.clips[0], kind)


def test_no_prepared_speech_says_what_to_run(work: Path, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"run voicegraft prepare first"):
        PreparedSpeech(tmp_path)
    with pytest.raises(VoicegraftError, match="no prepared speech"):
        PreparedSpeech(work, ["carl"])
