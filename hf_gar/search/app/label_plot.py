"""The labels of a recording over time, as a picture."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_gar.search.libraries import import_library

SHOWN = 8  # labels
HEIGHT = 260  # pixels
LAYOUT = {
    "height": HEIGHT,
    "margin": {"l": 10, "r": 10, "t": 40, "b": 10},  # the buttons are at the top
    "xaxis": {"title": {"text": "seconds"}},
    "yaxis": {"autorange": "reversed"},
}


def draw_labels(windows: Sequence[dict[str, Any]]) -> Any:
    """Plotly's figure of the labels that score highest in any window of a recording.

    Args:
        windows: As the pipeline "audio-classification" gives them with `timestamps=True` and `top_k=None`.
    """
    scores = {label["label"]: np.zeros(len(windows)) for label in windows[0]["labels"]}
    for number, window in enumerate(windows):
        for label in window["labels"]:
            scores[label["label"]][number] = label["score"]
    shown = sorted(scores, key=lambda label: -scores[label].max())[:SHOWN]
    starts, ends = np.array([window["timestamp"] for window in windows]).T
    centres = (starts + ends) / 2
    # Windows overlap: each is drawn up to halfway to the next.
    edges = np.concatenate([starts[:1], (centres[1:] + centres[:-1]) / 2, ends[-1:]])
    heatmap = {
        "type": "heatmap",
        "x": edges,
        "y": [html.escape(label, quote=False) for label in shown],  # Plotly reads markup
        "z": [scores[label] for label in shown],
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Blues",
        "hovertemplate": "%{y}: %{z:.0%}<extra></extra>",
    }
    return import_library("plotly.graph_objects", "hf_gar[app]").Figure(heatmap, LAYOUT)
