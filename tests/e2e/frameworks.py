"""Has a framework write what it trains on or with, or read back what another process has written.

    frameworks.py write|read NAME DIRECTORY
"""

import os
import pathlib
import sys

import numpy as np

TENSOR = np.random.default_rng(1).random((257, 1031), dtype=np.float32)


class Orbax:
    """Checkpoints of jax, in directories that are renamed when they are whole, and removed when there are newer ones."""

    STEPS = range(4)

    def write(directory: pathlib.Path) -> None:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True)
        with ocp.CheckpointManager(directory.resolve() / "steps", options=options) as manager:
            for step in Orbax.STEPS:
                manager.save(step, args=ocp.args.StandardSave(Orbax.tree(step)))

    def read(directory: pathlib.Path) -> None:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(read_only=True)
        with ocp.CheckpointManager(directory.resolve() / "steps", options=options) as manager:
            assert list(manager.all_steps()) == list(Orbax.STEPS)[-2:], manager.all_steps()
            for step in manager.all_steps():
                tree = Orbax.tree(step)
                restored = manager.restore(step, args=ocp.args.StandardRestore(tree))
                assert restored["step"] == step
                np.testing.assert_array_equal(restored["weights"], tree["weights"])

    def tree(step: int) -> dict[str, object]:
        import jax.numpy as jnp

        return {"weights": jnp.asarray(TENSOR) + step, "step": jnp.asarray(step)}


class Datasets:
    """Tables that several processes make at once, each in files of its own, by way of a cache."""

    ROWS, PROCESSES = 5000, 4

    def write(directory: pathlib.Path) -> None:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(directory.resolve() / "cache")}
        import datasets

        rows = datasets.Dataset.from_generator(Datasets.rows)
        squares = rows.map(Datasets.square, num_proc=Datasets.PROCESSES)
        kept = squares.filter(Datasets.is_even, num_proc=Datasets.PROCESSES)
        kept.save_to_disk(directory / "saved", num_proc=Datasets.PROCESSES)

    def read(directory: pathlib.Path) -> None:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
        import datasets

        saved = datasets.load_from_disk(str(directory / "saved"))
        numbers = list(range(0, Datasets.ROWS, 2))
        assert saved["number"][:] == numbers
        assert saved["square"][:] == [number**2 for number in numbers]

    def rows():
        for number in range(Datasets.ROWS):
            yield {"number": number, "text": f"row {number} " * 20}

    def square(row: dict) -> dict:
        return {"square": row["number"] ** 2}

    def is_even(row: dict) -> bool:
        return row["number"] % 2 == 0


class Torch:
    """Archives of today and of before, the second one replaced while it is there."""

    def write(directory: pathlib.Path) -> None:
        import torch

        state = {"weights": torch.from_numpy(TENSOR), "step": 7}
        torch.save(state, directory / "model.pt")
        torch.save({}, directory / "old.pt", _use_new_zipfile_serialization=False)
        torch.save(state, directory / "old.pt", _use_new_zipfile_serialization=False)

    def read(directory: pathlib.Path) -> None:
        import torch

        for name in ("model.pt", "old.pt"):
            state = torch.load(directory / name)
            assert state["step"] == 7
            np.testing.assert_array_equal(state["weights"].numpy(), TENSOR)


FRAMEWORKS = {"orbax": Orbax, "datasets": Datasets, "torch": Torch}

if __name__ == "__main__":
    deed, name, directory = sys.argv[1:]
    getattr(FRAMEWORKS[name], deed)(pathlib.Path(directory))
