"""One stage: changes the files of a directory in every way that leaves them whole, and says elsewhere what it does.

Before each deed a line says which files it touches; in the end one says of each file what it holds.
"""

import hashlib
import mmap
import os
import random
import sys

DIRECTORY, NAME, TOLD, SEED = sys.argv[1:]
FILES = [f"part-{number}" for number in range(5)] + ["shard/part-5", "shard/part-6"]
told = os.open(TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def tell(*words):
    os.write(told, ("\t".join(words) + "\n").encode())


def path(name):
    return os.path.join(DIRECTORY, name)


def present():
    return [name for name in FILES if os.path.exists(path(name))]


def touch(name):
    """Says of all names of the file that they are touched."""
    tell("touched", f"{NAME}/{name}")
    if os.path.exists(path(name)):
        inode = os.stat(path(name)).st_ino
        for other in present():
            if os.stat(path(other)).st_ino == inode:
                tell("touched", f"{NAME}/{other}")


def content(name):
    with open(path(name), "rb") as file:
        return file.read()


def settle(file, name):
    if random.random() < 0.2:
        os.fsync(file)
        stored = os.pread(file, 1 << 26, 0)
        tell("synced", f"{NAME}/{name}", hashlib.sha256(stored).hexdigest())
    os.close(file)


def length():
    return random.choice([1, 300, 5000, 70_000, 300_000, 3_000_000])


def put(file, data, at=0):
    piece = random.choice([4096, 65_536, 1 << 20])
    for start in range(0, len(data), piece):
        os.pwrite(file, data[start : start + piece], at + start)


def make(name):
    file = os.open(path(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    put(file, random.randbytes(length()))
    settle(file, name)


def write_only(name):
    file = os.open(path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    put(file, random.randbytes(length()))
    os.close(file)


def give_room_first(name):
    """As for an array that is mapped: the length is there before the bytes are."""
    size = length()
    file = os.open(path(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    os.ftruncate(file, size)
    if random.random() < 0.5:
        with mmap.mmap(file, size) as view:
            view[:] = random.randbytes(size)
    else:
        put(file, random.randbytes(size))
    settle(file, name)


def write_over(name):
    """In place: neither length nor room change."""
    size = os.path.getsize(path(name))
    if not size:
        # As a cut may leave it.
        return make(name)
    file = os.open(path(name), os.O_RDWR)
    at = random.randrange(size)
    put(file, random.randbytes(size - at), at)
    settle(file, name)


def append(name):
    file = os.open(path(name), os.O_RDWR | os.O_APPEND)
    os.write(file, random.randbytes(length()))
    settle(file, name)


def replace(name):
    new = f"{path(name)}.new"
    with open(new, "wb") as file:
        file.write(random.randbytes(length()))
    os.replace(new, path(name))


def move(name):
    other = random.choice(FILES)
    touch(other)
    os.replace(path(name), path(other))


def link(name):
    other = random.choice([other for other in FILES if other != name])
    touch(other)
    if os.path.exists(path(other)):
        os.unlink(path(other))
    os.link(path(name), path(other))


def remove(name):
    os.unlink(path(name))


random.seed(SEED)
os.makedirs(path("shard"), exist_ok=True)
for name in FILES:
    # A stage that was cut off has left it.
    if os.path.exists(path(f"{name}.new")):
        os.unlink(path(f"{name}.new"))
for _ in range(random.randrange(1, 12)):
    name = random.choice(FILES)
    touch(name)
    deeds = [make, write_only, give_room_first]
    if os.path.exists(path(name)):
        deeds = [make, write_only, give_room_first, write_over, write_over, append, replace, move, link, remove]
    random.choice(deeds)(name)
# Who wrote nothing publishes nothing.
touch("shard/part-6")
make("shard/part-6")
for name in present():
    tell("holds", f"{NAME}/{name}", hashlib.sha256(content(name)).hexdigest())
