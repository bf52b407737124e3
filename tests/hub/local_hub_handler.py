"""What the local Hub answers to each request: the Hub's protocol over HTTP, as its clients use it."""

import base64
import io
import json
import re
from typing import BinaryIO
from urllib.parse import unquote

import yaml

from tests.hub.local_hub_http import BLOCK, MESSAGES, Connection, CutError
from tests.hub.local_hub_store import Changes, Commit, Entry, HubError, Repository, is_lfs

KIND = "(?P<kind>models|datasets|spaces)"
API = f"/api/{KIND}/(?P<name>[^/]+(?:/[^/]+)?)"
WEB = "/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+(?:/[^/]+)?)"
REVISION = "(?P<revision>[^/]+)"  # percent-encoded: refs%2Fpr%2F1

# Method, path, the handler's method, and what the token must allow. HEAD goes by GET. "signed" is an address that only
# a client allowed to write was told: there the client sends no token.
ROUTES = [
    ("GET", "/api/whoami-v2", "who_am_i", "token"),
    ("POST", "/api/validate-yaml", "validate_yaml", ""),
    ("POST", "/api/repos/create", "create_repository", "token"),
    ("POST", f"{API}/branch/(?P<branch>[^/]+)", "create_branch", "write"),
    ("GET", f"{API}/tree/{REVISION}(?:/(?P<path>.+))?", "list_tree", "read"),
    ("POST", f"{API}/preupload/{REVISION}", "choose_upload_modes", "write"),
    ("POST", f"{API}/commit/{REVISION}", "commit", "write"),
    ("GET", f"{API}/revision/{REVISION}", "describe", "read"),
    ("GET", API, "describe", "read"),
    ("POST", rf"{WEB}\.git/info/lfs/objects/batch", "plan_uploads", "write"),
    ("POST", rf"{WEB}\.git/info/lfs/objects/verify", "verify_upload", "write"),
    ("PUT", f"/uploads/{KIND}/(?P<name>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{{64}})", "upload", "signed"),
    ("GET", f"{WEB}/resolve/{REVISION}/(?P<path>.+)", "send_file", "read"),
]


