"""Runs notebooks in full and stores their outputs: `python tutorials/reference/stored_outputs.py NOTEBOOK.ipynb …`.

Players stay, with their sounds as MP3, so that the pages of the documentation can be listened to. A notebook that reads
recordings (`CAPTUM_APEX_DATA`) stores none of their sounds, because the recordings are not part of the project. Of a
page in a frame, only its text is stored.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import nbformat
import soundfile
import torch
from nbclient import NotebookClient

from captum_apex import listening

RECORDINGS = "CAPTUM_APEX_DATA"
NO_PLAYER = "a player: run this cell to hear the sound"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_PLAYER = re.compile(r"\s*<audio.*?data:audio/wav;base64,([^\"']+).*?</audio>\s*", re.DOTALL)


def run(path: Path) -> None:
    """Runs a notebook from its first cell to its last and replaces its outputs."""
    notebook = nbformat.read(path, as_version=4)
    settings = {"timeout": 1500, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **settings).execute()
    nbformat.write(stored(notebook), path)


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as it is stored: with small players or none, and without data about the machine."""
    keeps_sounds = not any(RECORDINGS in cell.source for cell in notebook.cells)
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data = nbformat.from_dict(_stored_html(dict(output.data), keeps_sounds))
    return notebook


def _stored_html(data: dict[str, str], keeps_sounds: bool) -> dict[str, str]:
    page = data["text/html"]
    if "<iframe" in page:
        return {"text/plain": data["text/plain"]}
    if "<audio" not in page:
        return data
    if not keeps_sounds:
        return {"text/plain": NO_PLAYER}
    return {"text/html": _PLAYER.sub(_small_player, page), "text/plain": data["text/plain"]}


def _small_player(player: re.Match[str]) -> str:
    """A player on one line, which Markdown takes as HTML, with its sound in the smallest format that browsers play."""
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(player[1])), dtype="float32")
    kind = listening.playable_format(rate)
    sound = base64.b64encode(listening.encoded(torch.from_numpy(samples), rate, kind)).decode()
    return f'<p><audio controls src="data:{listening.MEDIA_TYPES[kind]};base64,{sound}"></audio></p>'


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
