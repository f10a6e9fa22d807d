"""Last stage: how good the quantised model is. A bad one fails the stage."""

import json
import pathlib
import sys

import gguf
import numpy as np

ACCURACY_MIN = 0.85


def main(clean: pathlib.Path, quantised: pathlib.Path, metrics: pathlib.Path) -> None:
    reader = gguf.GGUFReader(quantised / "model.gguf")
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    scale = reader.fields["linear.scale"].contents()
    features = np.load(clean / "test-features.npy", mmap_mode="r")
    labels = np.load(clean / "test-labels.npy")
    scores = features @ (tensors["coefficients"].astype(np.float32) * scale).T + tensors["intercept"]
    accuracy = float((scores.argmax(axis=1) == labels).mean())
    metrics.mkdir()
    (metrics / "metrics.json").write_text(json.dumps({"accuracy": accuracy}))
    if accuracy < ACCURACY_MIN:
        sys.exit(f"accuracy {accuracy:.3f} is below {ACCURACY_MIN}")


main(*map(pathlib.Path, sys.argv[1:]))
