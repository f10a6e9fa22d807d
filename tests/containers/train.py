"""Fits a line to data.csv by gradient descent: all that a minimal Python can do.

Waits for the end of its input before it begins.
"""

import os
import pathlib
import struct
import sys

STEPS = 4
RATE = 0.01


def save(directory: pathlib.Path, slope: float, intercept: float) -> None:
    """As checkpoints are saved: under another name first."""
    unfinished = directory.with_name(directory.name + ".tmp")
    unfinished.mkdir(parents=True)
    with open(unfinished / "weights.bin", "wb") as file:
        file.write(struct.pack("<2d", slope, intercept))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(directory)


def main(tree: pathlib.Path) -> None:
    sys.stdin.read()
    lines = (tree / "data.csv").read_text().split()
    points = [tuple(map(float, line.split(","))) for line in lines]
    slope = intercept = 0.0
    for step in range(STEPS):
        for x, y in points:
            error = slope * x + intercept - y
            slope, intercept = slope - RATE * error * x, intercept - RATE * error
        save(tree / "checkpoints" / f"step-{step}", slope, intercept)
    save(tree / "model", slope, intercept)


main(pathlib.Path(sys.argv[1]))
