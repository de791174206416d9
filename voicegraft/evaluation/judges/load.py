"""The judges of an evaluation by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import Judges
from voicegraft.evaluation.judges.faults import FaultJudge
from voicegraft.evaluation.judges.packages import DnsMosPredictor, PocketSphinxRecognizer, ResemblyzerJudge
from voicegraft.evaluation.judges.transformer import UtmosPredictor, WavLmJudge, WhisperRecognizer


def load_judges(
    recognizer: str = "pocketsphinx", mos: str = "dnsmos", speaker: str = "resemblyzer", faults: str = "pocketsphinx"
) -> Judges:
    """The judges of these names; with weights from outside as KIND:MODEL, a folder, a file or a name on the hub.

    recognizer: pocketsphinx or whisper:MODEL. mos: dnsmos or utmos:FILE. speaker: resemblyzer or wavlm-sv:MODEL.
    faults: pocketsphinx or none.
    Raises VoicegraftError for another name, for weights that are not on this machine (nothing is downloaded), and
    for a missing package, which it names.
    """
    kinds: tuple[tuple[str, str, str, Callable[[], Any], str, Callable[[str], Any]], ...] = (
        ("recognizer", recognizer, "pocketsphinx", PocketSphinxRecognizer, "whisper", WhisperRecognizer),
        ("mos", mos, "dnsmos", DnsMosPredictor, "utmos", UtmosPredictor),
        ("speaker", speaker, "resemblyzer", ResemblyzerJudge, "wavlm-sv", WavLmJudge),
    )
    judges: dict[str, Any] = {}
    names = {}
    for role, asked, own, load_own, brought, load_brought in kinds:
        kind, _, model = asked.partition(":")
        if asked == own:
            judges[role], names[role] = load_own(), own
        elif kind == brought and model:
            judges[role] = load_brought(model)
            names[role] = judges[role].name
        else:
            raise VoicegraftError(f"there is no {role} judge {asked!r}; choose {own} or {brought}:MODEL")
    if faults not in ("pocketsphinx", "none"):
        raise VoicegraftError(f"there is no judge of faults {faults!r}; choose pocketsphinx or none")
    if faults != "none":
        judges["faults"], names["faults"] = FaultJudge(), faults
    return Judges(**judges, names=names)
