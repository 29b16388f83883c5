"""A report as Markdown: the same text and tables; of charts their figures."""

from __future__ import annotations

from orchestrator.analysis.report.content import Block, Code, Page, Tabled, Text
from orchestrator.analysis.rows import Table, markdown_table


def to_markdown(page: Page) -> str:
    """The whole page."""
    parts = [
        f"# {page.name}",
        f"*{page.question}*",
        " ".join(page.answer),
        f"`{page.id}`, {page.state}.",
        markdown_table(([what for _, what in page.facts], [[figure for figure, _ in page.facts]])),
    ]
    for section in page.sections:
        parts.append(f"## {section.title}")
        for block in section.blocks:
            parts += _block(block)
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> list[str]:
    if isinstance(block, Text):
        return [f"**Note:** {block.text}" if block.warning else block.text]
    if isinstance(block, Tabled):
        return [*([f"**{block.caption}**"] if block.caption else []), _table(block.table)]
    if isinstance(block, Code):
        caption = [f"**{block.caption}**"] if block.caption else []
        return [*caption, f"```{'yaml' if block.folded else 'bash'}\n{block.text.rstrip()}\n```"]
    drawn = block.charts if block.tables else ()
    return [part for chart in drawn for part in (f"**{chart.title}**", _table(chart.table))]


def _table(table: Table) -> str:
    header, rows = table
    return markdown_table((header, [[cell.replace("\n", " ") for cell in row] for row in rows]))
