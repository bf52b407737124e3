"""A network in OpenVINO."""

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.backends.exported_network import (
    FEATURES,
    MASK,
    OUTPUTS,
    ExportedNetwork,
    Piece,
    cut_into_pieces,
    put_together,
)
from hf_gar.errors import HfGarError
from hf_gar.quiet import without_usage_data

with without_usage_data():
    import openvino

# What is not in int8 is computed in float32: in bfloat16, AST-Fusion was a tenth slower, the others the same.
PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
# Short clips are run together, up to so many time steps: 5 s of spectrograms.
PIECE_STEPS = 512


@cache
def shared_core() -> Any:
    """OpenVINO itself, which stays for as long as the process: where it went with a network, its threads did not."""
    return openvino.Core()


class OpenVinoNetwork(ExportedNetwork):
    """A network in OpenVINO, on the processor.

    A batch is run clip by clip, each in a thread of its own: threads that share the work on one clip wait for each
    other, all the more where they share the cores with decoders. Only clips that are left over, fewer than threads, are
    run by all of them. Each clip is as long as it is, so that there is no padding to be masked, which was a tenth of
    CNN14-Fusion's work in int8. What OpenVINO makes for each new length is 2 to 8 ms of work.
    """

    def _load(self, path: Path, dtype: str, threads: int) -> None:
        self.threads = threads
        self.precision = PRECISIONS[dtype]
        try:
            self.network = shared_core().read_model(path)
            if not self.has_fixed_length:
                remove_masking(self.network)
        except RuntimeError as error:
            raise HfGarError(f"{path} cannot be loaded: {error}\nMake it again with `hf-gar optimize`.") from error
        self.takes_mask = MASK in [each.any_name for each in self.network.inputs]

    @cached_property
    def _one_by_one(self) -> Any:
        """Runs as many pieces at a time as there are threads, each in one."""
        return openvino.AsyncInferQueue(self._compile(streams=self.threads))

    @cached_property
    def _together(self) -> Any:
        """Runs one piece at a time, in all threads."""
        return openvino.AsyncInferQueue(self._compile(streams=1), 1)

    def _compile(self, streams: int) -> Any:
        settings = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        return shared_core().compile_model(self.network, "CPU", settings)

    def _embed(self, features: np.ndarray, lengths: np.ndarray) -> Mapping[str, np.ndarray]:
        batch, time, _ = features.shape
        steps = np.full(batch, time) if self.has_fixed_length else lengths
        pieces = list(cut_into_pieces(steps, PIECE_STEPS))
        parts: list[tuple[Piece, dict[str, np.ndarray]]] = []

        def keep(request: Any, piece: Piece) -> None:
            parts.append((piece, {name: request.get_tensor(name).data.copy() for name in OUTPUTS}))

        def run(queue: Any, some: list[Piece]) -> None:
            queue.set_callback(keep)
            for piece in some:
                rows = slice(piece.start, piece.stop)
                inputs = {FEATURES: features[rows, : piece.length]}
                if self.takes_mask:
                    inputs[MASK] = (np.arange(piece.length) < lengths[rows, None]).astype(np.int64)
                queue.start_async(inputs, piece, share_inputs=False)
            queue.wait_all()

        # The last pieces, fewer than threads, would leave some of these without work.
        rest = len(pieces) % self.threads
        if len(pieces) > rest:
            run(self._one_by_one, pieces[: len(pieces) - rest])
        if rest:
            run(self._together, pieces[len(pieces) - rest :])
        return put_together(batch, parts)


def remove_masking(network: Any) -> None:
    """Take out of a network what sets to zero what lies beyond a clip's end, for clips that end where they end.

    That is a product with a mask, or a choice by one between a constant and a tensor. A mask is what depends on the
    network's input of that name, and on the other input by its shape alone.
    """
    depends_on: dict[str, set[str]] = {}
    for operation in network.get_ordered_ops():
        sources = [each.get_source_output() for each in operation.inputs()]
        kind = operation.get_type_name()
        if kind == "Parameter":
            depends_on[operation.get_name()] = set(operation.output(0).get_names())
            continue
        found = [depends_on[source.get_node().get_name()] for source in sources]
        depends_on[operation.get_name()] = set() if kind == "ShapeOf" else set().union(*found)
        if kind in ("Multiply", "Select") and {MASK} in found:
            masked = [source for source, names in zip(sources, found, strict=True) if FEATURES in names]
            if len(masked) == 1:
                operation.output(0).replace(masked[0])
    network.validate_nodes_and_infer_types()
