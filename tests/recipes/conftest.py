from collections.abc import Iterator

import pytest

from voicegraft.evaluation.reports import corpus
from voicegraft.evaluation.reports.document import Figure, need_matplotlib


@pytest.fixture(scope="module")
def no_picture() -> Iterator[None]:
    """The picture in the report of `prepare`, which takes a second to draw, is empty."""

    def draw(name: str, title: str, *_: object) -> Figure:
        need_matplotlib()
        return Figure(name, title, "<?xml")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "draw", draw)
        yield
