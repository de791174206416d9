"""Written prompts with answers -> prompts of which a span of sentences is spoken, for training on mixed input.

    voicegraft recipe mix_modalities chats=chats.jsonl out=runs/mine/mixed
    voicegraft synthesize texts=runs/mine/mixed/spans.txt hours=5 out=runs/mixed-speech   # then prepare and encode it

VoiceTextBlender (arXiv 2410.17485): of each prompt at most two variants; a span of sentences becomes speech, the written answer
stays. A line of the file is ``{"prompt": ..., "answer": ...}``, or ``{"messages": [{"role": ..., "content": ...}, ...]}`` that
ends with the assistant's. Maths and coding (``category``) are left out. The prompts as they are written come along, as text.
Writes block-*.safetensors, spans.txt and README.md; ``train_listening`` reads them, once the spans are spoken and prepared.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.text_input import file_lines
from voicegraft.data.listening_tasks import HEARD
from voicegraft.data.responses import UNKNOWN, Response, block_file, write_block
from voicegraft.data.splits import Splits
from voicegraft.evaluation.speech.reserved import ReservedTexts
from voicegraft.recipes.command import recipe_main
from voicegraft.text.english.sentences import split_sentences

_BLOCK = 1024  # rows


@dataclass(frozen=True)
class MixModalitiesConfig:
    chats: Path  # JSON lines
    out: Path  # receives the rows
    variants: int = 2  # of a prompt, at most; never more than it has sentences
    with_text: bool = True  # the prompts as they are written too, as text alone
    max_prompt_words: int = 90  # about 128 tokens
    max_answer_words: int = 700  # about 1,024 tokens
    left_out: tuple[str, ...] = ("math", "coding", "code")  # beginnings of the categories that cannot be spoken
    licence: str = "not stated"  # of the chats
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variants < 0 or not (self.variants or self.with_text):
            raise ValueError("expected variants of at least 1, or with_text")


def mix_modalities(config: MixModalitiesConfig) -> None:
    """
    Raises:
        VoicegraftError: a line is no chat, or nothing is left of them.
    """
    counts: Counter[str] = Counter()
    chats = list(_chats(config, counts))
    rule = Splits.over(chat.wording for chat in chats)
    rows: list[Response] = []
    for number, chat in enumerate(chats):
        chat = replace(chat, split=rule(chat.wording))
        rows += [chat] * config.with_text
        rows += spoken_variants(chat, config.variants, random.Random(f"{config.seed} {number}"))
    if not rows:
        raise VoicegraftError(f"nothing is left of {config.chats} ({dict(counts)}): expected prompts with answers")
    for at in range(0, len(rows), _BLOCK):
        write_block(config.out, at // _BLOCK, [(row, UNKNOWN) for row in rows[at : at + _BLOCK]])
    number = -(-len(rows) // _BLOCK)
    while block_file(config.out, number).is_file():  # of an earlier, longer run
        block_file(config.out, number).unlink()
        number += 1
    spans = list(dict.fromkeys(row.text for row in rows if row.text))
    write_text(config.out / "spans.txt", "\n".join(spans))
    left_out = ", ".join(f"{reason}: {count}" for reason, count in counts.most_common()) or "nothing"
    told = f"{len(chats)} chats, {len(rows)} rows, {len(spans)} spans to be spoken; left out {left_out}"
    write_text(
        config.out / "README.md",
        f"# Mixed prompts of {config.chats.name}\n\n{told}. Licence of the chats: {config.licence}.",
    )
    print(f"{told}; now: voicegraft synthesize texts={config.out / 'spans.txt'} out=SPEECH")


def spoken_variants(chat: Response, count: int, draw: random.Random) -> list[Response]:
    """The chat with a span of sentences of its last prompt spoken: the start of the span uniform, then its end."""
    sentences = split_sentences(chat.wording)
    found: dict[str, Response] = {}
    for _ in range(min(count, len(sentences))):
        begin = draw.randrange(len(sentences))
        end = draw.randrange(begin, len(sentences)) + 1
        lines = [" ".join(sentences[:begin]), HEARD, " ".join(sentences[end:])]
        span = " ".join(sentences[begin:end])
        # What is spoken stands on a line of its own, so that all around it is cut into the same tokens.
        row = replace(chat, task="mixed", wording="\n".join(filter(None, lines)), text=span)
        if any(map(str.isalnum, span)):
            found[span] = row
    return list(found.values())


def _chats(config: MixModalitiesConfig, counts: Counter[str]) -> Iterator[Response]:
    reserved = ReservedTexts()
    for number, line in enumerate(file_lines(config.chats), 1):
        try:
            raw = json.loads(line)
            turns = _turns(raw)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise VoicegraftError(
                f"{config.chats}:{number}: expected an object with prompt and answer, or with messages: {error!r}"
            ) from error
        *history, (_, prompt), (_, answer) = turns
        category = str(raw.get("category", "")).lower()
        if category.startswith(config.left_out):
            counts["category"] += 1
        elif len(prompt.split()) > config.max_prompt_words or len(answer.split()) > config.max_answer_words:
            counts["too long"] += 1
        elif not prompt or not answer or HEARD in prompt:
            counts["empty"] += 1
        elif prompt in reserved:
            counts["reserved"] += 1
        else:
            licence = str(raw.get("licence") or raw.get("license") or config.licence)
            yield Response(
                "chat",
                prompt,
                "",
                answer,
                origin=f"{config.chats.name}:{number}",
                licence=licence,
                history=tuple(history),
            )


def _turns(raw: Any) -> list[tuple[str, str]]:
    """(role, text), of which the last two are the user's and the assistant's."""
    if "messages" in raw:
        turns = [(str(turn["role"]), str(turn["content"]).strip()) for turn in raw["messages"]]
    else:
        turns = [("user", str(raw["prompt"]).strip()), ("assistant", str(raw["answer"]).strip())]
    if [role for role, _ in turns[-2:]] != ["user", "assistant"] or any(role not in _ROLES for role, _ in turns):
        raise ValueError("the last two messages are to be the user's and the assistant's")
    return turns


_ROLES = ("system", "user", "assistant")
main = recipe_main(mix_modalities, __doc__)


if __name__ == "__main__":
    main()
