"""Networks in int8: weights of each channel and activations of each layer rounded to 256 levels.

Each runtime's own quantiser knows what that runtime computes in int8: ONNX Runtime's, and NNCF for OpenVINO. With
CNN14-Fusion, OpenVINO ran NNCF's network 1.2 to 1.6 times as fast as ONNX Runtime's, and ONNX Runtime ran NNCF's
VGGish-Fusion mostly in float32.

The range of an activation is from the lowest to the highest value that calibration shows. NNCF's default, which clips
more, cost ten times as much accuracy (VGGish-Fusion's cosine to float32 was 0.9989 in place of 0.9999, CNN14-Fusion's
0.995 in place of 0.9997), as did its smoothing of AST-Fusion (0.9961 in place of 0.9992).

The first layer stays in float, and all that comes after the last one: a spectrogram has a range of 120 dB, in which 256
levels are coarse, and the sums of pooling have the length of a recording, which calibration does not know. Recordings
longer than those of the calibration had cosines of 0.99 with them, and 0.9997 without. Neither is what takes time.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_gar.quiet import quiet_exporters, without_usage_data

Inputs = dict[str, np.ndarray]
# The operations of attention, and those that have weights, as ONNX and OpenVINO call them.
ATTENTION = {"Softmax", "ScaledDotProductAttention"}
LAYERS = {"Conv", "Gemm", "MatMul", "Convolution", "GroupConvolution"}


def quantize_onnx(float_path: Path, path: Path, calibration: Sequence[Inputs]) -> None:
    """Make an int8 network for ONNX Runtime.

    Args:
        float_path: The network in float32.
        path: The file to write.
        calibration: The network's inputs for each calibration recording, by name.
    """
    with without_usage_data():
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Inputs] = iter(calibration)

        def get_next(self) -> Inputs | None:
            return next(self.left, None)

    prepared = path.with_suffix(".prepared.onnx")
    with quiet_exporters():
        quant_pre_process(float_path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared, load_external_data=False).graph
        operations = [(node.name, node.op_type, list(node.input), list(node.output)) for node in graph.node]
        quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool", "AveragePool"],
            nodes_to_exclude=_left_in_float(operations),
            # Products of activations, as in attention, lose more than they are worth.
            extra_options={"MatMulConstBOnly": True},
        )
    prepared.unlink()


def convert_to_openvino(float_path: Path, path: Path) -> None:
    """Write an ONNX network as one of OpenVINO, in float32; its weights are in a file beside it, `.bin`."""
    with without_usage_data():
        import openvino

    openvino.save_model(openvino.convert_model(float_path), path, compress_to_fp16=False)


def quantize_openvino(float_path: Path, path: Path, calibration: Sequence[Inputs]) -> None:
    """Make an int8 network for OpenVINO.

    Args:
        float_path: The network in float32, in ONNX.
        path: The file to write.
        calibration: As in `quantize_onnx`.
    """
    with quiet_exporters(), without_usage_data():
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        network = openvino.convert_model(float_path)
        operations = _operations(network)
        has_attention = not ATTENTION.isdisjoint(kind for _, kind, _, _ in operations)
        quantized = nncf.quantize(
            network,
            nncf.Dataset(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
            ignored_scope=nncf.IgnoredScope(names=_left_in_float(operations)),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,  # a processor without VNNI is refused
                disable_bias_correction=True,  # made no difference
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def _operations(network: Any) -> list[tuple[str, str, list[str], list[str]]]:
    """The operations of a network of OpenVINO as `_left_in_float` takes them; a name stands for its outputs, too."""
    return [
        (
            operation.get_friendly_name(),
            operation.get_type_name(),
            [source.get_node().get_friendly_name() for source in operation.input_values()],
            [operation.get_friendly_name()],
        )
        for operation in network.get_ordered_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result")
    ]


def _left_in_float(operations: Sequence[tuple[str, str, list[str], list[str]]]) -> list[str]:
    """The names of the first layer, and of what comes after the last ones.

    Args:
        operations: In order: the name of each, its type, and the names of its inputs and outputs.
    """
    computed: set[str] = set()  # what a layer has a part in
    first = []
    for name, kind, inputs, outputs in operations:
        if kind in LAYERS and computed.isdisjoint(inputs):
            first.append(name)
        if kind in LAYERS or not computed.isdisjoint(inputs):
            computed.update(outputs)
    needed: set[str] = set()  # what a layer is computed of
    after = []
    for name, kind, inputs, outputs in reversed(operations):
        leads_on = not needed.isdisjoint(outputs)
        if kind in LAYERS or leads_on:
            needed.update(inputs)
        else:
            after.append(name)
    return first + after
