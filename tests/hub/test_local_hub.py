"""The local Hub, by the clients that it is for."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.local_hub import LocalHub
from tests.hub.local_hub_handler import byte_range
from tests.hub.local_hub_store import HubError, is_lfs

WEIGHTS = np.random.default_rng(0).bytes(12_000_000)  # huggingface_hub writes, and so resumes, by 10 MiB

PUSH_AND_LOAD = """
import datasets, huggingface_hub
rows = {"clip": ["a", "b", "c"], "embedding": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]}
dataset = datasets.Dataset.from_dict(rows)
dataset.push_to_hub("tester/embeddings", private=True)
dataset.push_to_hub("tester/embeddings", "half", split="test", num_shards=2)
assert datasets.load_dataset("tester/embeddings", split="train").to_dict() == rows
assert datasets.load_dataset("tester/embeddings", "half", split="test").to_dict() == rows
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with LocalHub(tmp_path / "hub") as hub:
        hub.patch(monkeypatch)
        yield hub


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\npipeline_tag: feature-extraction\n---\n# Model\n")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub" / "names with spaces é.txt").write_text("é" * 1000)
    (folder / "sub" / "data").write_bytes(b"\0\1\2")
    return folder


@pytest.fixture
def uploaded(api, folder) -> str:
    api.create_repo("tester/model")
    return api.upload_folder(repo_id="tester/model", folder_path=folder).oid


def contents(folder: Path | str) -> dict[str, bytes]:
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".gitattributes"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def statuses(hub: LocalHub, path: str, method: str = "GET") -> list[int | None]:
    return [request.status for request in hub.requests if path in request.path and request.method == method]


def test_what_is_uploaded_is_downloaded(hub, api, folder, uploaded, tmp_path):
    expected = contents(folder)
    assert hub.files("tester/model") == expected
    assert contents(api.snapshot_download("tester/model", cache_dir=tmp_path / "cache")) == expected
    info = api.model_info("tester/model", files_metadata=True)
    assert (info.sha, info.private, info.pipeline_tag) == (uploaded, False, "feature-extraction")
    lfs = {file.rfilename for file in info.siblings if file.lfs}
    assert lfs == {"model.safetensors", "sub/data"}
    assert api.whoami()["name"] == "tester"


def test_a_second_upload_is_a_commit_after_the_first(hub, api, folder, uploaded, tmp_path):
    before = contents(folder)
    assert api.upload_folder(repo_id="tester/model", folder_path=folder).oid == uploaded  # nothing has changed
    (folder / "model.safetensors").write_bytes(b"other weights")
    second = api.upload_folder(repo_id="tester/model", folder_path=folder, commit_message="Better").oid
    assert second != uploaded
    newest, *_ = api.list_repo_commits("tester/model")
    assert newest.title == "Better"
    for revision, expected in {uploaded: before, "main": contents(folder)}.items():
        assert hub.files("tester/model", revision) == expected
        assert contents(api.snapshot_download("tester/model", revision=revision, cache_dir=tmp_path)) == expected


def test_deleting_and_copying(hub, api, uploaded):
    operations = [
        CommitOperationDelete("sub/data"),
        CommitOperationCopy(src_path_in_repo="model.safetensors", path_in_repo="copies/model.safetensors"),
    ]
    api.create_commit("tester/model", operations, commit_message="Move")
    assert hub.files("tester/model")["copies/model.safetensors"] == WEIGHTS
    api.delete_folder("sub", "tester/model")
    assert set(hub.files("tester/model")) == {"README.md", "model.safetensors", "copies/model.safetensors"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("sub/data", "tester/model")
    api.delete_repo("tester/model")
    assert not api.repo_exists("tester/model")


def test_listing(hub, api, uploaded):
    text, data = "sub/names with spaces é.txt", "sub/data"
    top = {item.path: type(item).__name__ for item in api.list_repo_tree("tester/model")}
    files = {".gitattributes": "RepoFile", "README.md": "RepoFile", "model.safetensors": "RepoFile"}
    assert top == files | {"sub": "RepoFolder"}
    assert [item.path for item in api.list_repo_tree("tester/model", "sub", expand=True)] == [data, text]
    assert {item.path for item in api.list_repo_tree("tester/model", recursive=True)} == {*top, data, text}
    found, *_ = api.get_paths_info("tester/model", [text, "sub", "missing"], expand=True)
    assert (found.path, found.size, found.last_commit.oid) == (text, 2000, uploaded)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("tester/model", "missing"))


