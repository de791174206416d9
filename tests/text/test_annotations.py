"""What markup says beyond its text travels inside it."""

from voicegraft.text.markup.annotations import Annotation, pause, read_annotations, say_as


def test_an_annotation_is_read_back_where_it_stands() -> None:
    text = f"Call {say_as('digits', '911')} or {say_as('sub=World Wide Web', 'W3')}."
    assert read_annotations(text) == (
        "Call 911 or W3.",
        (Annotation(5, 8, "digits"), Annotation(12, 14, "sub=World Wide Web")),
    )


def test_what_is_empty_or_too_long_is_text_and_pauses_are_none() -> None:
    assert (say_as("digits", " "), say_as("", "x"), say_as("digits", "1" * 201)) == ("", "x", "1" * 201)
    assert say_as("sub=a\ufdd1b", "x\ny") == "\ufdd0sub=a\ufdd4b\ufdd1x\ufdd4y\ufdd2"
    assert read_annotations(f"a{pause(0.25)}b\ufdd0c{pause(1)}") == ("abc", ())
