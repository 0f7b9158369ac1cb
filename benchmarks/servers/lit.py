"""LitServe with the same models, in an environment of its own."""

import os
import sys
from pathlib import Path

import joblib
import litserve
import numpy as np


class Models(litserve.LitAPI):
    """Predicts with the model that a request names."""

    def setup(self, device):
        """Load the models, once in each worker."""
        folder = Path(os.environ["MODELS"])
        self.estimators = {path.stem: joblib.load(path) for path in folder.glob("*.joblib")}

    def decode_request(self, request):
        """Read a request."""
        return request["model"], np.array(request["input_data"])

    def predict(self, x):
        """Predict a batch of rows."""
        name, rows = x
        return self.estimators[name].predict(rows)

    def encode_response(self, output):
        """Write an answer."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Models(), accelerator="cpu", workers_per_device=2)
    server.run("127.0.0.1", int(sys.argv[1]), log_level="warning", generate_client_file=False)
