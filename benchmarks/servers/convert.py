"""Make ONNX files of the models in a folder, in the environment of the bare ONNX server."""

import sys
from pathlib import Path

import joblib
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

for path in Path(sys.argv[1]).glob("*.joblib"):
    estimator = joblib.load(path)
    if type(estimator).__name__.startswith("HistGradientBoosting"):
        continue  # in float32, its conversion predicts other numbers than the original
    types = [("X", FloatTensorType([None, estimator.n_features_in_]))]
    converted = to_onnx(estimator, initial_types=types, options={"zipmap": False})
    path.with_suffix(".onnx").write_bytes(converted.SerializeToString())
