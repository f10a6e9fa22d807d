"""Writes files until it is stopped or killed, and says elsewhere what it was told is done.

A line says what holds from then on; before each deed one says of which file nothing is known until it is done.
"""

import hashlib
import os
import random
import sys

DIRECTORY, TOLD, STOP, SEED = sys.argv[1:]
NAMES = [f"part-{number}" for number in range(6)]
told = os.open(TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
contents = {}


def tell(*words):
    os.write(told, ("\t".join(map(str, words)) + "\n").encode())


def path(name):
    return os.path.join(DIRECTORY, name)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def write(name, flags, before):
    length = random.choice([0, 1, 300, 70_000, 70_000, 300_000, 3_000_000])
    added = random.randbytes(length)
    piece = random.choice([4096, 65_536, 1 << 20])
    tell("touched", name)
    file = os.open(path(name), flags | os.O_CREAT, 0o644)
    for start in range(0, length, piece):
        view = added[start : start + piece]
        while view:
            view = view[os.write(file, view) :]
        if random.random() < 0.1:
            os.fsync(file)
            stored = before + added[: start + piece]
            tell("synced", name, len(stored), digest(stored))
    os.close(file)
    contents[name] = before + added
    tell("closed", name, digest(contents[name]))


def make(name):
    write(name, random.choice([os.O_WRONLY, os.O_RDWR]) | os.O_TRUNC, b"")


def append(name):
    write(name, os.O_WRONLY | os.O_APPEND, contents[name])


def move(name):
    to = random.choice(NAMES)
    if to != name:
        tell("touched", name)
        tell("touched", to)
        os.replace(path(name), path(to))
        contents[to] = contents.pop(name)
        tell("gone", name)
        tell("closed", to, digest(contents[to]))


def remove(name):
    tell("touched", name)
    os.unlink(path(name))
    del contents[name]
    tell("gone", name)


with open(os.path.join(os.path.dirname(DIRECTORY), "data.csv"), "rb") as data:
    random.seed(SEED + digest(data.read()))
os.makedirs(DIRECTORY, exist_ok=True)
tell("begun")
while not os.path.exists(STOP):
    name = random.choice(NAMES)
    if name not in contents:
        make(name)
    else:
        random.choice([make, make, append, move, remove])(name)
