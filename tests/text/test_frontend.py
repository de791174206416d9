"""Front ends: what is said of a written text, in English and in any language."""

import random
import time

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.normalize import Normalizer
from voicegraft.text.english.sentences import split_sentences
from voicegraft.text.frontend import Frontend, need_spelling, open_frontend, spoken_text
from voicegraft.text.spoken_form import WIDE, num_letters

ALPHABET = 'аб В.。！ !?…\n,，"”」5'


@pytest.fixture(scope="module")
def verbatim() -> Frontend:
    return open_frontend("verbatim")


def test_english_says_what_the_normalizer_says_sentence_by_sentence() -> None:
    text = "Dr. Smith paid $5.20 at 3 p.m. He 😀 left. 😀"
    forms = list(open_frontend("english").sentences([text]))
    assert [form.written for form in forms] == split_sentences(text)
    assert [form.text for form in forms[:2]] == [Normalizer().normalize(form.written) for form in forms[:2]]
    assert [form.skipped for form in forms] == [(), ("😀",), ("😀",)] and forms[2].parts == ()
    assert spoken_text(open_frontend("english"), text) == f"{forms[0].text} {forms[1].text}"
    assert len(next(iter(open_frontend("english").sentences(["Call " + "123456789 " * 20]))).parts) > 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Привет, мир. Как дела?! Хорошо.", ["Привет, мир.", "Как дела?!", "Хорошо."]),
        ("你好。「你去哪里？」他问。我不知道。", ["你好。", "「你去哪里？」", "他问。", "我不知道。"]),
        ("नमस्ते। आप कैसे हैं? می‌خواهم بروم۔ او رفت.", ["नमस्ते।", "आप कैसे हैं?", "می‌خواهم بروم۔", "او رفت."]),
        ("J. S. Bach kam am 5. Mai, z. B. heute. Ja.", ["J. S. Bach kam am 5. Mai, z. B. heute.", "Ja."]),
        ("Über\n\nalles\nund mehr", ["Über", "alles und mehr"]),
    ],
)
def test_sentences_end_in_any_script(text: str, sentences: list[str], verbatim: Frontend) -> None:
    assert [form.written for form in verbatim.sentences([text])] == sentences
    assert all(form.text == form.written and not form.skipped for form in verbatim.sentences([text]))


def test_verbatim_keeps_every_word_and_tells_what_it_leaves_out(verbatim: Frontend) -> None:
    assert spoken_text(verbatim, "schön … 5 Äpfel") == "schön … 5 Äpfel"
    (form,) = verbatim.sentences(["a\x07b \ud800 می\u200cخواهم\x07."])
    assert (form.text.split(), form.skipped) == (["ab", "می\u200cخواهم."], ("U+0007", "U+D800"))
    assert [(form.text, form.skipped) for form in verbatim.sentences(["😀 🙂\n\n5\n\n..."])] == [
        ("", ("😀", "🙂")), ("5", ()), ("", ()),
    ]  # fmt: skip


def test_pieces_of_any_size_give_the_same_sentences_and_lose_nothing(verbatim: Frontend) -> None:
    for seed in range(60):
        draw = random.Random(seed)
        text = "".join(draw.choices(ALPHABET, k=draw.choice((30, 200, 900))))
        whole = [form.written for form in verbatim.sentences([text])]
        size = draw.randint(1, 20)
        pieces = (text[i : i + size] for i in range(0, len(text), size))
        assert [form.written for form in verbatim.sentences(pieces)] == whole
        assert "".join("".join(whole).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("piece", "longest"), [("字", 74), ("слово ", 221), ("x", 221), ("слово, ", 221), ("e\u0301", 222)]
)
def test_endless_sentences_are_cut(piece: str, longest: int, verbatim: Frontend) -> None:
    text = (piece * 500).strip()
    written = [form.written for form in verbatim.sentences([text])]
    assert "".join("".join(written).split()) == "".join(text.split())
    assert len(written) > 1 and max(map(len, written)) <= longest
    assert not any(sentence.startswith("\u0301") for sentence in written)
    if " " in piece:
        assert all(word in piece for sentence in written for word in sentence.split())


@pytest.mark.parametrize("piece", ["Слово за словом. ", "字", ".", " \n"])
def test_time_is_in_proportion(piece: str, verbatim: Frontend) -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        for _ in verbatim.sentences([piece * count]):
            pass
        return time.process_time() - started

    seconds(100)
    assert seconds(4000) < 30 * max(seconds(500), 0.01)


def test_spoken_words_lead_back_to_the_written_ones(verbatim: Frontend) -> None:
    written = "a\x07b как\x07, я"  # on one line, as a sentence stands
    spans = _spans(verbatim, written)
    assert spans[-1] == (len(written) - 1, len(written)) and spans == sorted(spans)
    assert _spans(verbatim, "ein Wort ein") == [(0, 3), (4, 8), (9, 12)]
    assert _spans(open_frontend("english"), "It is 5.") == [(0, 2), (3, 5), (6, 7)]


def _spans(frontend: Frontend, written: str) -> list[tuple[int, int]]:
    (form,) = frontend.sentences([written])
    return [span for part in form.parts for span in part.spans]


def test_unknown_front_ends_and_what_they_cannot_do_are_refused() -> None:
    with pytest.raises(VoicegraftError, match=r"one of english, verbatim, got 'klingon'"):
        open_frontend("klingon")
    with pytest.raises(VoicegraftError, match=r"set speech\.layout to plain"):
        need_spelling("verbatim", "guided")
    need_spelling("verbatim", "plain")
    need_spelling("english", "guided")


@pytest.mark.parametrize(
    ("text", "letters", "with_wide"),
    [("Ab c!", 3, 3), ("in 1984", 18, 18), ("Straße", 6, 6), ("猫が", 2, 6), ("한국 5", 6, 10), ("—。", 0, 0)],
)
def test_letters_of_any_script_count_and_digits_as_four(text: str, letters: int, with_wide: int) -> None:
    assert (num_letters(text), num_letters(text, WIDE)) == (letters, with_wide)
