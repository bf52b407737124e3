"""Downloads from a real HTTP server on this machine, with the faults that networks have."""

import hashlib
import http.server
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from hf_gar import HfGarError
from hf_gar.checkpoints.download import download
from hf_gar.registry import MODELS
from hf_gar.registry.spec import OfficialCheckpoint

CONTENT = np.random.default_rng(0).bytes(24_000_000)


class FileServer(http.server.ThreadingHTTPServer):
    """Serves CONTENT with byte ranges; cuts the connection after `cut_after` bytes; notes the ranges asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut_after: int | None = None
        self.content = CONTENT
        self.starts: list[int] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        if self.path != "/file.pth":
            self.send_error(404)
            return
        match = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        server.starts.append(start)
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        body = server.content[start:]
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = FileServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def source(server):
    return OfficialCheckpoint(
        sampling_rate=16000,
        url=f"http://127.0.0.1:{server.server_port}/file.pth",
        file_name="file.pth",
        digests={"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": hashlib.sha256(CONTENT).hexdigest()},
        license="mit",
        license_name="MIT",
    )


def test_a_file_is_fetched_once(source, server, tmp_path):
    path = download(source, tmp_path)
    assert path.read_bytes() == CONTENT
    assert download(source, tmp_path) == path
    assert len(server.starts) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["file.pth"]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(source, server, tmp_path):
    server.cut_after = 12_000_000
    try:
        download(source, tmp_path)
    except HfGarError as error:
        assert "Run the command again" in str(error)  # noqa: PT017 - huggingface_hub may also have gone on by itself
        server.cut_after = None
        download(source, tmp_path)
    assert (tmp_path / "file.pth").read_bytes() == CONTENT
    assert 0 < server.starts[1] <= 12_000_000


def test_a_file_that_is_whole_but_was_not_put_in_place_is_not_fetched_again(source, server, tmp_path):
    (tmp_path / "file.pth.incomplete").write_bytes(CONTENT)
    assert download(source, tmp_path).read_bytes() == CONTENT
    assert not server.starts


def test_what_is_longer_than_the_published_file_is_dropped(source, server, tmp_path):
    (tmp_path / "file.pth.incomplete").write_bytes(CONTENT + b"x")
    with pytest.raises(HfGarError, match="416"):
        download(source, tmp_path)
    assert download(source, tmp_path).read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_refused_and_removed(source, server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(HfGarError, match="is not the published one: its md5 is"):
        download(source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_and_an_unreachable_server_are_named(source, tmp_path):
    with pytest.raises(HfGarError, match="404"):
        download(replace(source, url=source.url + "x"), tmp_path)
    with pytest.raises(HfGarError, match=r"(?s)http://127\.0\.0\.1:9/file.pth could not be downloaded.*`checkpoint`"):
        download(replace(source, url="http://127.0.0.1:9/file.pth"), tmp_path)


def test_official_checkpoints():
    cnn14 = MODELS["cnn14-fusion"]
    assert cnn14.official_checkpoint().sampling_rate == 16000
    assert cnn14.official_checkpoint(32000).digests["md5"] == "541141fa2ee191a88f24a3219fff024e"
    with pytest.raises(HfGarError, match="at 8000 Hz, only at 16000 Hz, 32000 Hz"):
        cnn14.official_checkpoint(8000)
