"""Publish a model repository on the Hub."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from hf_gar.checkpoints.download import REPOSITORY_NAME, file_digest
from hf_gar.checkpoints.reading import read_json
from hf_gar.errors import HfGarError
from hf_gar.hub.card import CARD_FILE, placeholder_repo_id
from hf_gar.hub.check import check_repository
from hf_gar.hub.load import CONFIG_FILE, OPTIMIZED_FILE
from hf_gar.hub_errors import hub_errors

FILES_OF_A_NEW_REPOSITORY = {".gitattributes", CARD_FILE}
WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
NETWORK_FOLDERS = (OPTIMIZED_FILE, "onnx/", "openvino/")
UNAUTHORIZED = 401  # an HTTP status


@dataclass(frozen=True)
class Push:
    """What a push does, or did: the files it uploads and deletes, and where they can be seen."""

    repo_id: str
    repo_exists: bool
    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    commit_sha: str | None = None
    url: str | None = None


def push_repository(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Push:
    """Check a model repository and publish it on the Hub as one commit; the repository there is made where needed.

    Args:
        folder: The repository, as `export_repository` makes it.
        repo_id: Its name on the Hub, "organisation/name".
        private: Whether a repository that is made is private; by default what the organisation has set.
        revision: The branch to commit to, which is made where needed; by default "main".
        create_pr: Open a pull request rather than commit to the branch.
        overwrite: Replace what is there even where it is not a repository of this model.
        trust_remote_code: Publish code that is not the installed one, and run it for the check.
        commit_message: Of the commit.
        token: Of the user; by default that of `hf auth login` or of HF_TOKEN.
        dry_run: Check, look and tell, but change nothing.

    Returns:
        What was, or would be, uploaded and deleted. A push of what is there already makes no commit.

    Raises:
        HfGarError: The folder does not work, the repository there is something else, or the Hub refuses; the message
            says what to do.
    """
    if not REPOSITORY_NAME.fullmatch(repo_id):
        raise HfGarError(f"On the Hub a model is named organisation/name, or user/name, not {repo_id!r}.")
    folder = Path(folder)
    repository = check_repository(folder, trust_remote_code)
    model_type = repository.spec.model_type
    contents = _contents(folder, repo_id, model_type)
    api = HfApi(token=token)
    with hub_errors(repo_id):
        there = _look(api, repo_id, revision)
        if there is not None and not overwrite:
            _require_recognised(api, there, model_type)
        stale = [] if there is None else _stale_files(there, contents, repository.spec.hub_files)
        push = Push(repo_id, there is not None, tuple(contents), tuple(stale))
        if dry_run:
            return push
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, content) for name, content in contents.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=commit_message or f"{model_type}, by hf_gar {version('hf_gar')}",
            revision=revision,
            create_pr=create_pr,
        )
        _verify_weights(api, repo_id, commit.oid, folder)
    return replace(push, commit_sha=commit.oid, url=commit.pr_url or str(commit.repo_url))


def _contents(folder: Path, repo_id: str, model_type: str) -> dict[str, Any]:
    """What is uploaded, by its name there: a path, or bytes for the card, which gets the repository's name."""
    contents: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    }
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    contents[CARD_FILE] = card.replace(placeholder_repo_id(model_type), repo_id).encode()
    return contents


def _look(api: HfApi, repo_id: str, revision: str | None) -> ModelInfo | None:
    """The repository on the Hub, at the branch where that exists; None where there is no repository."""
    try:
        return api.model_info(repo_id, revision=revision)
    except RevisionNotFoundError:
        return api.model_info(repo_id)  # a new branch begins as main is
    except RepositoryNotFoundError as error:
        if error.response.status_code == UNAUTHORIZED and api.token:
            api.whoami()  # the Hub answers so for a repository that is not there, too: is it the token?
        return None


def _require_recognised(api: HfApi, there: ModelInfo, model_type: str) -> None:
    """Raise a HfGarError where a repository on the Hub is neither empty nor of this model."""
    names = {file.rfilename for file in there.siblings or []}
    if names <= FILES_OF_A_NEW_REPOSITORY:
        return
    found = None
    if CONFIG_FILE in names:
        config = api.hf_hub_download(there.id, CONFIG_FILE, revision=there.sha)
        found = read_json(Path(config)).get("model_type")
    if found != model_type:
        what = f"holds a model of the type {found!r}" if found else f"holds {', '.join(sorted(names)[:5])}"
        raise HfGarError(
            f"{there.id} exists and is not a repository of a {model_type}: it {what}. Choose another `repo_id`, or "
            "replace it (`overwrite`)."
        )


def _stale_files(there: ModelInfo, contents: dict[str, Any], hub_files: Collection[str]) -> list[str]:
    """Code, weights and networks on the Hub that this version of a repository has not, and which must not linger."""
    names = (file.rfilename for file in there.siblings or [])
    return sorted(
        name
        for name in names
        if name not in contents
        and (name in hub_files or name.endswith(WEIGHT_SUFFIXES) or name.startswith(NETWORK_FOLDERS))
    )


def _verify_weights(api: HfApi, repo_id: str, commit_sha: str, folder: Path) -> None:
    """Compare the digests of the weights on the Hub with those in the folder."""
    there = api.model_info(repo_id, revision=commit_sha, files_metadata=True)
    digests = {file.rfilename: file.lfs.sha256 for file in there.siblings or [] if file.lfs is not None}
    for path in folder.glob("*.safetensors"):
        if digests.get(path.name) != file_digest(path, "sha256"):
            raise HfGarError(f"{path.name} is on the Hub with another digest than here. Push again.")
