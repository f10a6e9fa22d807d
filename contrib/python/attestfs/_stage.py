"""Stages that a program opens and ends on a mount."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Optional

from ._control import AttestfsError, PathLike, ask, escaped

#: The predicate of what is recorded of a run that was no success.
_INCOMPLETE_RUN = "https://attestfs.dev/predicate/incomplete-run/v1"


@dataclass(frozen=True)
class Artifact:
    """What became of one output."""

    #: Absolute path of the directory.
    root: str
    #: SHA-256 by which the attestation is named; ``None`` when there is none.
    statement: str | None
    #: Whether somebody vouches for it. What a run wrote that was no success is recorded, and nobody does.
    vouched_for: bool
    #: Why there is none.
    unattested: str | None
    #: How many files the attestation names.
    files: int
    #: Names of files that it does not speak of, each with the reason.
    left_out: Mapping[str, str]
    #: Why no ``model.sig`` could be made.
    unsigned: str | None

    def is_incomplete(self) -> bool:
        """Whether something that was asked for is not there."""
        return self.unattested == "there is nothing" or self.unsigned is not None

    def __str__(self) -> str:
        if self.statement:
            files = "1 file" if self.files == 1 else f"{self.files} files"
            how = "" if self.vouched_for else "recorded, vouched for by nobody: "
            line = f"{self.root}: {files}, {how}sha256:{self.statement}"
        else:
            line = f"{self.root}: not attested: {self.unattested or 'nothing there could be'}"
        lines = [line]
        if self.unsigned:
            lines.append(f"  no model.sig: {self.unsigned}")
        lines += [f"  left out: {name}: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What a commit made."""

    artifacts: Sequence[Artifact] = field(default_factory=tuple)

    def is_incomplete(self) -> bool:
        """Whether something that was asked for is not there."""
        return any(artifact.is_incomplete() for artifact in self.artifacts)

    def __str__(self) -> str:
        return "\n".join(map(str, self.artifacts)) or "nothing was attested"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    @classmethod
    def _of(cls, value: Mapping[str, Any]) -> Report:
        return cls(tuple(_artifact(artifact) for artifact in value["artifacts"]))


class Incomplete(AttestfsError):
    """The stage has ended, and an output is missing or a model could not be signed."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class Stage:
    """A stage on a mount: a run that records what is read and written there while it is open.

    Use it in a ``with`` statement. Where that does not fit, as in a notebook, :meth:`open` begins it, and
    :meth:`close` or :meth:`abort` ends it.
    """

    def __init__(self, path: str, order: dict[str, Any], state: PathLike | None) -> None:
        self._path, self._order, self._state = path, order, state
        self._process: int | None = None
        #: The id of the run, once it is open.
        self.run: str | None = None
        #: What was attested, once it is closed or aborted.
        self.report: Report | None = None

    @property
    def name(self) -> str:
        """The step of the pipeline."""
        return str(self._order["stage"])

    @property
    def is_open(self) -> bool:
        """Whether it was opened here and not ended here."""
        return self.run is not None and self.report is None

    def open(self) -> Stage:
        """Begins it. Refused while another one is open on the mount; a stage is opened once."""
        if self.run is not None:
            how = "is open" if self.is_open else "has ended"
            raise AttestfsError(f"stage {self.name!r} {how} already, run {self.run}: make another one")
        if os.environ.get("ATTESTFS_RUN"):
            raise AttestfsError(
                f"stage {self.name!r} cannot be opened within 'attestfs run', which is a stage itself: "
                "use attestfs.checkpoint, or an 'attestfs mount'"
            )
        request = {"request": "stage-open", "path": escaped(self._path), "stage": self._order}
        opened = ask(request, "stage-opened", self._state)
        self.run, self._process = str(opened["run"]), os.getpid()
        return self

    def checkpoint(self, path: PathLike) -> Report:
        """Has what is complete below ``path`` attested while the stage goes on."""
        self._check_open()
        return checkpoint(os.path.join(self._path, path), state=self._state)

    def close(self) -> Report:
        """Ends it as a success, and has what it wrote attested.

        Raises :class:`Incomplete` when an output is missing or could not be signed.
        """
        report = self._end("stage-close")
        if report.is_incomplete():
            raise Incomplete(report)
        return report

    def abort(self) -> Report:
        """Ends it as a failure. What it wrote is recorded, and nobody vouches for it."""
        return self._end("stage-abort")

    def _end(self, request: str) -> Report:
        self._check_open()
        value = ask({"request": request, "path": escaped(self._path)}, "commit", self._state)
        self.report = Report._of(value)
        return self.report

    def _check_open(self) -> None:
        if not self.is_open:
            raise AttestfsError(f"stage {self.name!r} is not open")

    def __enter__(self) -> Stage:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Ended in the block already, or left by a forked child, whose parent goes on with the stage.
        if not self.is_open or os.getpid() != self._process:
            return
        if error is None:
            self.close()
            return
        try:
            self.abort()
        except AttestfsError as failure:
            # The error of the block is what has to be seen; notes exist since Python 3.11.
            note = f"stage {self.name!r} could not be aborted either: {failure}"
            getattr(error, "add_note", lambda _note: None)(note)

    def __repr__(self) -> str:
        how = "open" if self.is_open else "ended" if self.run else "not begun"
        return f"<attestfs stage {self.name!r} at {self._path}: {how}, run {self.run}>"

    def _repr_html_(self) -> str:
        report = self.report._repr_html_() if self.report else ""
        return f"<code>{html.escape(repr(self))}</code>{report}"


def stage(
    name: str,
    path: PathLike = ".",
    *,
    inputs: Sequence[PathLike] = (),
    out: Sequence[PathLike] = (),
    labels: Mapping[str, str] | None = None,
    adopt: bool = False,
    checkpoint_rule: bool = False,
    state: PathLike | None = None,
) -> Stage:
    """A stage on the mount at ``path``, to be opened by a ``with`` statement.

    ``inputs`` and ``out`` are relative to ``path`` or absolute; without ``out`` everything that is written is an
    output. ``adopt`` lets ``model.sig`` cover files that no run wrote; with ``checkpoint_rule`` a checkpoint is made
    whenever a complete model appears below an output.
    """
    if isinstance(inputs, (str, os.PathLike)) or isinstance(out, (str, os.PathLike)):
        raise TypeError("inputs and out are lists of paths")
    top = os.path.realpath(path)
    below = [[escaped(os.path.realpath(os.path.join(top, it))) for it in paths] for paths in (inputs, out)]
    order = {
        "stage": name,
        "inputs": below[0],
        "outputs": below[1],
        "labels": dict(labels or {}),
        "adopt": adopt,
        "checkpointRule": checkpoint_rule,
    }
    return Stage(top, order, state)


def checkpoint(path: PathLike, *, state: PathLike | None = None) -> Report:
    """Has the run that is open at ``path`` make a checkpoint of it, and waits until it is attested."""
    request = {"request": "checkpoint", "path": escaped(os.path.realpath(path))}
    return Report._of(ask(request, "commit", state))


def _artifact(value: Mapping[str, Any]) -> Artifact:
    signature = value["model_signature"]
    return Artifact(
        root=value["root"],
        statement=value["statement"],
        vouched_for=value["statement"] is not None and value["predicate_type"] != _INCOMPLETE_RUN,
        unattested=value["unattested"],
        files=value["subjects"],
        left_out={one["name"]: one["reason"] for one in value["left_out"]},
        unsigned=signature["refused"] if isinstance(signature, dict) else None,
    )
