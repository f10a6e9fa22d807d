"""Writes one file format of machine learning and reads it back through the same path.

    formats.py NAME DIRECTORY
"""

import pathlib
import sys

import numpy as np

TENSOR = np.random.default_rng(1).random((257, 1031), dtype=np.float32)


def npy(directory: pathlib.Path) -> np.ndarray:
    np.save(directory / "tensor.npy", TENSOR)
    return np.load(directory / "tensor.npy", mmap_mode="r")


def npz(directory: pathlib.Path) -> np.ndarray:
    np.savez(directory / "tensor.npz", first=TENSOR, second=TENSOR[:3])
    np.savez_compressed(directory / "packed.npz", TENSOR)
    return np.load(directory / "tensor.npz")["first"]


def memmap(directory: pathlib.Path) -> np.ndarray:
    """Grows by one byte past the end, writes through memory and again after a flush."""
    path = directory / "tensor.bin"
    mapped = np.memmap(path, dtype=np.float32, mode="w+", shape=TENSOR.shape)
    mapped[:] = 0
    mapped.flush()
    mapped[:] = TENSOR
    del mapped
    return np.memmap(path, dtype=np.float32, mode="r", shape=TENSOR.shape)


def safetensors(directory: pathlib.Path) -> np.ndarray:
    from safetensors.numpy import load_file, save_file

    save_file({"tensor": TENSOR, "empty": TENSOR[:0]}, directory / "tensor.safetensors")
    return load_file(directory / "tensor.safetensors")["tensor"]


def h5py(directory: pathlib.Path) -> np.ndarray:
    """Written in two sessions: the second one changes chunks and the superblock in place."""
    import h5py

    path = directory / "tensor.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("tensor", shape=TENSOR.shape, dtype=np.float32, chunks=(64, 64))
    with h5py.File(path, "r+") as file:
        file["tensor"][:] = TENSOR
        file.create_dataset("more", data=TENSOR[:5], compression="gzip")
    with h5py.File(path, "r") as file:
        return file["tensor"][:]


def gguf(directory: pathlib.Path) -> np.ndarray:
    import gguf

    path = directory / "tensor.gguf"
    writer = gguf.GGUFWriter(path, "test")
    writer.add_string("test.name", "through a mount")
    writer.add_tensor("tensor", TENSOR)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.GGUFReader(path).tensors[0].data


def main(name: str, directory: str) -> None:
    formats = {write.__name__: write for write in (npy, npz, memmap, safetensors, h5py, gguf)}
    read = formats[name](pathlib.Path(directory))
    np.testing.assert_array_equal(read, TENSOR)


main(*sys.argv[1:])
