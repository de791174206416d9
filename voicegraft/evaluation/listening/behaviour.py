"""Does an LLM answer speech as it answers the written words? Its distribution, its answers, and how far the floors are.

The measure of MTBI (arXiv 2505.18644) and its benchmark in two parts: wordings of trained tasks that training never used, and
tasks that it never used. The answer to the true text is the ceiling; every other place is measured on that same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from voicegraft.core.ledger import Ledger, Row
from voicegraft.data.listening_tasks import REPEAT, ListeningTask, prompt_of
from voicegraft.data.splits import hash_share, text_key
from voicegraft.evaluation.listening.answering import TEXT, Answering, Places
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.evaluation.listening.items import Item
from voicegraft.evaluation.metrics.rates import word_edits

Part = Literal["seen wording", "unseen wording", "unseen task"]
PARTS: tuple[Part, ...] = ("seen wording", "unseen wording", "unseen task")
QUESTION, DETAIL = "spoken question", "detail"  # tasks with a right answer
KEYS = ("who", "corpus", "id", "task", "wording")  # of every row; who: what stood in the audio's place, or a reader


@dataclass(frozen=True, eq=False)
class Case:
    """One thing that is asked of one clip."""

    clip: Spoken
    task: str
    wording: str
    part: Part
    item: Item | None = None  # where there is a right answer

    def key(self, place: str) -> tuple[str, str, str, str, str]:
        return place, self.clip.corpus, self.clip.id, self.task, self.wording


def cases(
    clips: Sequence[Spoken],
    tasks: Mapping[str, ListeningTask],
    questions: Mapping[str, Item],
    sentences: Mapping[str, Item],
) -> Iterator[Case]:
    """For each clip one wording of every task and part that suits its text, always the same one.

    Args:
        questions: key of what is said -> what is right; the same of ``sentences``, which are asked for more than that.
    """
    for clip in clips:
        if item := questions.get(text_key(clip.text)):
            yield Case(clip, QUESTION, item.wording, "seen wording", item)
            continue
        if item := sentences.get(text_key(clip.text)):
            yield Case(clip, DETAIL, item.wording, "unseen task", item)
        for name, task in tasks.items():
            if task.form == "text" and task.suits(clip.text):
                unseen: Part = "unseen wording" if task.trained else "unseen task"
                parts: tuple[tuple[Part, tuple[str, ...]], ...] = (
                    ("seen wording", task.trained),
                    (unseen, task.held_out),
                )
                for part, wordings in parts:
                    if wordings:
                        chosen = wordings[int(len(wordings) * hash_share(f"{name} {clip.id} {clip.text}"))]
                        yield Case(clip, name, chosen, part)


def measure(
    asked: Sequence[Case],
    names: Sequence[str],
    places: Places,
    model: Answering,
    ledger: Ledger,
    max_tokens: int,
    normalize: Callable[[str], str],
    shown: Callable[[Sequence[Case]], Sequence[Case]] = lambda todo: todo,
) -> list[Row]:
    """Rows of all cases under all places, the true text first; those that the ledger holds are not made again.

    Args:
        names: places, without the true text.
        max_tokens: of an answer; to repeat a text takes as many as the text has, and some.
        shown: wraps the cases that are left, for a bar.
    """
    wanted = [TEXT, *names]
    for case in shown([case for case in asked if any(case.key(name) not in ledger.rows for name in wanted)]):
        ceiling = ledger.rows.get(case.key(TEXT))
        prompt = prompt_of(case.wording, *places.of(TEXT)(case.clip))
        longest = max_tokens + (len(case.clip.text) // 2 if case.task == REPEAT else 0)
        if ceiling is None:
            said = model.write(prompt, longest)
            ceiling = (
                _row(case, TEXT, 0.0, len(said), len(said))
                | {"ids": said}
                | _scored(case, model.decode(said), normalize)
            )
            ledger.add(ceiling)
        said, expected = ceiling["ids"], None
        for name in names:
            if case.key(name) in ledger.rows:
                continue
            if expected is None:
                expected = model.log_probs(prompt, said)
            other = prompt_of(case.wording, *places.of(name)(case.clip))
            found = model.log_probs(other, said)
            divergence = float((expected.exp() * (expected - found)).sum())
            agreed = int((expected.argmax(-1) == found.argmax(-1)).sum())
            row = _row(case, name, divergence, agreed, len(said))
            if case.item or case.task == REPEAT:
                row |= _scored(case, model.decode(model.write(other, longest)), normalize)
            ledger.add(row)
    return [ledger.rows[case.key(name)] for case in asked for name in wanted]


def _row(case: Case, place: str, divergence: float, agreed: int, num_tokens: int) -> Row:
    """The sum of KL(true text || place) over the tokens of the ceiling's answer, in nats, and where the likeliest agree."""
    key = dict(zip(KEYS, case.key(place), strict=True))
    return {**key, "part": case.part, "kl": divergence, "agreed": agreed, "num_tokens": num_tokens}


def _scored(case: Case, answer: str, normalize: Callable[[str], str]) -> Row:
    row: Row = {"answer": answer}
    if case.item:
        row["right"] = case.item.is_right(answer)
    if case.task == REPEAT:
        edits = word_edits(case.clip.text, answer, normalize)
        row |= {"word_errors": edits.errors, "num_words": edits.length}
    return row
