"""An app on a finished job: drop or record a sound, and see what it is, what is like it, and where it lies.

Gradio draws the page; what it shows is computed by `Answers`.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import cached_assets_path

from hf_gar.embedding.jobs.publish import fetch_job
from hf_gar.errors import HfGarError
from hf_gar.search.app.answers import MOST_SIMILAR, Answer, Answers
from hf_gar.search.index.embedding_index import EmbeddingIndex
from hf_gar.search.libraries import import_library

LAUNCH_OPTIONS = {"max_file_size": "200mb"}
KEPT_S = (3600, 3600)  # how often what was uploaded and played is looked through, and after how long it is deleted
TABLE = ["similarity", "recording", "about"]


def build_app(job: str | Path, *, index: str | Path | None = None, **options: Any) -> Any:
    """An app that searches a job, which `launch()` starts. A job without an index is indexed first.

    Args:
        job: The job's folder, or the name of a dataset on the Hub that `hf-gar push-dataset` made.
        index: The index's folder, by default `index` in the job's.
        options: Those of `Answers`: `model`, `device`, `color`, `audio_root`.

    Returns:
        Gradio's `Blocks`.

    Raises:
        HfGarError: The job, the index or the model cannot be used, there is no such column, or a library is missing.
    """
    gradio = import_library("gradio", "hf_gar[app]")
    answers = Answers(_open_index(job, index), **options)

    def respond(path: str | None) -> list[Any]:
        """The values of `outputs`."""
        answer, reason = Answer(None, [], answers.map.figure()), None
        try:
            answer = answer if path is None else answers.answer(path)
        except (HfGarError, ValueError, OSError, ImportError) as error:
            reason = str(error)
        rows = [[f"{hit.similarity:.3f}", hit.name, hit.details] for hit in answer.hits]
        players = [
            gradio.Audio(hit.audio, label=f"{number}. {hit.name}", visible=hit.audio is not None)
            for number, hit in enumerate(answer.hits, 1)
        ]
        unused = [gradio.Audio(None, visible=False)] * (MOST_SIMILAR - len(players))
        message = gradio.Textbox(reason, visible=reason is not None)
        labels = gradio.Plot(answer.labels, visible=answer.labels is not None)
        return [message, labels, answer.map, rows, *players, *unused]

    title = f"{len(answers.index)} recordings"
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=KEPT_S) as app:
        gradio.Markdown(f"# Search {title} by sound")
        with gradio.Row():
            with gradio.Column():
                sound = gradio.Audio(label="Drop or record a sound", type="filepath", sources=["upload", "microphone"])
                message = gradio.Textbox(label="This sound cannot be searched for", visible=False)
                labels = gradio.Plot(label="What it is", visible=False)
                place = gradio.Plot(answers.map.figure(), label="Where it lies")
            with gradio.Column():
                table = gradio.Dataframe(headers=TABLE, label="Most similar", interactive=False)
                players = [
                    gradio.Audio(visible=False, interactive=False, buttons=["download"]) for _ in range(MOST_SIMILAR)
                ]
        outputs = [message, labels, place, table, *players]
        sound.change(respond, sound, outputs, api_name="search")
    return app


def _open_index(job: str | Path, index: str | Path | None) -> EmbeddingIndex:
    if Path(job).is_dir():
        return EmbeddingIndex.open_or_build(job, index)
    folder = fetch_job(str(job))
    if index is not None:
        return EmbeddingIndex.open(folder, index)
    commit = folder.parent.name
    return EmbeddingIndex.build(folder, output=cached_assets_path("hf_gar", str(job), f"index-{commit}"))
