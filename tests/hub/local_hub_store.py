"""Repositories on disk, as the Hub keeps them: commits that never change, files under their digests, references."""

import codecs
import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".npz", ".npy", ".pt", ".pth", ".zip")
LFS_SIZE = 10_000_000  # bytes
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


class HubError(Exception):
    """An answer that is not a success. `code` goes into X-Error-Code, on which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None, **body):
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self.body = {"error": message, **body}


@dataclass(frozen=True)
class Entry:
    """A file of a commit. `oid` is its ETag: the SHA-256 of an LFS file, git's SHA-1 of any other; `size` in bytes."""

    oid: str
    size: int
    lfs: bool

    @property
    def pointer(self) -> bytes:
        """What git holds in place of an LFS file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()

    @property
    def git_oid(self) -> str:
        return git_digest(self.pointer) if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    date: str
    files: dict[str, Entry]

    def entry(self, path: str) -> Entry:
        if path not in self.files:
            # The client keeps this commit's hash to remember that the file is not there.
            raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": self.oid})
        return self.files[path]

    def folder_oid(self, folder: str) -> str:
        """A digest that changes with the folder's files; git's own would need trees."""
        inside = [f"{path} {entry.oid}" for path, entry in self.files.items() if path.startswith(f"{folder}/")]
        return git_digest("\n".join(inside).encode())

    def below(self, folder: str, recursive: bool) -> dict[str, Entry | None]:
        """The paths in a folder, "" being the root; None stands for a folder."""
        prefix = f"{folder}/" if folder else ""
        inside = [path for path in self.files if path.startswith(prefix)]
        if folder and not inside:
            raise HubError(404, f"{folder} does not exist", "EntryNotFound", {"X-Repo-Commit": self.oid})
        found: dict[str, Entry | None] = {}
        for path in inside:
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                found[prefix + "/".join(parts[:depth])] = None
            if recursive or len(parts) == 1:
                found[path] = self.files[path]
        return dict(sorted(found.items()))


@dataclass
class Changes:
    """What a commit does to its parent's files, in the order it was said."""

    title: str = ""
    description: str = ""
    parent: str | None = None  # the commit that must be the newest one, possibly shortened
    operations: list[tuple[str, Entry | None]] = field(default_factory=list)  # None deletes; a folder ends with "/"


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Another thread, which reads without a lock, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def is_binary(sample: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)  # which may end within a character
    except UnicodeDecodeError:
        return True
    return "\0" in text


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub takes a file by LFS: by its name, its size, or because its first bytes are not text."""
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE or is_binary(sample)


class Repository:
    """One repository, in a folder of its own.

    folder/settings.json    private, created
    folder/references.json  {"refs/heads/main": commit, ...}
    folder/commits/OID.json
    folder/blobs/OID        every file's content, regular or LFS, under its entry's oid
    """

    def __init__(self, folder: Path, kind: str, name: str, lock: threading.RLock):
        self.folder, self.kind, self.name, self.lock = folder, kind, name, lock

    # Settings and references

    @property
    def settings(self) -> dict:
        return json.loads((self.folder / "settings.json").read_bytes())

    @property
    def private(self) -> bool:
        return self.settings["private"]

    @property
    def references(self) -> dict[str, str]:
        """Commits by full reference: refs/heads/main, refs/tags/v1, refs/pr/1."""
        return json.loads((self.folder / "references.json").read_bytes())

    def set_reference(self, reference: str, oid: str) -> None:
        """Point a reference at a commit."""
        with self.lock:
            references = self.references if (self.folder / "references.json").exists() else {}
            references[reference] = oid
            write_atomically(self.folder / "references.json", json.dumps(references).encode())

    def add_reference(self, kind: str, name: str, starting_point: str) -> None:
        reference = f"refs/{kind}/{name}"
        if not name or name.startswith("refs/"):
            raise HubError(400, f"Invalid reference: {name!r}")
        with self.lock:
            if reference in self.references:
                raise HubError(409, f"Reference already exists: {reference}")
            self.set_reference(reference, self.resolve(starting_point).oid)

    # Commits

    def resolve(self, revision: str) -> Commit:
        """A commit by branch, tag, full reference (refs/pr/1) or hash, shortened to no less than 7 digits."""
        references = self.references
        for reference in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if reference in references:
                return self.read_commit(references[reference])
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            for path in sorted((self.folder / "commits").glob(f"{revision}*.json")):
                return self.read_commit(path.stem)
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def read_commit(self, oid: str) -> Commit:
        values = json.loads((self.folder / "commits" / f"{oid}.json").read_bytes())
        return Commit(**{**values, "files": {path: Entry(**entry) for path, entry in values["files"].items()}})

    def history(self, revision: str) -> Iterator[Commit]:
        """The commits up to a revision, the newest first."""
        oid: str | None = self.resolve(revision).oid
        while oid:
            commit = self.read_commit(oid)
            yield commit
            oid = commit.parent

    def commit(self, revision: str, changes: Changes, pull_request: bool = False) -> tuple[Commit, int | None]:
        """Add a commit to a branch, or open a pull request with it; returns the pull request's number too."""
        with self.lock:
            number = None
            if pull_request:
                parent = self.resolve(changes.parent or revision)
                number = 1 + sum(name.startswith("refs/pr/") for name in self.references)
                reference = f"refs/pr/{number}"
            else:
                reference = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
                if reference not in self.references:  # a tag or a hash cannot be added to
                    raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
                parent = self.read_commit(self.references[reference])
                if not parent.oid.startswith(changes.parent or ""):
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            commit = self.write_commit(parent.oid, changes, self.apply(parent, changes))
            self.set_reference(reference, commit.oid)
            return commit, number

    def apply(self, parent: Commit, changes: Changes) -> dict[str, Entry]:
        files = dict(parent.files)
        for path, entry in changes.operations:
            if entry is None:
                gone = [name for name in files if name == path or (path.endswith("/") and name.startswith(path))]
                if not gone:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                for name in gone:
                    del files[name]
            else:
                files[path] = entry
        return files

    def write_commit(self, parent: str | None, changes: Changes, files: dict[str, Entry]) -> Commit:
        values = {
            "parent": parent,
            "title": changes.title,
            "description": changes.description,
            "date": now(),
            "files": {path: asdict(files[path]) for path in sorted(files)},
        }
        oid = hashlib.sha1(json.dumps(values).encode()).hexdigest()
        write_atomically(self.folder / "commits" / f"{oid}.json", json.dumps({"oid": oid, **values}).encode())
        return self.read_commit(oid)

    # Files

    def blob(self, oid: str) -> Path:
        return self.folder / "blobs" / oid

    def content(self, commit: Commit, path: str) -> bytes:
        return self.blob(commit.entry(path).oid).read_bytes()

    def lfs_entry(self, oid: str) -> Entry:
        """The entry of a file that was uploaded."""
        if not self.blob(oid).exists():
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {oid}")
        return Entry(oid, self.blob(oid).stat().st_size, lfs=True)

    def add_regular(self, content: bytes) -> Entry:
        entry = Entry(git_digest(content), len(content), lfs=False)
        write_atomically(self.blob(entry.oid), content)
        return entry

    def add_lfs(self, oid: str, content: IO[bytes]) -> None:
        """Keep an upload if it is what it was announced to be."""
        self.blob(oid).parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self.blob(oid).parent, delete=False) as file:
            while block := content.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != oid:
            Path(file.name).unlink()
            raise HubError(400, f"The content does not have the digest {oid}")
        Path(file.name).replace(self.blob(oid))


class Store:
    """All repositories, at ROOT/models/NAMESPACE/NAME and ROOT/datasets/NAMESPACE/NAME, and Spaces likewise."""

    def __init__(self, root: Path):
        self.root = root
        self.lock = threading.RLock()

    def repository(self, kind: str, name: str) -> Repository:
        repository = Repository(self.root / kind / name, kind, name, self.lock)
        if not (repository.folder / "references.json").exists():
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repository

    def exists(self, kind: str, name: str) -> bool:
        return (self.root / kind / name / "references.json").exists()

    def create(self, kind: str, name: str, private: bool) -> Repository:
        """A repository with the Hub's first commit, which has .gitattributes alone."""
        with self.lock:
            repository = Repository(self.root / kind / name, kind, name, self.lock)
            settings = {"private": private, "created": now()}
            write_atomically(repository.folder / "settings.json", json.dumps(settings).encode())
            files = {".gitattributes": repository.add_regular(GIT_ATTRIBUTES)}
            first = repository.write_commit(None, Changes("initial commit"), files)
            repository.set_reference("refs/heads/main", first.oid)
            return repository


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
