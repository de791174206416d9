"""The judges of an evaluation by their names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.encoders.ctranslate2 import MODEL
from voicegraft.evaluation.judges import whisper
from voicegraft.evaluation.judges.base import Judges, Recognizer
from voicegraft.evaluation.judges.faults import FaultJudge
from voicegraft.evaluation.judges.packages import DnsMosPredictor, PocketSphinxRecognizer, ResemblyzerJudge
from voicegraft.evaluation.judges.transformer import UtmosPredictor, WavLmJudge, WhisperRecognizer

log = logging.getLogger(__name__)
POCKETSPHINX = "pocketsphinx"


def load_judges(
    recognizer: str = "", mos: str = "dnsmos", speaker: str = "resemblyzer", faults: str = POCKETSPHINX
) -> Judges:
    """The judges of these names; with weights from outside as KIND:MODEL, a folder, a file or a name on the hub.

    recognizer: whisper, pocketsphinx, both, or whisper:MODEL; "" is both where Whisper is there, else pocketsphinx, and the log
    says what is missing. mos: dnsmos or utmos:FILE. speaker: resemblyzer or wavlm-sv:MODEL. faults: pocketsphinx or none.
    Raises VoicegraftError for another name, for weights that are not on this machine (nothing is downloaded), and
    for a missing package, which it names.
    """
    kinds: tuple[tuple[str, str, str, Callable[[], Any], str, Callable[[str], Any]], ...] = (
        ("mos", mos, "dnsmos", DnsMosPredictor, "utmos", UtmosPredictor),
        ("speaker", speaker, "resemblyzer", ResemblyzerJudge, "wavlm-sv", WavLmJudge),
    )
    judges, names = _recognizers(recognizer)
    for role, asked, own, load_own, brought, load_brought in kinds:
        kind, _, model = asked.partition(":")
        if asked == own:
            judges[role], names[role] = load_own(), own
        elif kind == brought and model:
            judges[role] = load_brought(model)
            names[role] = judges[role].name
        else:
            raise VoicegraftError(f"there is no {role} judge {asked!r}; choose {own} or {brought}:MODEL")
    if faults not in (POCKETSPHINX, "none"):
        raise VoicegraftError(f"there is no judge of faults {faults!r}; choose pocketsphinx or none")
    if faults != "none":
        judges["faults"], names["faults"] = FaultJudge(), faults
    return Judges(**judges, names=names)


def _recognizers(asked: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The recogniser that leads, the one beside it, and the names of both."""
    kind, _, model = asked.partition(":")
    if asked not in ("", "whisper", POCKETSPHINX, "both") and not (kind == "whisper" and model):
        raise VoicegraftError(
            f"there is no recognizer judge {asked!r}; choose whisper, pocketsphinx, both or whisper:MODEL"
        )
    if asked == POCKETSPHINX:
        return {"recognizer": PocketSphinxRecognizer()}, {"recognizer": POCKETSPHINX}
    leads: Recognizer
    try:
        if model and not (Path(model) / MODEL).is_file():
            leads = WhisperRecognizer(model)
        else:
            leads = whisper.FasterWhisperRecognizer(Path(model) if model else whisper.judge_folder())
        normalize = whisper.english_normalizer()
    except VoicegraftError as error:
        if asked:
            raise
        log.warning("words are heard by pocketsphinx alone, which misses many of good speech: %s", error)
        return _recognizers(POCKETSPHINX)
    judges: dict[str, Any] = {"recognizer": leads, "normalize": normalize}
    names = {"recognizer": leads.name, "texts": "Whisper's English normaliser"}
    if asked in ("", "both"):
        judges[POCKETSPHINX], names["second recognizer"] = PocketSphinxRecognizer(), POCKETSPHINX
    return judges, names


def load_recognizer(name: str) -> tuple[Recognizer, Callable[[str], str] | None]:
    """A recogniser alone: whisper, pocketsphinx or whisper:MODEL.

    Returns: it, and the form in which it wants texts compared; None is ``normalize_transcript``'s.
    Raises VoicegraftError as `load_judges` does.
    """
    judges, _ = _recognizers(name or "none")
    return judges["recognizer"], judges.get("normalize")
