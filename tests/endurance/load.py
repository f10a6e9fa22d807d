"""Uses a mount in many ways at once until it is told to stop, checks what it reads, and says how often it did what.

    load.py DIRECTORY STOP SEED

Each process has one habit. The number of files stays within bounds, so that whatever serves them has no reason to grow.
A file says in its first bytes which ones follow: whoever opens it sees one content, whoever replaces it meanwhile.
"""

import collections
import hashlib
import mmap
import os
import pathlib
import random
import shutil
import sys
import time

DIRECTORY, STOP = map(pathlib.Path, sys.argv[1:3])
FREE = DIRECTORY / "free"
SIZES = [0, 1, 300, 5000, 70_000, 70_000, 300_000, 1_500_000]
done = collections.Counter()


def content() -> bytes:
    body = random.randbytes(random.choice(SIZES))
    return hashlib.sha256(body).digest() + body


def check(found: bytes, path: pathlib.Path) -> None:
    assert hashlib.sha256(found[32:]).digest() == found[:32], f"{path} has {len(found)} wrong bytes"


def some(kind: str, count: int = 40) -> pathlib.Path:
    return FREE / f"{kind}-{random.randrange(count)}"


def write() -> None:
    """In pieces, with what comes first written last; then in place of what was there."""
    aside, new = FREE / "aside", content()
    with open(aside, "wb", buffering=0) as file:
        file.write(bytes(32))
        piece = random.choice([4096, 65_536, 1 << 20])
        for start in range(32, len(new), piece):
            file.write(new[start : start + piece])
        os.pwrite(file.fileno(), new[:32], 0)
        if random.random() < 0.05:
            os.fsync(file.fileno())
    os.rename(aside, some("file"))


def append() -> None:
    log = FREE / "log"
    with open(log, "ab") as file:
        file.write(b"a line of a log\n" * random.randrange(1, 2000))
    if log.stat().st_size > 4 << 20:
        os.truncate(log, 0)


def read() -> None:
    try:
        path = some("file")
        with open(path, "rb") as file:
            check(file.read(), path)
    except FileNotFoundError:
        done["missing"] += 1


def map_memory() -> None:
    """In a file that is made and not emptied: what a mapping of such a one may lose stands in fs/DESIGN.md."""
    aside, path, new = FREE / "unmapped", FREE / "mapped", content()
    with open(aside, "x+b") as file:
        file.truncate(len(new))
        with mmap.mmap(file.fileno(), len(new)) as mapped:
            mapped[:] = new
            if random.random() < 0.5:
                mapped.flush()
    os.rename(aside, path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        check(mapped[:], path)


def link() -> None:
    """Names come and go: of files, of links to them, and of directories."""
    target, name = some("file"), some("name")
    try:
        name.unlink(missing_ok=True)
        random.choice([os.link, os.symlink])(target, name)
        os.setxattr(name, "user.note", b"x" * random.randrange(200))
        os.rename(name, some("name"))
        os.chmod(target, random.choice([0o600, 0o644]))
    except FileNotFoundError:
        done["missing"] += 1


def crowd() -> None:
    """A directory of small files, which moves and goes."""
    directory, moved = FREE / "crowd", FREE / "moved"
    directory.mkdir()
    for number in range(100):
        (directory / str(number)).write_bytes(b"x" * number)
    directory.rename(moved)
    assert len(list(moved.iterdir())) == 100
    shutil.rmtree(moved)


unlinked = collections.deque()


def unlink() -> None:
    """What is open lives on without a name."""
    path, new = FREE / "unlinked", content()
    file = open(path, "w+b", buffering=0)
    path.unlink()
    file.write(new)
    unlinked.append((file, new))
    if len(unlinked) > 20:
        file, new = unlinked.popleft()
        assert os.pread(file.fileno(), len(new) + 1, 0) == new
        file.close()


def walk() -> None:
    for directory, _, names in os.walk(DIRECTORY):
        for name in names:
            try:
                os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                done["missing"] += 1
    done["attestations"] += len(os.listdir(DIRECTORY / ".attestfs/attestations")[:1])


def judge() -> None:
    """What the gate lets through is what somebody wrote; the rest is refused."""
    for name in ("model/weights.bin", "stray.bin"):
        try:
            path = DIRECTORY / name
            with open(path, "rb") as file:
                check(file.read(), path)
            done["admitted"] += 1
        except PermissionError:
            done["refused"] += 1
        except FileNotFoundError:
            done["missing"] += 1
    time.sleep(0.01)


HABITS = [write, append, read, map_memory, link, crowd, unlink, walk, judge]


def follow(habit, seed: int) -> None:
    random.seed(seed)
    parent = os.getppid()
    while not STOP.exists() and os.getppid() == parent:
        habit()
        done[habit.__name__] += 1
    print(habit.__name__, dict(done), flush=True)


FREE.mkdir()
children = []
for number, habit in enumerate(HABITS):
    child = os.fork()
    if child == 0:
        follow(habit, int(sys.argv[3]) + number)
        os._exit(0)
    children.append(child)
failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
sys.exit(f"{len(failed)} of {len(children)} failed" if failed else 0)
