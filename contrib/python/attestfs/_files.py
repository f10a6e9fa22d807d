"""What a mount says of files: extended attributes, and the bundles that it shows."""

from __future__ import annotations

import base64
import errno
import hashlib
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from ._control import AttestfsError, PathLike

#: The largest bundle that is read, in bytes.
BUNDLE_BYTES_MAX = 64 << 20


class NotMounted(AttestfsError):
    """The file is not seen through an attestfs mount, so nobody can say anything of it here."""


@dataclass(frozen=True)
class Verdict:
    """Whether the mount's gate lets a guarded file be opened."""

    #: Whether it may be opened for reading.
    admitted: bool
    #: How it was verified (``stat``, ``rehash``, ``per-read``, ``verity``), or why it needed not be.
    level: str | None
    #: Why it may not.
    reason: str | None
    #: What to do about it.
    next_step: str | None

    def __bool__(self) -> bool:
        return self.admitted

    def __str__(self) -> str:
        if self.admitted:
            return f"admitted: {self.level}"
        return f"refused: {self.reason}" + (f"\nnext: {self.next_step}" if self.next_step else "")

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class Provenance:
    """Where a file comes from, as far as the mount knows it. Nothing here was verified by this module."""

    path: str
    #: ``open``, ``settling``, ``sealed``, ``published`` or ``unsealed``.
    state: str | None
    sha256: str | None
    blake3: str | None
    #: The stage, the run and the signer of its newest attestation.
    stage: str | None
    run: str | None
    signer: str | None
    #: The SHA-256 by which each attestation is named, newest first.
    attestations: tuple[str, ...]

    def statements(self) -> Iterator[dict[str, Any]]:
        """The in-toto statements of its attestations, newest first, as far as the caller may read them."""
        shown = os.path.join(_mount_point(self.path), ".attestfs", "attestations")
        for name in self.attestations:
            yield _statement(os.path.join(shown, f"{name}.sigstore.json"), name)

    def materials(self) -> dict[str, str | None]:
        """What the run of the newest attestation read: the URI of each file with its SHA-256, or ``None`` for one that
        was not hashed. Above 1000 files it is one manifest that stands for them.
        """
        predicate = next(self.statements(), {}).get("predicate", {})
        # Of a run that was no success it lies deeper.
        definition = predicate.get("run", predicate).get("buildDefinition", {})
        read = (
            one
            for one in definition.get("resolvedDependencies", [])
            if one.get("annotations", {}).get("role") in ("material", "materials")
        )
        return {str(one.get("uri", one.get("name"))): one.get("digest", {}).get("sha256") for one in read}

    def __str__(self) -> str:
        shown = ((one.name, getattr(self, one.name)) for one in fields(self))
        lines = ((name, " ".join(value) if isinstance(value, tuple) else value) for name, value in shown)
        return "\n".join(f"{name:12}  {value}" for name, value in lines if value)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def verdict(path: PathLike) -> Verdict | None:
    """Whether a file may be opened, without opening it; ``None`` when nothing guards it, or when that cannot be said
    without reading it (then ``open`` it: whoever is refused gets ``PermissionError``, and this knows why).

    Raises :class:`NotMounted`, and ``FileNotFoundError``.
    """
    _mount_point(path)
    text = _attribute(path, "verdict")
    if text is None:
        return None
    word, _, rest = text.partition(": ")
    if word == "admitted":
        return Verdict(True, rest, None, None)
    reason, _, next_step = rest.partition("\nnext: ")
    return Verdict(False, None, reason, next_step or None)


def provenance(path: PathLike) -> Provenance:
    """Where a file, or a directory that is a published artifact, comes from.

    Raises :class:`NotMounted`, and ``FileNotFoundError``.
    """
    _mount_point(path)
    names = ("state", "sha256", "blake3", "stage", "run", "signer")
    known = {name: _attribute(path, name) for name in names}
    attestations = (_attribute(path, "attestation") or "").split()
    plain = tuple(name[len("sha256:") :] for name in attestations if name.startswith("sha256:"))
    return Provenance(path=os.path.realpath(path), attestations=plain, **known)


def _attribute(path: PathLike, name: str) -> str | None:
    try:
        return os.getxattr(path, f"user.attestfs.{name}").decode("utf-8", "replace")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def _mount_point(path: PathLike) -> str:
    """Where the attestfs mount begins through which a path is seen."""
    real = os.path.realpath(path)
    device = os.stat(real).st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    found = ""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            words = before.split(" ")
            if words[2] == numbers and after.startswith("fuse.attestfs "):
                point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4])
                if len(point) >= len(found) and os.path.commonpath([point, real]) == point:
                    found = point
    if not found:
        raise NotMounted(f"{real} is not seen through an attestfs mount")
    return found


def _statement(path: str, name: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            bundle = file.read(BUNDLE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        why = "none of its files may be read by this user, or only a part of the mount is seen here"
        raise AttestfsError(f"{path} is not shown: {why}") from error
    if len(bundle) > BUNDLE_BYTES_MAX:
        raise AttestfsError(f"{path} is larger than any bundle")
    try:
        envelope: Mapping[str, Any] = json.loads(bundle)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AttestfsError(f"{path} is no bundle: {error}") from error
    if hashlib.sha256(payload).hexdigest() != name or not isinstance(statement, dict):
        raise AttestfsError(f"{path} holds another statement than its name says")
    return statement
