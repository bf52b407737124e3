"""Publish the app on a job as a Space on the Hub."""

from importlib.metadata import version
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, SpaceCardData

from hf_gar.checkpoints.download import REPOSITORY_NAME
from hf_gar.embedding.jobs.job_folder import JOB_FILE, read_description
from hf_gar.embedding.jobs.publish import fetch_job
from hf_gar.embedding.jobs.recording_files import split_hub_address
from hf_gar.errors import HfGarError
from hf_gar.hub.card import CARD_FILE, render_template
from hf_gar.hub.load import find_repository, joint_digest
from hf_gar.hub_errors import hub_errors
from hf_gar.search.libraries import import_library
from hf_gar.tiny import TINY

TEMPLATE = "space.md"
TAG = "hf_gar"  # by which a Space is recognised as one that was published here
FILES_OF_A_NEW_SPACE = {".gitattributes", CARD_FILE}


def push_space(
    job: str,
    repo_id: str,
    *,
    model: str | None = None,
    color: str | None = None,
    audio_root: str | None = None,
    requirement: str | None = None,
    private: bool | None = None,
) -> str:
    """Publish a Space that runs `build_app`, as one commit; it is made where needed.

    Args:
        job: The dataset on the Hub that `push_dataset` made of a job.
        repo_id: The Space's name on the Hub, "organisation/name".
        model: The job's model on the Hub, by default as the job names it.
        color: The column that colours the map.
        audio_root: hf://datasets/ORG/NAME, a dataset on the Hub that has the recordings as files; without, they cannot
            be listened to.
        requirement: What pip installs hf_gar from in the Space; by default the release of this version.
        private: Whether a Space that is made is private; by default what the organisation has set.

    Returns:
        The Space's address.

    Raises:
        HfGarError: The job or the model is not on the Hub, the model is another one than the job's, the Space there is
            something else, or the Hub refuses.
    """
    import_library("gradio", "hf_gar[app]")
    api = HfApi()
    for name in (job, repo_id):
        if not REPOSITORY_NAME.fullmatch(name):
            raise HfGarError(f"On the Hub a repository is named organisation/name, or user/name, not {name!r}.")
    description = read_description(fetch_job(job, files=JOB_FILE))
    _require_model(api, job, description, model)
    if audio_root is not None:
        recordings, _ = split_hub_address(audio_root)
        with hub_errors(recordings):
            api.dataset_info(recordings)
    arguments = {"model": model, "color": color, "audio_root": audio_root}
    files = {
        "app.py": _app(job, {name: value for name, value in arguments.items() if value is not None}),
        "requirements.txt": f"{requirement or 'hf_gar[app]==' + version('hf_gar')}\n",
        CARD_FILE: _card(repo_id, job, model or description["model"]),
    }
    with hub_errors(repo_id):
        api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        _require_recognised(api, repo_id)
        operations = [CommitOperationAdd(name, content.encode()) for name, content in files.items()]
        commit = api.create_commit(repo_id, operations, commit_message="App, by hf_gar", repo_type="space")
    return str(commit.repo_url)


def _require_model(api: HfApi, job: str, description: dict[str, Any], chosen: str | None) -> None:
    """Raise a HfGarError where a model is not on the Hub, or is not that of a job; nothing of it is downloaded."""
    model, revision = (description["model"], description["revision"]) if chosen is None else (chosen, None)
    if model == TINY:
        found = find_repository(TINY).weights_sha256
    elif not REPOSITORY_NAME.fullmatch(model):
        raise HfGarError(f"{job} was embedded with {model}, which was not on the Hub. Say where it is now (`model`).")
    else:
        with hub_errors(model):
            siblings = api.model_info(model, revision=revision, files_metadata=True).siblings or []
        digests = {file.rfilename: file.lfs.sha256 for file in siblings if file.lfs is not None}
        found = joint_digest([digests[name] for name in sorted(digests) if name.endswith(".safetensors")])
    if found != description["weights_sha256"]:
        raise HfGarError(
            f"The weights of {model} are not those that {job} was embedded with. Say where that model is (`model`)."
        )


def _require_recognised(api: HfApi, repo_id: str) -> None:
    """Raise a HfGarError where a Space is neither new nor one that was published here."""
    there = api.space_info(repo_id)
    names = {file.rfilename for file in there.siblings or []}
    if not names <= FILES_OF_A_NEW_SPACE and TAG not in (there.tags or []):
        raise HfGarError(f"{repo_id} is something else ({', '.join(sorted(names)[:5])}). Choose another `repo_id`.")


def _app(job: str, arguments: dict[str, str]) -> str:
    """The Space's program."""
    passed = ", ".join([repr(job), *(f"{name}={value!r}" for name, value in arguments.items())])
    return f"""from hf_gar.search.app.gradio_app import LAUNCH_OPTIONS, build_app

demo = build_app({passed})
demo.launch(**LAUNCH_OPTIONS)
"""


def _card(repo_id: str, job: str, model: str) -> str:
    title = repo_id.partition("/")[2]
    data = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=version("gradio"),
        app_file="app.py",
        datasets=[job],
        models=None if model == TINY else [model],
        tags=["audio", "audio-embedding", TAG],
    )
    return render_template(
        TEMPLATE, card_data=data.to_yaml(), title=title, job=job, model=model, version=version("hf_gar")
    )
