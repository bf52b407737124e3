"""A network in ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hf_gar.backends.exported_network import FEATURES, MASK, OUTPUTS, ExportedNetwork, cut_into_pieces, put_together
from hf_gar.errors import HfGarError
from hf_gar.quiet import without_usage_data

with without_usage_data():
    import onnxruntime


class OnnxNetwork(ExportedNetwork):
    """A network in ONNX Runtime, on the processor."""

    def _load(self, path: Path, dtype: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        # Where batches are of many sizes, the memory of the largest would be kept for each.
        options.enable_mem_pattern = False
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of many classes, none of which is public
            raise HfGarError(f"{path} cannot be loaded: {error}\nMake it again with `hf-gar optimize`.") from error
        self.takes_mask = MASK in [each.name for each in self.session.get_inputs()]

    def _embed(self, features: np.ndarray, lengths: np.ndarray) -> Mapping[str, np.ndarray]:
        if self.takes_mask:
            mask = (np.arange(features.shape[1]) < lengths[:, None]).astype(np.int64)
            return self._run({FEATURES: features, MASK: mask})
        pieces = cut_into_pieces(lengths, most=features.size)
        parts = ((piece, self._run({FEATURES: features[piece.start : piece.stop, : piece.length]})) for piece in pieces)
        return put_together(len(features), parts)

    def _run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(OUTPUTS, self.session.run(list(OUTPUTS), inputs), strict=True))
