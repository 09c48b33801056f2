"""Blocks of a report as Markdown and as HTML, in which no text that they are given is markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str

    def markdown(self) -> str:
        return escape_markdown(self.text)

    def html(self) -> str:
        return f"<p>{escape_html(self.text)}</p>"


@dataclass(frozen=True)
class Bullets:
    """A list of plain texts."""

    items: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {escape_markdown(item)}" for item in self.items)

    def html(self) -> str:
        return f"<ul>{''.join(f'<li>{escape_html(item)}</li>' for item in self.items)}</ul>"


@dataclass(frozen=True)
class Table:
    """Rows of plain texts under titles; after the first ``n_texts`` columns, they are numbers."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_texts: int = 1

    def markdown(self) -> str:
        rule = ["---" if self._is_text(i) else "---:" for i in range(len(self.titles))]
        cells = [[escape_markdown(cell) for cell in row] for row in (self.titles, *self.rows)]
        cells.insert(1, rule)
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)

    def html(self) -> str:
        head = f"<thead>{self._row(self.titles, 'th')}</thead>" if any(self.titles) else ""
        body = "".join(self._row(row, "td") for row in self.rows)
        return f'<div class="scroll" tabindex="0"><table>{head}<tbody>{body}</tbody></table></div>'

    def _row(self, cells: Sequence[str], tag: str) -> str:
        numbers = ["" if self._is_text(i) else ' class="number"' for i in range(len(cells))]
        scope = ' scope="col"' if tag == "th" else ""
        return (
            "<tr>"
            + "".join(
                f"<{tag}{scope}{number}>{escape_html(cell)}</{tag}>"
                for number, cell in zip(numbers, cells, strict=True)
            )
            + "</tr>"
        )

    def _is_text(self, column: int) -> bool:
        return column < self.n_texts


@dataclass(frozen=True)
class Picture:
    """An image at an address, and what it shows in words."""

    source: str
    alt: str

    def markdown(self) -> str:
        return f"![{escape_markdown(self.alt)}]({self.source})"

    def html(self) -> str:
        return f'<p><img src="{escape_html(self.source)}" alt="{escape_html(self.alt)}"></p>'


Block = Paragraph | Bullets | Table | Picture


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]

    def markdown(self) -> str:
        """The blocks alone, without the title."""
        return "\n\n".join(block.markdown() for block in self.blocks)

    def html(self) -> str:
        blocks = "".join(block.html() for block in self.blocks)
        return f"<section><h2>{escape_html(self.title)}</h2>{blocks}</section>"


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {escape_markdown(title)}"]
    for section in sections:
        parts += [f"## {escape_markdown(section.title)}", section.markdown()]
    return "\n\n".join(parts) + "\n"


def html_fragment(title: str, sections: Sequence[Section]) -> str:
    """The report as a part of a page that has a style of its own, such as a notebook."""
    body = "\n".join(section.html() for section in sections)
    return (
        f"<style>{_STYLE}</style>\n"
        f'<article class="skood-report"><h1>{escape_html(title)}</h1>\n{body}\n</article>'
    )


def html_page(title: str, sections: Sequence[Section]) -> str:
    """The report as a page by itself, that needs no other file."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape_html(title)}</title>\n<style>{_PAGE_STYLE}</style>\n</head>\n"
        f"<body>\n{html_fragment(title, sections)}\n</body>\n</html>\n"
    )


def escape_html(text: str) -> str:
    # A line that breaks before the sign is hard to read.
    return re.sub(r"(?<=\d) %", "&nbsp;%", escape(one_line(text)))


def escape_markdown(text: str) -> str:
    """The text such that Markdown, also in a table, shows it as it is.

    Underscores inside of words stand for themselves.
    """
    text = re.sub(r"([\\`*\[\]~$#])", r"\\\1", one_line(text))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    )


def one_line(text: str) -> str:
    """The text without breaks and other control characters, which end tables and hide things."""
    return _NOT_SHOWN.sub(" ", text)


_NOT_SHOWN = re.compile(
    r"(?:[^\S\xa0]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff])+"
)

_STYLE = """
.skood-report { max-width: 58rem; line-height: 1.5; overflow-wrap: anywhere; }
.skood-report h1 { font-size: 1.6rem; line-height: 1.25; }
.skood-report h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; padding-bottom: .25rem;
  border-bottom: 1px solid #8884; }
.skood-report .scroll { overflow-x: auto; margin: .75rem 0; }
.skood-report table { border-collapse: collapse; font-size: .9em; }
.skood-report th, .skood-report td { padding: .25rem .75rem; text-align: left;
  vertical-align: top; border-bottom: 1px solid #8883; overflow-wrap: normal; }
.skood-report th { white-space: nowrap; }
.skood-report .number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  .skood-report th, .skood-report td { padding: .25rem .4rem; }
}
.skood-report img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
"""

_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 58rem;
  font-family: system-ui, sans-serif; color: #1b1b1b; background: #fff; }
@media (prefers-color-scheme: dark) {
  body { color: #e4e4e4; background: #17191c; }
  @media (max-width: 40rem) {
  .skood-report th, .skood-report td { padding: .25rem .4rem; }
}
.skood-report img { filter: invert(.9) hue-rotate(180deg); }
}
"""
