"""An executed notebook as a page of the site: its text, its code, and what that gave."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def markdown(path: Path) -> str:
    """The notebook's cells in order; of several forms of an output the one that a page shows best."""
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell)) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *map(_shown, cell["outputs"])]


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _text(output["text"])
    forms = output["data"]
    if "image/png" in forms:
        image = "".join(forms["image/png"].split())
        return f'<img alt="{output.get("metadata", {}).get("alt", "A plot")}" src="data:image/png;base64,{image}">'
    if "text/html" in forms:
        # Frames bring a look of their own, which knows no dark page.
        page = re.sub(r"<style.*?</style>", "", "".join(forms["text/html"]), flags=re.DOTALL)
        return f'<div class="output">\n{re.sub("<table[^>]*>", "<table>", page)}\n</div>'
    if "text/markdown" in forms:
        return "".join(forms["text/markdown"])
    return _text(forms["text/plain"])


def _text(lines: str | list[str]) -> str:
    return f"```text\n{''.join(lines).rstrip()}\n```"


def run(path: Path, folder: Path) -> dict[str, Any]:
    """The notebook as it is after its code has run, in the folder; as JSON has it.

    Raises nbclient's `CellExecutionError` where a cell fails.
    """
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    # The kernel is talked to through sockets that are files: no other user of the machine can listen.
    config = Config(KernelManager={"transport": "ipc", "ip": str(folder / "kernel")})
    NotebookClient(notebook, timeout=600, record_timing=False, resources=place, config=config).execute()
    return dict(json.loads(nbformat.writes(notebook)))


if __name__ == "__main__":
    import sys
    import tempfile

    for place in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            executed = run(place, Path(folder))
        place.write_text(json.dumps(executed, indent=1, ensure_ascii=False) + "\n")
