"""The blocks of code in README, CONTRIBUTING, docs and the folders of deploy, each with its language, page and line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*DOCS, *sorted((ROOT / "deploy").glob("*/README.md"))]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block; its lines without the indent that its place in a list gives them."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Each line of a block for a shell in words, without comments and the variables that it sets."""
        lines = (shlex.split(line, comments=True) for line in self.text.splitlines())
        return [words for words in map(_without_variables, lines) if words]


def _without_variables(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def blocks(*languages: str, pages: list[Path] = PAGES) -> list[Block]:
    """Every block, or those of some languages, in the order of the pages."""
    found = []
    for page in pages:
        text = page.read_text()
        for match in FENCE.finditer(text):
            indent, language, content = match.groups()
            lines = "".join(line.removeprefix(indent) for line in content.splitlines(keepends=True))
            at = text[: match.start()].count("\n") + 1
            found.append(Block(page.relative_to(ROOT).as_posix(), at, language, lines))
    return [block for block in found if not languages or block.language in languages]