def test_parts_of_files(hub, uploaded):
    files = HfFileSystem(endpoint=hub.endpoint, token=hub.token)
    with files.open("tester/model/model.safetensors", "rb", block_size=1000) as file:
        file.seek(5_000_000)
        assert file.read(100) == WEIGHTS[5_000_000:5_000_100]
    assert any(request.range and request.range.startswith("bytes=5000000-") for request in hub.requests)
    assert byte_range("bytes=-3", 10) == (7, 10)
    assert byte_range("bytes=3-100", 10) == (3, 10)
    with pytest.raises(HubError, match="not satisfiable"):
        byte_range("bytes=10-", 10)


def test_branches_tags_and_pull_requests(hub, api, uploaded, tmp_path):
    api.create_branch("tester/model", branch="work/one")
    api.create_tag("tester/model", tag="v1")
    for create in (
        lambda **options: api.create_branch("tester/model", branch="work/one", **options),
        lambda **options: api.create_tag("tester/model", tag="v1", **options),
    ):
        create(exist_ok=True)
        with pytest.raises(HfHubHTTPError, match="409"):
            create()
    with pytest.raises(BadRequestError):
        api.create_branch("tester/model", branch="refs/pr/5")

    commit = [add("new.txt", b"new")]
    on_branch = api.create_commit("tester/model", commit, revision="work/one", commit_message="Add").oid
    pull = api.create_commit("tester/model", [add("new.txt", b"pr")], create_pr=True, commit_message="Propose")
    assert pull.pr_revision == "refs/pr/1"
    again = api.create_commit("tester/model", [add("b.txt", b"b")], revision="refs/pr/1", commit_message="More").oid
    references = api.list_repo_refs("tester/model", include_pull_requests=True)
    found = {item.ref: item.target_commit for group in vars(references).values() for item in group}
    assert found == {
        "refs/heads/main": uploaded,
        "refs/heads/work/one": on_branch,
        "refs/tags/v1": uploaded,
        "refs/pr/1": again,
    }
    for revision, content in {"work/one": b"new", "refs/pr/1": b"pr", on_branch: b"new"}.items():
        path = api.hf_hub_download("tester/model", "new.txt", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_bytes() == content
    assert "new.txt" not in hub.files("tester/model")
    for revision in ("v1", uploaded):  # not branches
        with pytest.raises(RevisionNotFoundError):
            api.create_commit("tester/model", [add("c.txt", b"c")], revision=revision, commit_message="Add")


def test_a_commit_on_an_outdated_parent_is_refused(api, uploaded):
    api.create_commit("tester/model", [add("a", b"a")], commit_message="Add", parent_commit=uploaded)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("tester/model", [add("a", b"b")], commit_message="Add", parent_commit=uploaded)


def test_what_does_not_exist(api, uploaded):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tester/other")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("tester/model")
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("without-a-namespace", "config.json")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("tester/model", revision="v9")
    with pytest.raises(EntryNotFoundError) as caught:
        api.hf_hub_download("tester/model", "missing.json")
    assert caught.value.response.headers["X-Repo-Commit"] == uploaded


def test_who_may_do_what(hub, api):
    api.create_repo("acme/secret", private=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("acme/secret")
    assert api.create_repo("acme/secret", exist_ok=True).repo_id == "acme/secret"
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("others/model")
    assert api.model_info("acme/secret").private
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/secret", token=False)
    with pytest.raises(HfHubHTTPError, match="401") as caught:
        api.model_info("acme/secret", token="hf_wrong")
    assert not isinstance(caught.value, RepositoryNotFoundError)
    with pytest.raises(OSError, match="Invalid user token"):  # before 1.0 the HTTP library's own
        api.whoami(token="hf_wrong")
    hub.create("others/public")
    hub.create("others/secret", private=True)
    assert api.model_info("others/public", token=False).siblings
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("others/secret")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="others/public")


def test_a_card_that_is_not_yaml_is_refused(api, folder):
    api.create_repo("tester/model")
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="tester/model")


@pytest.mark.parametrize(
    ("path", "size", "sample", "expected"),
    [
        ("a.txt", 600, ("a" * 511 + "é").encode()[:512], False),  # cut within a character
        ("a.txt", 3, b"\xff\xfe\x00", True),
        ("a.parquet", 3, b"abc", True),
        ("a.txt", 10_000_001, b"abc", True),
        ("a.txt", 0, b"", False),
    ],
)
def test_lfs_files(path, size, sample, expected):
    assert is_lfs(path, size, sample) == expected


