"""Packs the installed `pip` into a wheel again: several hundred files, and no network."""

import importlib.metadata
import pathlib
import sys
import zipfile


def main(directory: pathlib.Path) -> None:
    distribution = importlib.metadata.distribution("pip")
    name = f"pip-{distribution.version}"
    files = [
        file
        for file in distribution.files
        if file.suffix != ".pyc" and file.parts[0] != ".." and file.name != "RECORD"
    ]
    record = f"{name}.dist-info/RECORD"
    with zipfile.ZipFile(directory / f"{name}-py3-none-any.whl", "w") as wheel:
        for file in files:
            wheel.write(file.locate(), str(file))
        wheel.writestr(record, "".join(f"{file},,\n" for file in [*files, record]))


main(pathlib.Path(sys.argv[1]))
