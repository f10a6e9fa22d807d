"""Writes one file format of machine learning, or reads back what was written by another process.

    formats.py write|read NAME DIRECTORY
"""

import pathlib
import sys

import numpy as np

TENSOR = np.random.default_rng(1).random((257, 1031), dtype=np.float32)


class Npy:
    def write(directory: pathlib.Path) -> None:
        np.save(directory / "tensor.npy", TENSOR)

    def read(directory: pathlib.Path) -> np.ndarray:
        return np.load(directory / "tensor.npy", mmap_mode="r")


class Npz:
    def write(directory: pathlib.Path) -> None:
        np.savez(directory / "tensor.npz", first=TENSOR, second=TENSOR[:3])
        np.savez_compressed(directory / "packed.npz", TENSOR)

    def read(directory: pathlib.Path) -> np.ndarray:
        np.testing.assert_array_equal(np.load(directory / "packed.npz")["arr_0"], TENSOR)
        return np.load(directory / "tensor.npz")["first"]


class Memmap:
    """Grows by one byte past the end, is written through memory, and again after a flush."""

    def write(directory: pathlib.Path) -> None:
        path = directory / "tensor.bin"
        mapped = np.memmap(path, dtype=np.float32, mode="w+", shape=TENSOR.shape)
        mapped[:] = 0
        mapped.flush()
        mapped[:] = TENSOR

    def read(directory: pathlib.Path) -> np.ndarray:
        path = directory / "tensor.bin"
        return np.memmap(path, dtype=np.float32, mode="r", shape=TENSOR.shape)


class Safetensors:
    def write(directory: pathlib.Path) -> None:
        from safetensors.numpy import save_file

        save_file({"tensor": TENSOR, "empty": TENSOR[:0]}, directory / "tensor.safetensors")

    def read(directory: pathlib.Path) -> np.ndarray:
        from safetensors import safe_open
        from safetensors.numpy import load_file

        path = directory / "tensor.safetensors"
        with safe_open(path, framework="numpy") as mapped:
            np.testing.assert_array_equal(mapped.get_slice("tensor")[7:9], TENSOR[7:9])
        return load_file(path)["tensor"]


class H5py:
    """Written in two sessions: the second one changes chunks and the superblock in place."""

    def write(directory: pathlib.Path) -> None:
        import h5py

        path = directory / "tensor.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("tensor", shape=TENSOR.shape, dtype=np.float32, chunks=(64, 64))
        with h5py.File(path, "r+") as file:
            file["tensor"][:] = TENSOR
            file.create_dataset("more", data=TENSOR[:5], compression="gzip")

    def read(directory: pathlib.Path) -> np.ndarray:
        import h5py

        with h5py.File(directory / "tensor.h5", "r") as file:
            np.testing.assert_array_equal(file["more"][:], TENSOR[:5])
            return file["tensor"][:]


class Gguf:
    """Goes on writing after it was flushed."""

    def write(directory: pathlib.Path) -> None:
        import gguf

        writer = gguf.GGUFWriter(directory / "tensor.gguf", "test")
        writer.add_string("test.name", "through a mount")
        writer.add_tensor("tensor", TENSOR)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def read(directory: pathlib.Path) -> np.ndarray:
        import gguf

        return gguf.GGUFReader(directory / "tensor.gguf").tensors[0].data


class Zarr:
    """A file per chunk, each renamed into its place, changed once more; and many chunks in one file."""

    def write(directory: pathlib.Path) -> None:
        import zarr

        store = zarr.storage.LocalStore(directory / "tensors.zarr")
        root = zarr.create_group(store)
        chunked = root.create_array("chunked", shape=TENSOR.shape, chunks=(64, 256), dtype="f4")
        chunked[:] = 0
        chunked[:] = TENSOR
        options = {"chunks": (16, 128), "shards": (128, 512), "compressors": None}
        root.create_array("sharded", shape=TENSOR.shape, dtype="f4", **options)[:] = TENSOR
        root.attrs["written"] = True

    def read(directory: pathlib.Path) -> np.ndarray:
        import zarr

        root = zarr.open_group(directory / "tensors.zarr", mode="r")
        assert root.attrs["written"]
        np.testing.assert_array_equal(root["sharded"][100:200, 7], TENSOR[100:200, 7])
        return root["chunked"][:]


