"""A table of rows in every format and protocol that the service speaks, and its answers read."""

import csv
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson

JSON = "application/json"
CSV = "text/csv"
HEAD = "Inference-Header-Content-Length"


class Post(Protocol):
    """Sends a request, demands a 200, and returns headers and body."""

    def __call__(
        self, path: str, content: bytes, params: dict[str, str], headers: dict[str, str]
    ) -> tuple[Any, bytes]: ...


@dataclass(frozen=True)
class Table:
    """Rows for a model; names where the model has them."""

    rows: list[list[Any]]
    names: list[str] | None
    numeric: bool

    @property
    def header(self) -> list[str]:
        return self.names or [f"column_{number}" for number in range(len(self.rows[0]))]

    @property
    def columns(self) -> dict[str, list[Any]]:
        return dict(zip(self.header, map(list, zip(*self.rows, strict=True)), strict=True))

    @property
    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.header, row, strict=True)) for row in self.rows]

    @property
    def csv(self) -> bytes:
        file = io.StringIO()
        csv.writer(file).writerows([self.header, *self.rows])
        return file.getvalue().encode()


@dataclass(frozen=True)
class Client:
    """Asks for the predictions of one model."""

    post: Post
    model: str
    params: dict[str, str] = field(default_factory=dict)

    def send(self, path: str, content: Any, **headers: str) -> tuple[Any, bytes]:
        data = content if isinstance(content, bytes) else orjson.dumps(content)
        sent = {"Content-Type": JSON} | {n.replace("_", "-"): v for n, v in headers.items()}
        return self.post(path, data, self.params, sent)

    def ask(self, path: str, content: Any, *, key: str = "predictions", **headers: str) -> Any:
        return orjson.loads(self.send(path, content, **headers)[1])[key]

    def predict(self, rows: list[Any]) -> Any:
        body = {"model_id": self.model, "input_data": rows}
        return self.ask("/api/v1/predictions/predict", body, key="data")["predictions"]

    def score(self, **body: Any) -> Any:
        return self.ask(f"/invocations/{self.model}", body)

    def serve(self, key: str, **body: Any) -> Any:
        return self.ask(f"/v1/models/{self.model}:predict", body, key=key)


def json_lists(client: Client, table: Table) -> Any:
    return client.predict(table.rows)


def json_objects(client: Client, table: Table) -> Any:
    return client.predict([dict(reversed(record.items())) for record in table.records])


def csv_in(client: Client, table: Table) -> Any:
    params = {"model_id": client.model, **client.params}
    kind = f"{CSV}; header=present"
    return Client(client.post, "", params).ask(
        "/api/v1/predictions/predict", table.csv, key="data", Content_Type=kind
    )["predictions"]


def csv_out(client: Client, table: Table) -> Any:
    """What is read back is text: to be compared with the text of what is expected."""
    body = {"model_id": client.model, "input_data": table.rows}
    _, answer = client.send("/api/v1/predictions/predict", body, Accept=CSV)
    _, *lines = csv.reader(io.StringIO(answer.decode(), newline=""), strict=True)
    return [line if len(line) > 1 else line[0] for line in lines]


def v2_json(client: Client, table: Table) -> Any:
    inputs = [
        {"name": name, "datatype": datatype, "shape": [len(rows), len(rows[0])], "data": rows}
        for name, datatype, rows in _tensors(table)
    ]
    answer = client.ask(f"/v2/models/{client.model}/infer", {"inputs": inputs}, key="outputs")
    return _in_rows(answer[0]["shape"], answer[0]["data"])


def v2_binary(client: Client, table: Table) -> Any:
    inputs, tails = [], []
    for name, datatype, rows in _tensors(table):
        tails.append(_raw(datatype, rows))
        about = {"name": name, "datatype": datatype, "shape": [len(rows), len(rows[0])]}
        inputs.append({**about, "parameters": {"binary_data_size": len(tails[-1])}})
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers, answer = client.send(
        f"/v2/models/{client.model}/infer",
        b"".join([head, *tails]),
        Content_Type="application/octet-stream",
        **{HEAD: str(len(head))},
    )
    length = int(headers[HEAD])
    (output,) = orjson.loads(answer[:length])["outputs"]
    return _in_rows(output["shape"], _values(output["datatype"], answer[length:]))


def mlflow_split(client: Client, table: Table) -> Any:
    return client.score(dataframe_split={"columns": table.header, "data": table.rows})


def mlflow_records(client: Client, table: Table) -> Any:
    return client.score(dataframe_records=table.records)


def mlflow_instances(client: Client, table: Table) -> Any:
    return client.score(instances=table.rows)


def mlflow_inputs(client: Client, table: Table) -> Any:
    return client.score(inputs=table.columns)


def mlflow_csv(client: Client, table: Table) -> Any:
    return client.ask(f"/invocations/{client.model}", table.csv, Content_Type=CSV)


def serving_instances(client: Client, table: Table) -> Any:
    return client.serve("predictions", instances=table.records if table.names else table.rows)


def serving_inputs(client: Client, table: Table) -> Any:
    return client.serve("outputs", inputs=table.columns)


FORMATS: tuple[Callable[[Client, Table], Any], ...] = (
    json_lists,
    json_objects,
    csv_in,
    csv_out,
    v2_json,
    v2_binary,
    mlflow_split,
    mlflow_records,
    mlflow_instances,
    mlflow_inputs,
    mlflow_csv,
    serving_instances,
    serving_inputs,
)


def _tensors(table: Table) -> list[tuple[str, str, list[list[Any]]]]:
    if table.numeric:
        return [("input", "FP64", table.rows)]
    # The name of the only column does not matter, and a model of texts has none.
    return [
        (name, _datatype(column), [[value] for value in column])
        for name, column in table.columns.items()
    ]


def _datatype(column: list[Any]) -> str:
    return "BYTES" if any(isinstance(value, str) for value in column) else "FP64"


def _raw(datatype: str, rows: list[list[Any]]) -> bytes:
    if datatype == "FP64":
        return np.array(rows, "<f8").tobytes()
    texts = [value.encode() for (value,) in rows]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return np.frombuffer(raw, {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}[datatype]).tolist()
    texts = []
    while raw:
        end = 4 + struct.unpack_from("<I", raw)[0]
        texts.append(raw[4:end].decode())
        raw = raw[end:]
    return texts


def _in_rows(shape: list[int], values: list[Any]) -> list[Any]:
    rows, width = shape
    if width == 1:
        return values
    return [values[start : start + width] for start in range(0, rows * width, width)]
