"""What the site has beside the files of `docs/`: references made from the code, and pages from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

import commands
import fields
import notebook
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SPECS = "reference/specs.md"
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    **{f"deploy/{path.name}/README.md": f"deploy/{path.name}.md" for path in ROOT.glob("deploy/*") if path.is_dir()},
}
"""Pages outside `docs/`, and where the site has them."""
_LINK = re.compile(r"(\[(?:[^\]\[]|\[[^\]]*\])*\])\(([^)#:\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files of `docs/`, and those that the navigation does not name to its end."""
    made = {**fields.pages(), commands.PAGE: commands.page(), SPECS: specs_page()}
    made |= {there: (ROOT / here).read_text() for here, there in ELSEWHERE.items()}
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.stem}.md"] = notebook.markdown(path)
    for there, text in made.items():
        files.append(File.generated(config, there, content=text))
    complete(config.nav or [], [file.src_uri for file in files.documentation_pages()])
    return files


def complete(nav: list[Any], pages: list[str]) -> None:
    """Adds the pages that a navigation does not name: beside the index of their folder, or else at its end."""
    named, lists = set[str](), [nav]
    for entries in lists:
        named.update(entry for entry in entries if isinstance(entry, str))
        for inner in (value for entry in entries if isinstance(entry, dict) for value in entry.values()):
            lists.append(inner if isinstance(inner, list) else [inner])
    left = [page for page in pages if page not in named]
    for entries in lists:
        for folder in [dirname(entry) for entry in entries if str(entry).endswith("/index.md")]:
            entries += [page for page in left if dirname(page) == folder]
            left = [page for page in left if dirname(page) != folder]
    if left:
        nav.append({"More": left})


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links the page's links to where the site has what they name."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, here: str) -> str:
    """Makes links between files of the repository, as GitHub follows them, links between pages of the site.

    `here` is the page's path in the site.
    """
    source = next((place for place, there in ELSEWHERE.items() if there == here), f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        there, anchor = place_of(normpath(f"{dirname(source)}/{target}"), anchor)
        # What the site does not have is named without a link.
        return text[1:-1] if there is None else f"{text}({relpath(there, dirname(here) or '.')}{anchor})"

    return outside_code(markdown, lambda text: _LINK.sub(link, text))


def place_of(path: str, anchor: str = "") -> tuple[str | None, str]:
    """Where the site has a file of the repository, as a path in the site and an anchor; None where it has not."""
    if path in ELSEWHERE:
        return ELSEWHERE[path], anchor
    if path.startswith("specs/"):
        return SPECS, f"#{fields.anchor_of(path)}"
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md"), anchor
    return None, anchor


def specs_page() -> str:
    """The specs that come with the package, as they are."""
    parts = ["# Specs that come with the package", "Each is an experiment; `orchestrator run` takes its path."]
    folder = ROOT / "specs"
    for path in sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.parts), path)):
        parts += [f"## specs/{path.relative_to(folder).as_posix()}", f"```yaml\n{path.read_text().rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def outside_code(markdown: str, change: Any) -> str:
    """The text with everything but its code changed."""
    parts, at = [], 0
    for match in _FENCE.finditer(markdown):
        parts += [change(markdown[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, change(markdown[at:])])
