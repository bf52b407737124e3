"""A Hub on this machine: the protocol that huggingface_hub, transformers and datasets speak, and faults on demand.

    with LocalHub(tmp_path / "hub") as hub:
        subprocess.run(command, env={**os.environ, **hub.environment()})
        assert hub.files("tester/model")["config.json"] == ...

`local_hub_store.py` keeps the repositories, `local_hub_handler.py` answers the requests, `local_hub_http.py` carries
both and makes them go wrong.
"""

import contextlib
import http.server
import socket
import threading
from pathlib import Path

import huggingface_hub
import pytest

from tests.hub.local_hub_handler import Handler
from tests.hub.local_hub_http import MESSAGES, Faults, Request
from tests.hub.local_hub_store import GIT_ATTRIBUTES, HubError, Repository, Store


class HubServer(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # clients open several connections at once

    def __init__(self, hub: "LocalHub"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.connections: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End the connections that clients keep: their threads would answer for a Hub that is gone."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class LocalHub:
    """A Hub with one user, who may write under their own name and their organizations', with one valid token.

    What is under `root` stays there: another LocalHub can go on with it.
    """

    def __init__(
        self,
        root: Path,
        user: str = "tester",
        organizations: tuple[str, ...] = ("acme",),
        token: str = "hf_test",
    ):
        self.namespaces = (user, *organizations)
        self.token = token
        self.store = Store(Path(root))
        self.faults = Faults()
        self.requests: list[Request] = []
        self.server = HubServer(self)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.server.close_connections()

    def environment(self, token: str | None = None) -> dict[str, str]:
        """The variables with which another process uses this Hub; "" for no token.

        Its cache is the Hub's own, as a cache shared with another Hub would give that one's repositories of the same
        names. Set HF_HOME after these for an empty one.
        """
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",  # its protocol is another one; without it uploads go by Git LFS
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(self.store.root / "client"),
            "HF_TOKEN": self.token if token is None else token,
        }

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same for this process, whose huggingface_hub read its variables when it was imported."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)
        template = f"{self.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, constant in {
            "ENDPOINT": self.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(self.store.root / "client" / "hub"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, constant)
        # Before 1.0 this module had a copy.
        monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)

    def url(self, kind: str, name: str) -> str:
        """A repository's page; `kind` is "models", "datasets" or "spaces"."""
        return f"{self.endpoint}/{'' if kind == 'models' else f'{kind}/'}{name}"

    # What is in it

    def create(self, repo_id: str, repo_type: str = "model", private: bool = False) -> Repository:
        """Make a repository without a request, which may be in somebody else's namespace."""
        return self.store.create(f"{repo_type}s", repo_id, private)

    def repository(self, repo_id: str, repo_type: str = "model") -> Repository:
        """A repository's commits, references and settings."""
        return self.store.repository(f"{repo_type}s", repo_id)

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """The files of a revision, without the .gitattributes that the Hub adds itself."""
        repository = self.repository(repo_id, repo_type)
        commit = repository.resolve(revision)
        files = {path: repository.content(commit, path) for path in commit.files}
        return {path: content for path, content in files.items() if content != GIT_ATTRIBUTES}

    # What goes wrong in it: with the next `times` requests (None: with all) whose decoded path `path` is found in

    def fail(
        self,
        status: int,
        path: str = "",
        times: int | None = 1,
        method: str | None = None,
        code: str = "",
        message: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """Answer with an error.

        `code` is X-Error-Code ("RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo"), `message`
        X-Error-Message, `retry_after` in seconds (0 with a 429 unless given). `method`, here and below, limits it to
        one: without it a HEAD counts too.
        """
        retry_after = 0 if status == 429 and retry_after is None else retry_after
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        message = MESSAGES.get(status, "Error on demand") if message is None else message
        self.faults.add("fail", path, method, times, error=HubError(status, message, code, headers))

    def cut(self, path: str, after_bytes: int = 0, times: int | None = 1, method: str | None = None) -> None:
        """Close the connection after so many bytes of a file that is sent or of a body that is received.

        A body that is shorter is received, but neither acted on nor answered.
        """
        self.faults.add("cut", path, method, times, after_bytes=after_bytes)

    def corrupt(self, path: str, times: int | None = 1) -> None:
        """Send a file of the right length with some other bytes."""
        self.faults.add("corrupt", path, "GET", times)

    def heal(self) -> None:
        """Forget the faults that have not come up."""
        self.faults.clear()
