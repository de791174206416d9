"""voicegraft: take any text LLM and make it speak without forgetting.

The public names, which ``docs/api.md`` describes. Each is loaded when it is first used; importing the package loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voicegraft.core.errors import VoicegraftError
    from voicegraft.core.messages import Message, Waveform
    from voicegraft.fusion.backbone import BackboneSettings
    from voicegraft.fusion.speech_lm import SpeechLM
    from voicegraft.guard.guarded import GuardPolicy, SpeechFailure
    from voicegraft.inference.arriving import Arriving
    from voicegraft.inference.listener import Answer, HeardSegment, Listener
    from voicegraft.inference.pack import Pack, open_pack
    from voicegraft.inference.report import SpeechReport, SpokenSentence, SpokenWord
    from voicegraft.inference.sampling import Sampling
    from voicegraft.inference.sentence import SpeakOptions
    from voicegraft.inference.speaker import Speaker
    from voicegraft.inference.speech import AnswerStream, Speech, SpeechStream
    from voicegraft.inference.timestamps import TimestampWriter
    from voicegraft.inference.voice import Voice
    from voicegraft.inference.writer import Writing, WritingOptions

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AnswerStream",
    "Arriving",
    "BackboneSettings",
    "GuardPolicy",
    "HeardSegment",
    "Listener",
    "Message",
    "Pack",
    "Sampling",
    "SpeakOptions",
    "Speaker",
    "Speech",
    "SpeechFailure",
    "SpeechLM",
    "SpeechReport",
    "SpeechStream",
    "SpokenSentence",
    "SpokenWord",
    "TimestampWriter",
    "Voice",
    "VoicegraftError",
    "Waveform",
    "Writing",
    "WritingOptions",
    "open_pack",
]

# The imports above once more, for the time when a name is used; a test keeps them the same.
_HOMES = {
    "core.errors": "VoicegraftError",
    "core.messages": "Message Waveform",
    "fusion.backbone": "BackboneSettings",
    "fusion.speech_lm": "SpeechLM",
    "guard.guarded": "GuardPolicy SpeechFailure",
    "inference.arriving": "Arriving",
    "inference.listener": "Answer HeardSegment Listener",
    "inference.pack": "Pack open_pack",
    "inference.report": "SpeechReport SpokenSentence SpokenWord",
    "inference.sampling": "Sampling",
    "inference.sentence": "SpeakOptions",
    "inference.speaker": "Speaker",
    "inference.speech": "AnswerStream Speech SpeechStream",
    "inference.timestamps": "TimestampWriter",
    "inference.voice": "Voice",
    "inference.writer": "Writing WritingOptions",
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"voicegraft.{module}"), name)
    raise AttributeError(f"module 'voicegraft' has no attribute {name!r}; its public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
