"""Stages, checkpoints, verdicts and provenance of files on attestfs mounts.

>>> import attestfs
>>> with attestfs.stage("train", "/mnt/data", out=["model"]) as run:
...     run.checkpoint("model/step-100")
"""

from ._control import AttestfsError, NoDaemon, ProtocolError, Refused
from ._files import NotMounted, Provenance, Verdict, provenance, verdict
from ._stage import Artifact, Incomplete, Report, Stage, checkpoint, stage

__all__ = [
    "Artifact",
    "AttestfsError",
    "Incomplete",
    "NoDaemon",
    "NotMounted",
    "ProtocolError",
    "Provenance",
    "Refused",
    "Report",
    "Stage",
    "Verdict",
    "checkpoint",
    "provenance",
    "stage",
    "verdict",
]
