"""Third stage: weights to eight bits, as arrays and as GGUF."""

import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file


def main(model: pathlib.Path, quantised: pathlib.Path) -> None:
    tensors = load_file(model / "model.safetensors")
    quantised.mkdir()
    scale = np.abs(tensors["coefficients"]).max() / 127
    small = np.round(tensors["coefficients"] / scale).astype(np.int8)
    np.savez_compressed(quantised / "int8.npz", coefficients=small, scale=scale)
    writer = gguf.GGUFWriter(quantised / "model.gguf", "linear")
    writer.add_float32("linear.scale", float(scale))
    writer.add_tensor("coefficients", small)
    writer.add_tensor("intercept", tensors["intercept"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(*map(pathlib.Path, sys.argv[1:]))
