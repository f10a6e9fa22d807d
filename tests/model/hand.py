"""A process that does to files what it is told, one line of JSON each, and answers what came of it.

    hand.py POOL DIRECTORY..

A line is a directory, the name of a method of `Tree` and its arguments. What is written are pieces of POOL.
What is open stays open until it is told otherwise, or this process ends.
"""

import ctypes
import hashlib
import json
import os
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
LIBC.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

MAP_FAILED = ctypes.c_void_p(-1).value
END_BYTES = 4096
PROT_READ, PROT_WRITE, MAP_SHARED, MS_SYNC, AT_FDCWD = 1, 2, 1, 4, -100


class Tree:
    """A directory, and what this process has open and mapped below it."""

    def __init__(self, root):
        self.root, self.files, self.mappings = root, {}, {}

    def at(self, name):
        return os.path.join(self.root, name)

    def open(self, slot, name, flags):
        file = os.open(self.at(name), flags | os.O_CLOEXEC, 0o666)
        if stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            return "directory"
        self.files[slot] = file

    def close(self, slot):
        os.close(self.files.pop(slot))

    def read(self, slot, offset, length):
        return content(os.pread(self.files[slot], length, offset))

    def write(self, slot, offset, start, length):
        return os.pwrite(self.files[slot], POOL[start : start + length], offset), self.seen(slot)

    def write_on(self, slot, start, length, times):
        piece = POOL[start : start + length]
        return sum(os.write(self.files[slot], piece) for _ in range(times)), self.seen(slot)

    def seen(self, slot):
        """What is there at once: the size and, where it can be read, the end."""
        size = os.fstat(self.files[slot]).st_size
        try:
            return size, content(os.pread(self.files[slot], END_BYTES, max(size - END_BYTES, 0)))
        except OSError:
            return size, None

    def truncate(self, slot, length):
        os.ftruncate(self.files[slot], length)

    def allocate(self, slot, mode, offset, length):
        check(LIBC.fallocate(self.files[slot], mode, offset, length))

    def copy(self, slot, offset, target, target_offset, length):
        return os.copy_file_range(self.files[slot], self.files[target], length, offset, target_offset)

    def sync(self, slot, data_only):
        (os.fdatasync if data_only else os.fsync)(self.files[slot])

    def stat_open(self, slot):
        return attributes(os.fstat(self.files[slot]))

    def map(self, mapping, slot, length, writable):
        # Not by the module of that name, whose mappings keep a descriptor.
        protection = PROT_READ | (PROT_WRITE if writable else 0)
        address = LIBC.mmap(None, length, protection, MAP_SHARED, self.files[slot], 0)
        check(-1 if address == MAP_FAILED else 0)
        self.mappings[mapping] = address, length

    def store(self, mapping, offset, start, length):
        address, _ = self.mappings[mapping]
        ctypes.memmove(address + offset, POOL[start : start + length], length)

    def load(self, mapping, offset, length):
        address, _ = self.mappings[mapping]
        return content(ctypes.string_at(address + offset, length))

    def sync_mapping(self, mapping):
        check(LIBC.msync(*self.mappings[mapping], MS_SYNC))

    def unmap(self, mapping):
        check(LIBC.munmap(*self.mappings.pop(mapping)))

    def truncate_name(self, name, length):
        os.truncate(self.at(name), length)

    def rename(self, source, target, flags):
        source, target = (os.fsencode(self.at(name)) for name in (source, target))
        check(LIBC.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))

    def link(self, source, target):
        os.link(self.at(source), self.at(target), follow_symlinks=False)

    def unlink(self, name):
        os.unlink(self.at(name))

    def make_directory(self, name):
        os.mkdir(self.at(name))

    def remove_directory(self, name):
        os.rmdir(self.at(name))

    def symlink(self, target, name):
        os.symlink(target, self.at(name))

    def read_link(self, name):
        return os.readlink(self.at(name))

    def change_mode(self, name, mode):
        os.chmod(self.at(name), mode)

    def set_time(self, name, seconds):
        os.utime(self.at(name), (seconds, seconds))

    def stat(self, name, follow):
        return attributes(os.stat(self.at(name), follow_symlinks=follow))

    def list(self, name):
        return sorted(os.listdir(self.at(name)))

    def look_on(self):
        """Looks at everything again and again, as long as there is somebody who wants that."""
        parent = os.getppid()
        while os.getppid() == parent:
            for directory, _, names in os.walk(self.root):
                for name in names:
                    look_at(os.path.join(directory, name))


def look_at(path):
    try:
        os.stat(path)
        with open(path, "rb", buffering=0) as file:
            file.read(1 << 16)
    except OSError:
        pass  # It has just gone.


def attributes(found):
    shown = {"mode": stat.S_IMODE(found.st_mode)}
    if stat.S_ISDIR(found.st_mode):
        return shown | {"kind": "directory"}
    shown |= {"size": found.st_size, "links": found.st_nlink}
    if stat.S_ISLNK(found.st_mode):
        return shown | {"kind": "link"}
    return shown | {"kind": "file", "modified": found.st_mtime_ns}


def content(read):
    return [len(read), hashlib.sha256(read).hexdigest()]


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "libc")


def answer(root, deed, arguments):
    try:
        return {"done": getattr(TREES[root], deed)(*arguments)}
    except OSError as error:
        return {"errno": error.errno}


with open(sys.argv[1], "rb") as file:
    POOL = file.read()
TREES = {root: Tree(root) for root in sys.argv[2:]}
os.umask(0o027)
for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
