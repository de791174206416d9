"""Sentences: where they end, that no word is lost, and that a stream gives the same as the whole text."""

import random
from collections.abc import Iterator

import pytest

from voicegraft.text.english.sentences import iter_sentences, split_sentences

SENTENCES = [
    ["Mr. Smith went to Washington.", "He arrived at 5 p.m. Monday.", "Then he slept."],
    ["Dr. Jones, e.g. a surgeon, paid $3.50 for No. 7.", "It was fine."],
    ["J. R. R. Tolkien wrote it.", "So did C. S. Lewis."],
    ["The U.S. Army left the U.S.", "They went home."],
    ['"Really?" he asked.', '"Yes."', "She left."],
    ["Wait... what?", "Well...", "Then go!"],
    ["hello there.", "how are you?", "i am fine."],
    ["It was approx. five miles.", "See Fig. 3.", "Next."],
    ["Apple Inc. announced it.", "He works at Apple Inc.", "He is happy."],
    ["At 5 p.m. John left.", "It's 3.14.", "OK."],
    ["1. Open the door.", "2. Close it."],
    ["St. Louis is big.", "Mt. Everest is bigger."],
    ["Is this it?!", "Yes!!", "Good."],
    ["George W. Bush spoke.", "Plan A.", "It failed."],
    ["Nancy lived on Elm St.", "It was strange."],
    ["'It's 5,' she said.", "'Go.'", "They went."],
    ["A. A. Milne met J. A. Smith.", "They spoke."],
    ["Visit www.example.com.", "Now."],
]


@pytest.mark.parametrize("sentences", SENTENCES, ids=lambda sentences: sentences[0])
def test_finds_the_ends(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


def test_paragraphs_and_lists_end_sentences_but_wrapped_lines_do_not() -> None:
    text = "A Title\n\nIt is\nwrapped here\r\n\r\n- one\n- two"
    assert split_sentences(text) == ["A Title", "It is wrapped here", "- one", "- two"]


def test_headings_and_rows_of_tables_are_sentences() -> None:
    text = "# The Title\nText that is\nwrapped.\n## Mr. Smith\nMore\n| a | b |\n|---|---|\n| 1 | 2 |\nThe end"
    assert split_sentences(text) == [
        *(
            "# The Title",
            "Text that is wrapped.",
            "## Mr. Smith",
            "More",
            "| a | b |",
            "|---|---|",
            "| 1 | 2 |",
            "The end",
        )
    ]
    for size in range(1, 9):
        assert list(iter_sentences(text[i : i + size] for i in range(0, len(text), size))) == split_sentences(text)


def test_long_sentences_are_cut_where_a_reader_would_breathe() -> None:
    text = "The old man, who had never seen the sea, walked down to the harbour because his son had asked it."
    assert split_sentences(text, 50) == [
        "The old man, who had never seen the sea,",
        "walked down to the harbour",
        "because his son had asked it.",
    ]


@pytest.mark.parametrize("text", ["x" * 1000, "word " * 500, "a,b;c " * 300, "Mr. " * 300, "\n" * 1000, "", " \t\n"])
def test_nothing_is_longer_than_allowed_and_no_character_is_lost(text: str) -> None:
    pieces = split_sentences(text, 50)
    assert all(0 < len(piece) <= 50 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_a_stream_gives_the_same_sentences_in_chunks_of_any_size() -> None:
    whole = "\n\n".join(" ".join(sentences) for sentences in SENTENCES)
    for max_chars in (40, 220):
        expected = split_sentences(whole, max_chars)
        for seed in range(60):
            rng = random.Random(seed)
            cuts = sorted(rng.randrange(len(whole)) for _ in range(rng.randrange(1, 300)))
            chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
            assert list(iter_sentences(chunks, max_chars)) == expected


def test_random_text_streams_like_it_splits() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        text = "".join(rng.choice("ab AB.?!,;'\"()\n 12-Mr#|") for _ in range(rng.randrange(200)))
        chunks = [text[i : i + 7] for i in range(0, len(text), 7)]
        assert list(iter_sentences(chunks, 30)) == split_sentences(text, 30)


def test_a_sentence_comes_as_soon_as_the_next_word_is_there() -> None:
    taken: list[str] = []

    def chunks() -> Iterator[str]:
        for word in ["First one.", " Second", " one. ", "Third."]:
            taken.append(word)
            yield word

    sentences = iter_sentences(chunks())
    assert next(sentences) == "First one."
    assert taken == ["First one.", " Second", " one. "]


def test_an_endless_stream_needs_no_more_than_a_window() -> None:
    def words() -> Iterator[str]:
        while True:
            yield "never ending story "

    sentences = iter_sentences(words(), 100)
    assert all(len(next(sentences)) <= 100 for _ in range(1000))


def test_a_senseless_length_is_refused() -> None:
    with pytest.raises(ValueError, match="max_chars"):
        split_sentences("Hello.", 1)


CLAUSES = [
    ("Yes, the capital of France is Paris, which lies on the Seine and is old. It is big.",
     ["Yes, the capital of France is Paris,", "which lies on the Seine and is old.", "It is big."]),
    ("The capital of France is Paris. It lies on the river, which is long and wide and old.", None),
    ("It was founded on the fourth of July, 1776, by people who wanted to be free of a king.",
     ["It was founded on the fourth of July, 1776,", "by people who wanted to be free of a king."]),
    ("There are three of them that I like: one is red, the second one is blue, and so on.",
     ["There are three of them that I like:", "one is red, the second one is blue, and so on."]),
    ("I like apples and oranges and pears, he said.", None),
    ("A short answer, no more.", None),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(("text", "pieces"), CLAUSES)
def test_in_a_hurry_the_first_clause_comes_alone(text: str, pieces: list[str] | None, size: int) -> None:
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    assert list(iter_sentences(chunks, hurry=True)) == (pieces or split_sentences(text))


def test_the_first_clause_does_not_wait_for_the_rest() -> None:
    read = []

    def arriving() -> Iterator[str]:
        for word in (CLAUSES[0][0] + " More." * 20).split():
            read.append(word)
            yield word + " "

    assert next(iter(iter_sentences(arriving(), hurry=True))) == "Yes, the capital of France is Paris,"
    assert read[-1] in ("lies", "on", "the")