class Parquet:
    """One file of several row groups, and a data set in directories."""

    def table():
        import pyarrow

        rows = {"row": np.arange(len(TENSOR)), "part": np.arange(len(TENSOR)) % 3}
        rows["values"] = pyarrow.FixedSizeListArray.from_arrays(TENSOR.ravel(), TENSOR.shape[1])
        return pyarrow.table(rows)

    def write(directory: pathlib.Path) -> None:
        import pyarrow.parquet

        table = Parquet.table()
        with pyarrow.parquet.ParquetWriter(directory / "table.parquet", table.schema) as writer:
            for begin in range(0, len(table), 100):
                writer.write_table(table.slice(begin, 100))
        pyarrow.parquet.write_to_dataset(table, directory / "parts", partition_cols=["part"])

    def read(directory: pathlib.Path) -> np.ndarray:
        import pyarrow.parquet

        parts = pyarrow.parquet.read_table(directory / "parts").sort_by("row")
        assert parts["values"].to_pylist() == TENSOR.tolist()
        table = pyarrow.parquet.read_table(directory / "table.parquet", memory_map=True)
        values = table["values"].combine_chunks()
        return values.flatten().to_numpy().reshape(TENSOR.shape)


class Onnx:
    """Weights lie in a file of their own, to which each tensor is appended."""

    def write(directory: pathlib.Path) -> None:
        import onnx
        from onnx import helper

        shape, weights = [TENSOR.shape[1]], onnx.numpy_helper.from_array(TENSOR, "weights")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["weights", "x"], ["product"]),
             helper.make_node("Add", ["product", "bias"], ["y"])],
            "linear",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [TENSOR.shape[0]])],
            [weights, onnx.numpy_helper.from_array(TENSOR[:, 0].copy(), "bias")],
        )
        model = helper.make_model(graph)
        onnx.save(model, directory / "whole.onnx")
        aside = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 16}
        onnx.save(model, directory / "linear.onnx", **aside)

    def read(directory: pathlib.Path) -> np.ndarray:
        import onnx

        for name in ("whole", "linear"):
            onnx.checker.check_model(directory / f"{name}.onnx", full_check=True)
        model = onnx.load(directory / "linear.onnx")
        weights, bias = (onnx.numpy_helper.to_array(it) for it in model.graph.initializer)
        np.testing.assert_array_equal(bias, TENSOR[:, 0])
        return weights


class Webdataset:
    """Archives that are written one after the other, packed and not."""

    def write(directory: pathlib.Path) -> None:
        import webdataset

        with webdataset.ShardWriter(f"{directory}/%03d.tar", maxcount=100, verbose=0) as shards:
            for number, row in enumerate(TENSOR):
                shards.write({"__key__": f"{number:05}", "row.npy": row, "json": {"row": number}})
        with webdataset.TarWriter(f"{directory}/packed.tar.gz") as packed:
            packed.write({"__key__": "all", "npy": TENSOR})

    def read(directory: pathlib.Path) -> np.ndarray:
        import webdataset

        def samples(name: str):
            return webdataset.WebDataset(f"{directory}/{name}", shardshuffle=False).decode()

        (packed,) = samples("packed.tar.gz")
        np.testing.assert_array_equal(packed["npy"], TENSOR)
        rows = list(samples("{000..002}.tar"))
        assert [row["json"]["row"] for row in rows] == list(range(len(TENSOR)))
        return np.stack([row["row.npy"] for row in rows])


FORMATS = {
    "npy": Npy, "npz": Npz, "memmap": Memmap, "safetensors": Safetensors, "h5py": H5py, "gguf": Gguf,
    "zarr": Zarr, "parquet": Parquet, "onnx": Onnx, "webdataset": Webdataset,
}


def main(deed: str, name: str, directory: str) -> None:
    format = FORMATS[name]
    if deed == "write":
        format.write(pathlib.Path(directory))
    else:
        np.testing.assert_array_equal(format.read(pathlib.Path(directory)), TENSOR)


main(*sys.argv[1:])
