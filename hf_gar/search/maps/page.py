"""A map of embeddings as a page of its own: it needs no network, and plays a recording when its point is clicked."""

import base64
import html
import json
import mimetypes
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from hf_gar.embedding.sources.file_names import AUDIO_SUFFIXES
from hf_gar.embedding.sources.tables import PATH_COLUMNS
from hf_gar.errors import HfGarError
from hf_gar.files import write_whole_file
from hf_gar.pictures import shorten
from hf_gar.search.maps.coloring import GREY, MISSING, Coloring, Group

TEMPLATE = Path(__file__).with_name("page.html")
MAX_EMBEDDED_BYTES = 50_000_000  # browsers open larger pages slowly or not at all
MAX_DETAILS = 8
DETAIL_LENGTH = 60


def write_page(
    path: Path,
    positions: np.ndarray,
    coloring: Coloring,
    title: str,
    rows: pd.DataFrame,
    audio: Sequence[str | None],
    nearest: Sequence[Sequence[tuple[int, float]]],
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        positions: (point, 2).
        coloring: Of the points.
        title: Lines of text.
        rows: What is told about each point: one row a point, its index the row of the job.
        audio: The URL of each point's recording, as `page_link` and `embedded_audio` make them; None where it cannot be
            played.
        nearest: The points most similar to each, with their similarities, from -1 to 1.

    Raises:
        HfGarError: The file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    described = describe_rows(rows)
    points = [
        {**about, "audio": url, "nearest": [[other, round(similarity, 2)] for other, similarity in others]}
        for about, url, others in zip(described, audio, nearest, strict=True)
    ]
    content = {"title": title, "points": points, **draw_points(positions, coloring, described)}
    filled = {"plotly": get_plotlyjs(), "content": json_in_script(content)}
    # One pass: what is filled in is not searched for more places.
    page = re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], TEMPLATE.read_text(encoding="utf-8"))
    write_whole_file(path, page)


def draw_points(positions: np.ndarray, coloring: Coloring, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plotly's `traces` and `layout` of points at `positions` (point, 2), as `describe_rows` describes them."""
    traces = [_trace(group, positions, points) for group in _bottom_first(coloring.groups)]
    if coloring.values is not None:
        traces.append(_scale_trace(coloring, positions, points))
    return {"traces": traces, "layout": _layout(coloring)}


def json_in_script(content: Any) -> str:
    """JSON that can stand in a script element: no text in it ends the element or begins a comment."""
    encoded = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_link(recording: Path, page: Path) -> str:
    """The URL of a file relative to a page; both may be moved together, or served."""
    folder = os.path.abspath(page.parent)  # noqa: PTH100 - browsers do not follow links in paths either
    try:
        relative = Path(os.path.relpath(recording, folder))
    except ValueError:  # on another drive of Windows
        return recording.as_uri()
    return quote(os.fsencode(relative.as_posix()))


def embedded_audio(recordings: Sequence[Path | None]) -> list[str | None]:
    """The recordings as data URLs.

    Raises:
        HfGarError: They are larger than a page can be.
    """
    # By name alone, so that a table of wrong paths does not carry other private files into a page that is passed on.
    files = [path if path and path.suffix.lower() in AUDIO_SUFFIXES else None for path in recordings]
    size = sum(path.stat().st_size for path in files if path)
    if size > MAX_EMBEDDED_BYTES:
        raise HfGarError(
            f"The recordings are {size / 1e6:.0f} MB, and a page holds at most {MAX_EMBEDDED_BYTES / 1e6:.0f} MB of "
            "them. Leave `embed_audio` out, so that the page links to them, or draw fewer (`max_points`)."
        )
    return [_data_url(path) if path else None for path in files]


def _data_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def describe_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row's `name`, and in `details` what its short columns say: [column, value] pairs of text."""
    name_column, columns = described_columns(list(rows.columns))
    described = []
    for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
        name = f"row {index}" if name_column is None else row[name_column]
        details = [[shorten(str(column), DETAIL_LENGTH), _as_text(column, row[column])] for column in columns]
        described.append({"name": str(name), "details": [detail for detail in details if detail[1]]})
    return described


def described_columns(columns: Sequence[str]) -> tuple[str | None, list[str]]:
    """The column that names a recording, None where there is none, and those whose values are told, in order."""
    name_column = next((column for column in PATH_COLUMNS if column in columns), None)
    return name_column, [column for column in columns if column != name_column][:MAX_DETAILS]


def _as_text(column: str, value: Any) -> str:
    """A short value as text; nothing for a list, bytes and the like."""
    if not pd.api.types.is_scalar(value) or isinstance(value, bytes):
        return ""
    if pd.isna(value):
        return MISSING
    if column == "duration_s":
        return f"{value:.2f}"
    return f"{value:.6g}" if isinstance(value, float) else shorten(str(value), DETAIL_LENGTH)


def _bottom_first(groups: Sequence[Group]) -> list[Group]:
    """What is drawn first lies below."""
    return sorted(groups, key=lambda group: group.color != GREY)


def _trace(group: Group, positions: np.ndarray, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plotly's description of a group of points. Plotly reads markup in all text, so that it has to be escaped."""
    return {
        "type": "scatter",  # not "scattergl", which needs a graphics driver and compiles code in the page
        "mode": "markers",
        "name": html.escape(group.label, quote=False),
        "x": _rounded(positions[group.points, 0]),
        "y": _rounded(positions[group.points, 1]),
        "customdata": group.points.tolist(),
        "text": [_hover_text(points[index]) for index in group.points],
        "hoverinfo": "text",
        "legendrank": 2000 if group.color == GREY else 1000,
        "showlegend": bool(group.label),
        "marker": {
            "color": group.color,
            "symbol": group.marker,
            "size": float(np.clip(300 / len(positions) ** 0.5, 5, 10)),  # pixels
            "line": {"color": "white", "width": 0.5},
        },
    }


def _scale_trace(coloring: Coloring, positions: np.ndarray, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    assert coloring.values is not None
    valued = np.flatnonzero(~np.isnan(coloring.values))
    trace = _trace(Group("", valued, ""), positions, points)
    title = {"text": html.escape(coloring.column, quote=False)}
    trace["marker"] |= {
        "color": coloring.values[valued].tolist(),
        "colorscale": "Viridis",
        "showscale": True,
        "colorbar": {"title": title, "outlinewidth": 0, "len": 0.6},
    }
    return trace


def _hover_text(point: dict[str, Any]) -> str:
    lines = [f"<b>{html.escape(shorten(point['name'], DETAIL_LENGTH), quote=False)}</b>"]
    lines += [html.escape(f"{column}: {value}", quote=False) for column, value in point["details"]]
    return "<br>".join(lines)


def _layout(coloring: Coloring) -> dict[str, Any]:
    axis = {"visible": False, "zeroline": False}
    legend_title = "" if coloring.values is not None else html.escape(coloring.column, quote=False)
    return {
        "xaxis": axis,
        "yaxis": {**axis, "scaleanchor": "x"},
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},  # pixels; the buttons are at the top
        "legend": {"title": {"text": legend_title}, "itemsizing": "constant"}
        | ({"orientation": "h"} if coloring.values is not None else {}),
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "dragmode": "pan",
    }


def _rounded(coordinates: np.ndarray) -> list[float]:
    return np.round(coordinates.astype(np.float64), 3).tolist()
