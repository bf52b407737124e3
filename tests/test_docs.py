"""The documentation: every block of code in it runs as it stands there, and MkDocs builds it.

The README, the pages in docs/, the notebooks and the models' cards each run in a folder of their own, which holds
`recordings`, those that come with the package. Blocks of Python share a namespace; each block of bash is a shell.
CONTRIBUTING.md tells how a block is marked that cannot run here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pytest
import soundfile

from hf_gar.tiny import FOLDER, RECORDINGS
from tests.conftest import MODEL_TYPES, save_publishable, save_tiny, save_tiny_classifier, tone
from tests.hub.local_hub import LocalHub
from tests.preloaded import preloaded_command

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NEEDS = {"hub", "gpu", "ray", "microphone"}  # of a block; "hub" is all that needs the internet
RUN = {"python", "bash"}
SHOWN = {"text", "bibtex", "json", "yaml"}
BLOCK = re.compile(r"(?:^ *<!-- needs: (\w+) -->\n)?^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# On a page: it takes long, or its commands use a Hub on this machine, with a token for the organisation `acme`.
SLOW = "<!-- test: slow -->"
LOCAL_HUB = "<!-- test: local hub -->"


class Block(NamedTuple):
    language: str
    code: str
    line: int  # its first, from 1
    needs: str | None


def read_blocks(page: Path) -> list[Block]:
    """A page's blocks of code, or a notebook's cells."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return [Block("python", text, 1, None) for text in code]
    return list(find_blocks(page.read_text(encoding="utf-8")))


def find_blocks(text: str) -> Iterator[Block]:
    for match in BLOCK.finditer(text):
        needs, indent, language, code = match.groups()
        yield Block(
            language, re.sub(f"^{indent}", "", code, flags=re.MULTILINE), text[: match.start(4)].count("\n") + 1, needs
        )


PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*") if path.suffix in {".md", ".ipynb"})]


def page_parameters() -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        is_slow = SLOW in text or LOCAL_HUB in text
        if any(block.language in RUN and not block.needs for block in read_blocks(page)):
            yield pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if is_slow else [])


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Iterator[Path]:
    """A folder with a quick `hf-gar`."""
    with preloaded_command(tmp_path_factory.mktemp("commands")) as folder:
        yield folder


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """What the reader has: the recordings, and no internet."""
    shutil.copytree(RECORDINGS, tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return tmp_path


def run_blocks(blocks: list[Block], name: str) -> dict[str, Any]:
    """Run a page's blocks in this folder; gives the Python blocks' namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if block.needs or block.language not in RUN:
            continue
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), namespace)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{name}, line {block.line}:\n{block.code}\n{done.stdout[-3000:]}"
    return namespace


@pytest.mark.parametrize("page", list(page_parameters()))
def test_a_page_runs(page, folder, commands, monkeypatch, request):
    text = page.read_text(encoding="utf-8")
    # Stand-ins for what `hf-gar export` makes of the official checkpoints.
    if "cnn14-fusion" in text:
        save_publishable("cnn14-fusion", folder / "cnn14-fusion", save_tiny_classifier)
    if "ast-fusion" in text:
        save_tiny("ast-fusion", folder / "ast-fusion")
    if LOCAL_HUB in text:
        hub = request.getfixturevalue("local_hub")
        hub.patch(monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    else:
        monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    run_blocks(read_blocks(page), str(page.relative_to(ROOT)))


@pytest.fixture
def local_hub(tmp_path_factory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs_or_says_why_not(page):
    text = page.read_text(encoding="utf-8")
    blocks = read_blocks(page)
    assert page.suffix == ".ipynb" or text.count("```") == 2 * len(blocks)  # none was overlooked
    for block in blocks:
        assert block.language in RUN | SHOWN, f"line {block.line}: {block.language!r}"
        assert block.needs is None or (block.language in RUN and block.needs in NEEDS), f"line {block.line}"
    assert text.count("<!-- needs:") == sum(block.needs is not None for block in blocks)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_card_runs(model_type, folder):
    """As on the Hub, with the repository's name in place of the folder."""
    save_publishable(model_type, Path("org") / model_type, save_tiny_classifier)
    soundfile.write("recording.wav", tone(3), 16000)
    namespace = run_blocks(read_blocks(Path("org") / model_type / "README.md"), f"the card of {model_type}")
    assert len(namespace["embedding"]) == namespace["outputs"].pooler_output.shape[1]
    assert namespace["labels"]


def test_the_small_networks_card_runs(folder):
    soundfile.write("a.wav", tone(3), 16000)
    namespace = run_blocks(read_blocks(FOLDER / "README.md"), "the card of the small network")
    assert namespace["tags"].predictions


def test_the_documentation_builds(tmp_path):
    """Strictly: no dead link within it, no page that is left out, no name that mkdocstrings does not find."""
    pytest.importorskip("mkdocs", reason="MkDocs is not here: pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    assert "hf-gar duplicates" in page
    assert "near-duplicates" in page
