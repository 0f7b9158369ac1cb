"""A bare Flask server, as tutorials have it: no token, no checks, no log.

It imports nothing of the project: with ENGINE=onnx it runs in an environment of its own.
"""

import os
from pathlib import Path

import joblib
import numpy as np
from flask import Flask, request

FOLDER = Path(os.environ["MODELS"])
app = Flask(__name__)

if os.environ["ENGINE"] == "onnx":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = {
        path.stem: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for path in FOLDER.glob("*.onnx")
    }

    def run(name, rows):
        """Predict labels with onnxruntime."""
        return sessions[name].run(None, {"X": np.array(rows, np.float32)})[0]

else:
    estimators = {path.stem: joblib.load(path) for path in FOLDER.glob("*.joblib")}

    def run(name, rows):
        """Predict labels with scikit-learn."""
        return estimators[name].predict(np.array(rows))


@app.post("/predict/<name>")
def predict(name):
    """Predict a batch of rows."""
    return {"predictions": run(name, request.get_json()["input_data"]).tolist()}


@app.get("/healthz")
def healthz():
    """Say that this process answers."""
    return {"status": "ok"}
