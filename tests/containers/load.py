"""Loads each file below a directory, and says for each in one line how that went."""

import os
import pathlib
import sys

for path in sorted(pathlib.Path(sys.argv[1]).rglob("*")):
    if path.is_dir():
        continue
    try:
        print(path, "loaded", path.read_bytes().decode().partition("\n")[0])
    except PermissionError:
        verdict = " ".join(os.getxattr(path, "user.attestfs.verdict").decode().split())
        print(path, verdict, "of", path.stat().st_size, "bytes")