class Handler(Connection):
    """One method for each row of ROUTES."""

    def route(self) -> None:
        """Call the method for the path, with the path's values and the repository if the token allows it."""
        if self.headers.get("Authorization") not in (None, f"Bearer {self.hub.token}"):
            raise HubError(401, MESSAGES[401])
        method = "GET" if self.command == "HEAD" else self.command
        for route_method, pattern, name, access in ROUTES:
            match = re.fullmatch(pattern, self.address.path) if route_method == method else None
            if match:
                values = {key: unquote(value) for key, value in match.groupdict().items() if value}
                if "name" in values:
                    kind = values.pop("kind", "models")
                    repository = self.open_repository(kind, values.pop("name"), access)
                    getattr(self, name)(repository, **values)
                else:
                    if access == "token" and not self.has_token:
                        raise HubError(401, "Invalid username or password.")
                    getattr(self, name)()
                return
        raise HubError(404, f"The local Hub has no {method} {self.asked.path}")

    @property
    def has_token(self) -> bool:
        return "Authorization" in self.headers  # a wrong one was refused before

    def open_repository(self, kind: str, name: str, access: str) -> Repository:
        """The repository, if it may be read or written. A stranger cannot tell a private one from none."""
        mine = self.has_token and name.split("/", maxsplit=1)[0] in self.hub.namespaces
        found = self.hub.store.exists(kind, name)
        if access == "signed" and found:
            return self.hub.store.repository(kind, name)
        if not found or (self.hub.store.repository(kind, name).private and not mine):
            status = 404 if self.has_token else 401
            raise HubError(status, "Repository not found", "RepoNotFound")
        if access == "write" and not mine:
            raise HubError(403 if self.has_token else 401, f"You don't have the rights to write to {name}")
        return self.hub.store.repository(kind, name)

    # The user

    def who_am_i(self) -> None:
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        user, *organizations = self.hub.namespaces
        orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in organizations]
        self.answer({"type": "user", "name": user, "fullname": user, "orgs": orgs, "auth": token})

    def validate_yaml(self) -> None:
        try:
            metadata = card_metadata(self.json()["content"])
        except ValueError as error:
            raise HubError(400, "Invalid metadata", errors=[{"message": str(error)}], warnings=[]) from None
        warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        self.answer({"errors": [], "warnings": warnings})

    # Repositories

    def create_repository(self) -> None:
        values = self.json()
        namespace = values.get("organization") or self.hub.namespaces[0]
        kind, name = f"{values.get('type') or 'model'}s", f"{namespace}/{values['name']}"
        if namespace not in self.hub.namespaces:
            raise HubError(403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{namespace}"')
        url = self.hub.url(kind, name)
        if self.hub.store.exists(kind, name):
            raise HubError(409, f"You already created this {kind[:-1]} repo", url=url)
        self.hub.store.create(kind, name, private=bool(values.get("private") or values.get("visibility") == "private"))
        self.answer({"url": url, "name": name})

    def describe(self, repository: Repository, revision: str = "main") -> None:
        commit = repository.resolve(revision)
        readme = repository.content(commit, "README.md") if "README.md" in commit.files else b""
        try:
            card = card_metadata(readme.decode(errors="replace"))
        except ValueError:
            card = {}
        siblings = []
        for path, entry in commit.files.items():
            blob = {"size": entry.size, "blobId": entry.git_oid}
            if entry.lfs:
                blob["lfs"] = {"sha256": entry.oid, "size": entry.size, "pointerSize": len(entry.pointer)}
            siblings.append({"rfilename": path, **(blob if "blobs" in self.query else {})})
        self.answer(
            {
                "_id": repository.name,
                "id": repository.name,
                "author": repository.name.split("/")[0],
                "sha": commit.oid,
                "createdAt": repository.settings["created"],
                "lastModified": commit.date,
                "private": repository.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": card.get("tags") or [],
                "cardData": card,
                **{key: card[key] for key in ("pipeline_tag", "library_name") if key in card},
                "siblings": siblings,
            }
        )

    # References and commits

    def create_branch(self, repository: Repository, branch: str) -> None:
        repository.add_reference("heads", branch, self.json().get("startingPoint") or "main")
        self.answer(b"OK")

    def commit(self, repository: Repository, revision: str) -> None:
        """One JSON a line: the header, then what is added and deleted."""
        changes = Changes()
        for line in self.body:
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                changes.title, changes.description = value["summary"], value.get("description", "")
                changes.parent = value.get("parentCommit")
            elif item["key"] == "file":
                content = value["content"].encode()
                content = base64.b64decode(content) if value.get("encoding") == "base64" else content
                changes.operations.append((value["path"], repository.add_regular(content)))
            elif item["key"] == "lfsFile":
                changes.operations.append((value["path"], repository.lfs_entry(value["oid"])))
            elif item["key"] in ("deletedFile", "deletedFolder"):
                slash = "/" if item["key"] == "deletedFolder" else ""
                changes.operations.append((value["path"].rstrip("/") + slash, None))
            else:
                raise HubError(400, f"The local Hub does not know {item['key']} in a commit")
        commit, number = repository.commit(revision, changes, pull_request=self.query.get("create_pr") == "1")
        url = self.hub.url(repository.kind, repository.name)
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{commit.oid}"}
        self.answer(answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if number else {}))

    # Files

    def describe_entry(self, commit: Commit, path: str, entry: Entry | None) -> dict:
        if entry is None:
            return {"type": "directory", "path": path, "oid": commit.folder_oid(path), "size": 0}
        found: dict = {"type": "file", "path": path, "oid": entry.git_oid, "size": entry.size}
        if entry.lfs:
            found["lfs"] = {"oid": entry.oid, "size": entry.size, "pointerSize": len(entry.pointer)}
        return found

    def list_tree(self, repository: Repository, revision: str, path: str = "") -> None:
        commit = repository.resolve(revision)
        entries = commit.below(path.strip("/"), recursive=self.query.get("recursive", "").lower() in ("true", "1"))
        self.answer([self.describe_entry(commit, *item) for item in entries.items()])

    def choose_upload_modes(self, repository: Repository, revision: str) -> None:
        files = repository.resolve(revision).files
        answers = []
        for item in self.json()["files"]:
            lfs = is_lfs(item["path"], item["size"], base64.b64decode(item["sample"]))
            present = files.get(item["path"])
            answers.append(
                {
                    "path": item["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    "oid": present.oid if present else None,  # by which the client leaves out what has not changed
                }
            )
        self.answer({"files": answers})

    def plan_uploads(self, repository: Repository) -> None:
        """Say where each LFS file is to be sent; nowhere if it is here."""
        web = self.hub.url(repository.kind, repository.name)
        plans = []
        for item in self.json()["objects"]:
            plan = {"oid": item["oid"], "size": item["size"]}
            if not repository.blob(item["oid"]).exists():
                upload = f"{self.hub.endpoint}/uploads/{repository.kind}/{repository.name}/{item['oid']}"
                plan["actions"] = {
                    "upload": {"href": upload},
                    "verify": {"href": f"{web}.git/info/lfs/objects/verify"},
                }
            plans.append(plan)
        self.answer({"transfer": "basic", "objects": plans})

    def upload(self, repository: Repository, oid: str) -> None:
        repository.add_lfs(oid, self.body)
        self.answer(b"")

    def verify_upload(self, repository: Repository) -> None:
        values = self.json()
        if repository.lfs_entry(values["oid"]).size != values["size"]:
            raise HubError(400, "The uploaded file has another size")
        self.answer(b"")

    def send_file(self, repository: Repository, revision: str, path: str) -> None:
        commit = repository.resolve(revision)
        entry = commit.entry(path)
        start, end = byte_range(self.headers.get("Range"), entry.size)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
            "ETag": f'"{entry.oid}"',
            "X-Repo-Commit": commit.oid,
        }
        if entry.lfs:
            headers |= {"X-Linked-Etag": f'"{entry.oid}"', "X-Linked-Size": str(entry.size)}
        if self.headers.get("Range"):
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{entry.size}"
        self.send_head(206 if self.headers.get("Range") else 200, headers)
        if self.command == "HEAD":
            return
        content: BinaryIO = repository.blob(entry.oid).open("rb")
        if self.hub.faults.take("corrupt", self.asked):
            content = io.BytesIO(corrupted(content.read()))
        fault = self.hub.faults.take("cut", self.asked)
        end = min(end, start + fault.after_bytes) if fault else end
        with content:
            content.seek(start)
            while block := content.read(min(BLOCK, end - content.tell())):
                self.wfile.write(block)
        if fault:
            raise CutError


def byte_range(header: str | None, size: int) -> tuple[int, int]:
    """The first byte that a Range header asks for and the one after the last."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "bytes=0-")
    if not match:
        raise HubError(400, f"The local Hub does not know the range {header}")
    start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= size and header:
        raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return start, end


def corrupted(content: bytes) -> bytes:
    """The same with 16 bytes in the middle inverted: in a weights file, those of a tensor and not of the header."""
    middle = len(content) // 2
    flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    return content[:middle] + flipped + content[middle + 16 :]


def card_metadata(text: str) -> dict:
    """The YAML block at the head of a README; ValueError says what is wrong with it."""
    match = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    try:
        metadata = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(metadata, dict | None):
        raise ValueError("the metadata is not a mapping")
    return metadata or {}
