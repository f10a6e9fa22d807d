"""Does what stages do, in each directory that it is told, and goes on when something fails.

It enters the directory, says so by an empty line, and waits for another one. Then it answers with a line of JSON: of each
step its name, the names that it concerns, and the error that it was told.
"""

import ctypes
import errno
import json
import mmap
import os
import sys

MIB = 1 << 20
PIECE = 128 << 10
KEEP_SIZE_AND_PUNCH = 3
libc = ctypes.CDLL(None, use_errno=True)
steps = []


def step(*names):
    """What follows concerns the files or directories of these names."""

    def enter(deed):
        steps.append((deed, names))
        return deed

    return enter


def pattern(length, seed):
    return bytes((seed + word * 31) & 255 for word in range(257)) * (length // 257 + 1)


def content(length, seed):
    return pattern(length, seed)[:length]


def with_file(name, flags, deed):
    """A failure to close it is one like others."""
    file = os.open(name, flags, 0o644)
    try:
        return deed(file)
    finally:
        os.close(file)


def write_all(file, data, piece=PIECE):
    for start in range(0, len(data), piece):
        view = data[start : start + piece]
        while view:
            view = view[os.write(file, view) :]


def write_at(file, data, offset):
    view = data
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def make(name, data, flags=os.O_WRONLY):
    with_file(name, flags | os.O_CREAT | os.O_TRUNC, lambda file: write_all(file, data))


def read_all(name):
    def read(file):
        pieces = []
        while piece := os.read(file, PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    return with_file(name, os.O_RDONLY, read)


def expect(is_so, what):
    if not is_so:
        raise AssertionError(what)


def in_a_child(deed):
    """A store in a mapping that fails is told by a signal."""
    child = os.fork()
    if child == 0:
        try:
            deed()
        except OSError as error:
            os._exit(error.errno)
        except BaseException:
            os._exit(255)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise OSError(errno.EFAULT, "a signal")
    code = os.WEXITSTATUS(status)
    expect(code != 255, "the child failed")
    if code:
        raise OSError(code, os.strerror(code))


@step("data")
def read_what_is_there():
    expect(read_all("data") == content(300_000, 1), "other bytes than are there")


@step("small")
def write_a_little():
    make("small", content(300, 2))


@step("large")
def write_much_and_sync():
    def write(file):
        write_all(file, content(6 * PIECE + 11, 3))
        os.fsync(file)

    with_file("large", os.O_WRONLY | os.O_CREAT, write)


@step("closed")
def write_much_and_close():
    make("closed", content(8 * PIECE, 4), os.O_RDWR)


@step("changed")
def overwrite_and_truncate():
    def change(file):
        write_at(file, content(5000, 5), 70_000)
        os.ftruncate(file, 150_000)
        write_at(file, content(PIECE, 6), 200_000)

    with_file("changed", os.O_RDWR, change)


@step("changed")
def truncate_by_name():
    os.truncate("changed", 250_000)


@step("allocated")
def allocate_and_punch():
    def allocate(file):
        os.posix_fallocate(file, 0, 100_000)
        write_at(file, content(9000, 7), 50_000)
        arguments = [KEEP_SIZE_AND_PUNCH, ctypes.c_long(52_000), ctypes.c_long(3000)]
        if libc.fallocate(file, *arguments) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")

    with_file("allocated", os.O_RDWR | os.O_CREAT, allocate)


@step("mapped")
def store_in_a_mapping():
    def store(file):
        os.ftruncate(file, 200_000)
        with mmap.mmap(file, 200_000) as mapping:
            mapping[5000:25_000] = content(20_000, 8)
            mapping.flush()

    in_a_child(lambda: with_file("mapped", os.O_RDWR | os.O_CREAT, store))


@step("old", "new")
def rename_over():
    make("new", content(5000, 9))
    os.replace("new", "old")


@step("small", "linked")
def link_and_append():
    os.link("small", "linked")
    appends = os.O_WRONLY | os.O_APPEND
    with_file("linked", appends, lambda file: write_all(file, content(100, 10)))


@step("gone")
def unlink():
    make("gone", content(1000, 11))
    os.unlink("gone")


@step("unlinked")
def write_what_is_unlinked():
    def write(file):
        os.unlink("unlinked")
        write_all(file, content(PIECE, 12))
        expect(os.pread(file, 100, 0) == content(100, 12), "other bytes than were written")

    with_file("unlinked", os.O_RDWR | os.O_CREAT, write)


@step("copied")
def copy():
    def copy_from(source):
        def copy_to(target):
            left = 300_000
            while left:
                left -= os.copy_file_range(source, target, left)

        with_file("copied", os.O_WRONLY | os.O_CREAT, copy_to)

    with_file("data", os.O_RDONLY, copy_from)


@step("closed")
def keep_an_attribute():
    os.setxattr("closed", "user.note", b"kept")
    expect(os.getxattr("closed", "user.note") == b"kept", "another attribute")
    os.setxattr("closed", "user.other", b"lost")
    os.removexattr("closed", "user.other")


@step("directory", "moved")
def make_a_directory():
    os.mkdir("directory")
    make("directory/below", content(700, 13))
    os.rename("directory", "moved")
    os.mkdir("directory")
    os.rmdir("directory")


@step("one", "other", "third")
def exchange_by_three_renames():
    make("one", content(400, 14))
    make("other", content(500, 15))
    os.rename("one", "third")
    os.rename("other", "one")
    os.rename("third", "other")


@step("symbolic")
def make_a_link():
    os.symlink("data", "symbolic")
    expect(os.readlink("symbolic") == "data", "another target")


@step("large")
def change_what_is_said_of_it():
    os.chmod("large", 0o640)
    os.utime("large", (1, 2))


@step("again")
def write_twice():
    make("again", content(3000, 16))
    make("again", content(2 * PIECE, 17))
    expect(read_all("again") == content(2 * PIECE, 17), "other bytes than were written")


@step("synced")
def write_synchronously():
    make("synced", content(2 * PIECE, 18), os.O_WRONLY | os.O_DSYNC)


def carry_out(deed, names, doubtful):
    try:
        deed()
        error = None
    except OSError as failure:
        # The first one counts, not what closing told as well.
        while isinstance(failure.__context__, OSError):
            failure = failure.__context__
        error = errno.errorcode[failure.errno]
    except AssertionError as wrong:
        # Nobody knows what is in it any more.
        error = None if doubtful.intersection(names) else f"wrong: {wrong}"
    return {"step": deed.__name__, "names": names, "error": error}


def carry_out_all():
    told, doubtful = [], set()
    for deed, names in steps:
        outcome = carry_out(deed, names, doubtful)
        if outcome["error"]:
            doubtful.update(names)
        told.append(outcome)
    return told


if __name__ == "__main__":
    for directory in sys.stdin:
        os.chdir(directory.rstrip("\n"))
        print(flush=True)
        # Until it may begin.
        sys.stdin.readline()
        told = carry_out_all()
        os.chdir("/")
        print(json.dumps(told), flush=True)
