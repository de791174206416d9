"""Does an LLM answer speech as it answers the written words? Its distribution, its answers, and how far the floors are.

The measure of MTBI (arXiv 2505.18644) and its benchmark in two parts: wordings of trained tasks that training never used, and
tasks that it never used. The answer to the true text is the ceiling; every other place is measured on that same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Message
from voicegraft.data.listening_tasks import REPEAT, ListeningTask, prompt_of
from voicegraft.data.splits import hash_share, text_key
from voicegraft.evaluation.listening.answering import TEXT, Answering, Place, Places
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

    @property
    def has_score(self) -> bool:
        """Whether an answer is right or wrong."""
        return self.item is not None or self.task == REPEAT

    def asked(self, place: Place) -> list[Message]:
        return prompt_of(self.wording, *place(self.clip))


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
    ceilings: Ledger,
    max_tokens: int,
    normalize: Callable[[str], str],
    batch: int = 16,
    shown: Callable[[Sequence[Sequence[Case]]], Iterable[Sequence[Case]]] = iter,
) -> list[Row]:
    """Rows of all cases under all places, those of the true text first; what the ledgers hold is not made again.

    Args:
        names: places, without the true text.
        ledger: of their rows. ceilings: of the true text's, which may be the same one.
        max_tokens: of an answer; to repeat a text takes as many as the text has, and some.
        batch: answers that are written together.
        shown: wraps the batches that are left, for a bar.
    """

    def written(group: Sequence[Case], name: str) -> Iterator[tuple[Case, list[int]]]:
        """Of each case the answer to what stands there."""
        if group:
            longest = [max_tokens + (len(case.clip.text) // 2 if case.task == REPEAT else 0) for case in group]
            said = model.write([case.asked(places.of(name)) for case in group], max(longest))
            yield from ((case, ids[:most]) for case, ids, most in zip(group, said, longest, strict=True))

    todo = [case for case in asked if any(case.key(name) not in ledger.rows for name in names)]
    for group in shown([todo[at : at + batch] for at in range(0, len(todo), batch)]):
        for case, said in written([case for case in group if case.key(TEXT) not in ceilings.rows], TEXT):
            row = _row(case, TEXT, 0.0, len(said), len(said)) | {"ids": said}
            ceilings.add(row | _scored(case, model.decode(said), normalize))
        expected = {id(case): model.log_probs(case.asked(places.of(TEXT)), _ceiling(case, ceilings)) for case in group}
        for name in names:
            left = [case for case in group if case.key(name) not in ledger.rows]
            answers = {id(case): said for case, said in written([case for case in left if case.has_score], name)}
            for case in left:
                true = expected[id(case)]
                found = model.log_probs(case.asked(places.of(name)), _ceiling(case, ceilings))
                divergence = float((true.exp() * (true - found)).sum())
                agreed = int((true.argmax(-1) == found.argmax(-1)).sum())
                row = _row(case, name, divergence, agreed, len(true))
                if case.has_score:
                    row |= _scored(case, model.decode(answers[id(case)]), normalize)
                ledger.add(row)
    rows = [ceilings.rows[case.key(TEXT)] for case in asked]
    return rows + [ledger.rows[case.key(name)] for name in names for case in asked]


def _ceiling(case: Case, ceilings: Ledger) -> list[int]:
    said: list[int] = ceilings.rows[case.key(TEXT)]["ids"]
    return said


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
