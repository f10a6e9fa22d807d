"""First stage: CSV files to arrays, without the broken lines."""

import pathlib
import sys

import numpy as np


def parsed(line: str) -> list[float] | None:
    try:
        return [float(field) for field in line.split(",")]
    except ValueError:
        return None


def main(raw: pathlib.Path, clean: pathlib.Path) -> None:
    rows = [parsed(line) for path in sorted(raw.glob("*.csv")) for line in open(path)]
    table = np.array([row for row in rows if row], dtype=np.float32)
    np.random.default_rng(7).shuffle(table)
    features, labels = table[:, :-1] / 16, table[:, -1].astype(np.int64)
    split = len(table) * 4 // 5
    clean.mkdir(exist_ok=True)
    np.savez(clean / "train.npz", features=features[:split], labels=labels[:split])
    np.save(clean / "test-features.npy", features[split:])
    np.save(clean / "test-labels.npy", labels[split:])


main(*map(pathlib.Path, sys.argv[1:]))
