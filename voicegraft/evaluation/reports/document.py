"""One report document: paragraphs, tables, facts and figures, written as Markdown, JSON and one HTML page."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's palette, made for eyes of every kind.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.15,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Table:
    """Rows of cells; a table without rows says `empty` instead."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "None."


@dataclass(frozen=True)
class Facts:
    """Names and JSON values; what is None is not told."""

    values: Mapping[str, Any]

    def told(self) -> dict[str, str]:
        return {str(name): fact(value) for name, value in self.values.items() if value is not None}


@dataclass(frozen=True)
class Figure:
    name: str  # of its file
    title: str
    svg: str


@dataclass(frozen=True)
class Section:
    title: str  # "" for none
    parts: Sequence[str | Table | Facts | Figure]  # a str is a paragraph; `code` in it stands between backticks


@dataclass(frozen=True)
class Document:
    title: str
    sections: Sequence[Section]

    def markdown(self) -> str:
        """Figures are links to NAME.svg."""
        blocks = [f"# {self.title}"]
        for section in self.sections:
            blocks += [f"## {section.title}"] * bool(section.title) + list(map(_markdown, section.parts))
        return "\n\n".join(blocks) + "\n"


def write_document(folder: Path, name: str, document: Document, data: Any, page: bool = True) -> str:
    """Writes NAME.json (`data`), NAME.md with its figures and, with `page`, NAME.html; returns the Markdown."""
    text = document.markdown()
    write_text(folder / f"{name}.json", json.dumps(data, indent=1, ensure_ascii=False))
    for section in document.sections:
        for part in section.parts:
            if isinstance(part, Figure):
                write_text(folder / f"{part.name}.svg", part.svg)
    write_text(folder / f"{name}.md", text)
    if page:
        write_text(folder / f"{name}.html", render("document.html", document=document))
    return text


def render(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file; whatever values hold, it cannot become markup."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise VoicegraftError("pages need jinja2: pip install voicegraft[evaluate]") from error
    folder = FileSystemLoader(Path(__file__).parent)
    found = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["prose"] = lambda text: Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text)))
    found.filters["base64"] = lambda data: base64.b64encode(data).decode()
    found.tests["table"] = lambda part: isinstance(part, Table)
    found.tests["facts"] = lambda part: isinstance(part, Facts)
    found.tests["figure"] = lambda part: isinstance(part, Figure)
    return found


def need_matplotlib() -> None:
    """Raises VoicegraftError where matplotlib is missing; call it before hours of evaluation."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise VoicegraftError("plots need matplotlib: pip install voicegraft[evaluate]") from error


def draw(name: str, title: str, drawing: Callable[[Canvas], None], height: float, width: float = 4.5) -> Figure:
    """What `drawing` draws; width and height in inches. Raises VoicegraftError where matplotlib is missing."""
    need_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    style: Any = {**_STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        drawing(canvas)
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None})
    return Figure(name, title, file.getvalue())


def interval(estimate: Mapping[str, float] | None, digits: int, sign: str = "") -> str:
    """`value [low, high]`, the value alone where there is no interval, or a dash for what was not measured."""
    if not estimate or estimate.get("value") is None:
        return "-"
    value, form = estimate["value"], f"{sign}.{digits}f"
    low, high = estimate.get("low"), estimate.get("high")
    return f"{value:{form}}" + (f" [{low:{form}}, {high:{form}}]" if low is not None and high is not None else "")


def percent(estimate: Mapping[str, float], digits: int = 1) -> str:
    """A share as `value % [low, high]`."""
    value, low, high = (f"{100 * estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def decimal(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def fact(value: Any) -> str:
    """A JSON value in words; what is not known is left out."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact(part)}" for name, part in value.items() if part is not None)
    return ", ".join(map(fact, value)) if isinstance(value, (list, tuple)) else str(value)


def fact_list(facts: Mapping[str, Any]) -> str:
    """Facts as a list in Markdown."""
    return "\n".join(f"- {name}: {value}" for name, value in Facts(facts).told().items())


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with whatever its cells hold."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join(map(line, (columns, ["---"] * len(columns), *rows)))


def _markdown(part: str | Table | Facts | Figure) -> str:
    if isinstance(part, Table):
        return markdown_table(part.columns, part.rows) if part.rows else part.empty
    if isinstance(part, Facts):
        return fact_list(part.values)
    return f"![{part.title}]({part.name}.svg)" if isinstance(part, Figure) else part
