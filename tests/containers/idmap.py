"""Bind-mounts SOURCE at TARGET with mapped ids: 0 of SOURCE is FIRST of whoever looks at TARGET.

This is what Kubernetes does for a pod with a user namespace of its own; mount(8) of Debian 12 cannot.
"""

import ctypes
import os
import subprocess
import sys

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 4, 0x100000


class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def call(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"system call {number}")
    return result


def user_namespace(first: int) -> int:
    pipe = subprocess.PIPE
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=pipe, stdout=pipe) as process:
        process.stdin.write(b"there?")
        process.stdin.flush()
        process.stdout.read(1)
        for ids in ("uid_map", "gid_map"):
            with open(f"/proc/{process.pid}/{ids}", "w") as file:
                file.write(f"0 {first} 65536")
        return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY)


def main(source: str, target: str, first: str) -> None:
    tree = call(OPEN_TREE, AT_FDCWD, source.encode(), OPEN_TREE_CLONE)
    mapped = Attributes(MOUNT_ATTR_IDMAP, 0, 0, user_namespace(int(first)))
    size = ctypes.sizeof(mapped)
    call(MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(mapped), size)
    call(MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)


main(*sys.argv[1:])