def test_a_download_that_is_cut_goes_on_where_it_stopped(hub, api, uploaded, tmp_path):
    hub.cut("resolve/.*model.safetensors", after_bytes=11_000_000)
    try:
        path = api.hf_hub_download("tester/model", "model.safetensors", cache_dir=tmp_path)
    except OSError:  # before 1.0 it goes on with the next call
        path = api.hf_hub_download("tester/model", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS
    ranges = [request.range for request in hub.requests if request.method == "GET" and "resolve" in request.path]
    assert ranges == [None, "bytes=10485760-"]


def test_a_connection_that_is_reset_is_an_error(hub, api, uploaded, tmp_path):
    hub.cut("resolve/.*model.safetensors", after_bytes=1_000_000, reset=True)
    with pytest.raises(Exception, match="reset by peer"):  # of httpx or of requests
        api.hf_hub_download("tester/model", "model.safetensors", cache_dir=tmp_path)


def test_an_upload_that_is_cut_is_sent_again(hub, api, uploaded):
    hub.cut("/uploads/", after_bytes=1_000_000)
    api.upload_file(path_or_fileobj=WEIGHTS[::-1], path_in_repo="b.safetensors", repo_id="tester/model")
    assert statuses(hub, "/uploads/", "PUT") == [200, 200, None, 200]
    assert hub.files("tester/model")["b.safetensors"] == WEIGHTS[::-1]


def test_a_commit_that_is_cut_has_not_happened(hub, api, uploaded):
    hub.cut("/commit/")
    with pytest.raises(Exception, match=r"(?i)disconnected|closed connection"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="tester/model")
    assert hub.repository("tester/model").resolve("main").oid == uploaded
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="tester/model")
    assert hub.files("tester/model")["x"] == b"x"


def test_an_upload_of_other_bytes_is_refused(hub, uploaded):
    oid = "0" * 64
    request = urllib.request.Request(f"{hub.endpoint}/uploads/models/tester/model/{oid}", b"abc", method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)
    assert not hub.repository("tester/model").blob(oid).exists()


def test_a_corrupt_file_has_the_right_length(hub, api, uploaded, tmp_path):
    hub.corrupt("model.safetensors")
    for cache, differing in {"first": 16, "second": 0}.items():
        path = api.hf_hub_download("tester/model", "model.safetensors", cache_dir=tmp_path / cache)
        found = np.fromfile(path, np.uint8)
        assert (found != np.frombuffer(WEIGHTS, np.uint8)).sum() == differing


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_an_error_on_demand_comes_as_often_as_was_said(hub, uploaded, status):
    address = f"{hub.endpoint}/tester/model/resolve/main/README.md"
    hub.fail(status=status, path="resolve/.*README", times=2, method="GET")
    hub.requests.clear()
    urllib.request.urlopen(urllib.request.Request(address, method="HEAD"))
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(address)
        assert caught.value.code == status
        assert caught.value.headers["Retry-After"] == ("0" if status == 429 else None)
    assert urllib.request.urlopen(address).read().startswith(b"---\nlicense")
    assert statuses(hub, "README") == [status, status, 200]
    hub.fail(status=status, times=None)
    hub.heal()
    urllib.request.urlopen(address)


def test_a_client_waits_when_told_to(hub, api, uploaded, tmp_path):
    hub.fail(status=429, path="resolve/.*README", method="GET")
    try:
        api.hf_hub_download("tester/model", "README.md", cache_dir=tmp_path)
    except HfHubHTTPError:  # before 1.0 it does not
        api.hf_hub_download("tester/model", "README.md", cache_dir=tmp_path)
    assert statuses(hub, "README") == [429, 200]


def test_a_named_error_raises_the_exception_for_it(hub, api, uploaded, tmp_path):
    for code, exception in {"RepoNotFound": RepositoryNotFoundError, "RevisionNotFound": RevisionNotFoundError}.items():
        hub.fail(status=404, path="/api/models/", code=code)
        with pytest.raises(exception):
            api.model_info("tester/model")


def test_another_hub_goes_on_with_the_folder(hub, api, folder, uploaded):
    with LocalHub(hub.store.root) as other:
        assert other.files("tester/model") == contents(folder)


def test_a_hub_that_is_gone_does_not_answer(tmp_path):
    with LocalHub(tmp_path) as hub:
        hub.create("tester/model")
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        api.model_info("tester/model")
    with pytest.raises(Exception, match=r"(?i)refused|disconnected|reset|aborted"):
        api.model_info("tester/model")


def test_datasets_are_pushed_and_loaded(hub):
    done = subprocess.run(
        [sys.executable, "-c", PUSH_AND_LOAD],
        env={**os.environ, **hub.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(hub.files("tester/embeddings", repo_type="dataset")) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "half/test-00000-of-00002.parquet",
        "half/test-00001-of-00002.parquet",
    }
    assert hub.repository("tester/embeddings", "dataset").private
