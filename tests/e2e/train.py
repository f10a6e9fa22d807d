"""Second stage: a linear classifier, with a checkpoint after each second epoch."""

import json
import pathlib
import sys

import h5py
import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import SGDClassifier

EPOCHS = 6


def weights(classifier: SGDClassifier) -> dict[str, np.ndarray]:
    return {
        "coefficients": classifier.coef_.astype(np.float32),
        "intercept": classifier.intercept_.astype(np.float32),
    }


def checkpoint(directory: pathlib.Path, epoch: int, classifier: SGDClassifier) -> None:
    unfinished = directory / f"epoch-{epoch}.tmp"
    unfinished.mkdir(parents=True)
    np.savez(unfinished / "weights.npz", **weights(classifier))
    (unfinished / "state.json").write_text(json.dumps({"epoch": epoch}))
    unfinished.rename(directory / f"epoch-{epoch}")


def main(clean: pathlib.Path, model: pathlib.Path, checkpoints: pathlib.Path) -> None:
    with np.load(clean / "train.npz") as train:
        features, labels = train["features"], train["labels"]
    classifier = SGDClassifier(loss="log_loss", random_state=7)
    for epoch in range(EPOCHS):
        classifier.partial_fit(features, labels, classes=np.arange(10))
        if epoch % 2:
            checkpoint(checkpoints, epoch, classifier)
    model.mkdir()
    save_file(weights(classifier), model / "model.safetensors")
    with h5py.File(model / "model.h5", "w") as file:
        for name, tensor in weights(classifier).items():
            file.create_dataset(name, data=tensor, chunks=True, compression="gzip")
    (model / "config.json").write_text(json.dumps({"classes": 10, "features": 64}))


main(*map(pathlib.Path, sys.argv[1:]))
