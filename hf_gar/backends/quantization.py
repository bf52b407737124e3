"""Networks in int8: weights of each channel and activations of each layer rounded to 256 levels.

Each runtime's own quantiser knows what that runtime computes in int8: ONNX Runtime's, and NNCF for OpenVINO. With
CNN14-Fusion, OpenVINO ran NNCF's network 1.2 to 1.6 times as fast as ONNX Runtime's, and ONNX Runtime ran NNCF's
VGGish-Fusion mostly in float32. Both take the lowest and highest value that calibration shows as the range of an
activation: NNCF's default, which clips more, cost ten times as much accuracy (VGGish-Fusion's cosine to float32 was
0.9989 in place of 0.9999, CNN14-Fusion's 0.995 in place of 0.9997), as did its smoothing of AST-Fusion (0.9961 in place
of 0.9992).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hf_gar.quiet import quiet_exporters

Inputs = dict[str, np.ndarray]


def quantize_onnx(float_path: Path, path: Path, calibration: Sequence[Inputs]) -> None:
    """Make an int8 network for ONNX Runtime.

    Args:
        float_path: The network in float32.
        path: The file to write.
        calibration: The network's inputs for each calibration recording, by name.
    """
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
        quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Products of activations, as in attention, lose more than they are worth.
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool", "AveragePool"],
            extra_options={"MatMulConstBOnly": True},
        )
    prepared.unlink()


def convert_to_openvino(float_path: Path, path: Path) -> None:
    """Write an ONNX network as one of OpenVINO, in float32; its weights are in a file beside it, `.bin`."""
    import openvino

    openvino.save_model(openvino.convert_model(float_path), path, compress_to_fp16=False)


def quantize_openvino(float_path: Path, path: Path, calibration: Sequence[Inputs], is_transformer: bool) -> None:
    """Make an int8 network for OpenVINO.

    Args:
        float_path: The network in float32, in ONNX.
        path: The file to write.
        calibration: As of `quantize_onnx`.
        is_transformer: Whether its blocks are those of a transformer.
    """
    import openvino

    with quiet_exporters():
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        quantized = nncf.quantize(
            openvino.convert_model(float_path),
            nncf.Dataset(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,  # a processor without VNNI is refused
                disable_bias_correction=True,  # made no difference
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )
    openvino.save_model(quantized, path, compress_to_fp16=False)
