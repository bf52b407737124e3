"""A map of a job on which a recording that is not in the job is placed, too."""

from typing import Any

import numpy as np

from hf_gar.search.index.embedding_index import EmbeddingIndex
from hf_gar.search.libraries import import_library
from hf_gar.search.maps.coloring import color_points
from hf_gar.search.maps.embedding_map import check_job, choose_sample, place_points, read_points
from hf_gar.search.maps.page import describe_rows, draw_points

MAX_POINTS = 2000  # t-SNE of so many takes some seconds, each time an app starts
SEED = 0
NEIGHBORS = 5  # among which a query is placed
MIN_DISTANCE = 1e-3  # 1 - similarity: nearer ones are the same
MARK = {"symbol": "star", "size": 18, "color": "#DC050C", "line": {"color": "white", "width": 1.5}}
LAYOUT = {
    "margin": {"l": 10, "r": 10, "t": 40, "b": 10},  # pixels; the buttons are at the top
    "plot_bgcolor": "white",
    "modebar": {"remove": ["select2d", "lasso2d"]},
}


class QueryMap:
    """A map of a job's recordings, or of a random sample of them, by t-SNE.

    Args:
        index: Of the job.
        color: The column that colours the points.

    Raises:
        HfGarError: There is no such column, or a library is missing.
    """

    def __init__(self, index: EmbeddingIndex, color: str | None = None):
        check_job(index.job, color)
        self.index = index
        sample = choose_sample(len(index), MAX_POINTS, SEED)
        drawn = read_points(index.job, color, sample)
        self.positions = place_points(drawn.embeddings, "tsne", SEED)
        self.is_drawn = np.isin(np.arange(len(index)), sample)
        coloring = color_points(None if color is None else drawn.rows[color], len(sample))
        self.drawing = draw_points(self.positions, coloring, describe_rows(drawn.rows))

    def place(self, query: np.ndarray) -> np.ndarray:
        """Where a standardised embedding (1, D) lies: among its nearest, the closer to the more similar, (2,).

        t-SNE places only what it was computed with.
        """
        count = min(NEIGHBORS, len(self.positions))
        (similarities,), (rows,) = self.index.nearest(query, count, allowed=self.is_drawn)
        points = np.cumsum(self.is_drawn)[rows] - 1
        weights = 1 / np.maximum(1 - similarities, MIN_DISTANCE) ** 2
        return np.average(self.positions[points], axis=0, weights=weights)

    def figure(self, query: np.ndarray | None = None) -> Any:
        """The map as Plotly's figure, with a star where a standardised embedding (1, D) lies."""
        traces = list(self.drawing["traces"])
        if query is not None:
            x, y = self.place(query).tolist()
            mark = {"type": "scatter", "mode": "markers", "marker": MARK, "name": "your sound"}
            traces.append({**mark, "x": [x], "y": [y]})
        layout = {**self.drawing["layout"], **LAYOUT}
        return import_library("plotly.graph_objects", "hf_gar[app]").Figure(traces, layout)
