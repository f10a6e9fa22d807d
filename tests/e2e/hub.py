"""Fills the cache of `huggingface_hub` from a hub of its own, or reads what another process has filled it with.

    hub.py write|read DIRECTORY
"""

import hashlib
import http.server
import json
import os
import pathlib
import sys
import threading

REPOSITORY, REVISIONS = "team/model", ("1" * 40, "2" * 40)

WEIGHTS = bytes(range(256)) * 5000


def files(revision: str) -> dict[str, bytes]:
    """What a revision holds: the second one has other weights, and the same words."""
    weights = WEIGHTS if revision == REVISIONS[0] else WEIGHTS[::-1]
    words = b'{"of": "both"}'
    return {"config.json": words, "onnx/model.bin": weights, "README.md": b"# A model\n"}


def is_large(name: str) -> bool:
    return name.endswith(".bin")


def tree(revision: str) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": name, "size": len(content), "oid": sha1(content)}
        | ({"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 130}} if is_large(name) else {})
        for name, content in files(revision).items()
    ]


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does: large files lie elsewhere, under their SHA-256."""

    newest = REVISIONS[0]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, kind, *path = self.path.split("?")[0].split("/")
        if kind == "stored":
            self.answer(200, next(content for content in contents() if sha256(content) == path[0]))
        elif kind == "api":
            revision = self.revision(path[4])
            told = tree(revision) if path[3] == "tree" else {"id": REPOSITORY, "sha": revision}
            self.answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        else:
            self.resolve(self.revision(path[2]), "/".join(path[3:]))

    def revision(self, named: str) -> str:
        return self.newest if named == "main" else named

    def resolve(self, revision: str, name: str) -> None:
        content, commit = files(revision).get(name), {"X-Repo-Commit": revision}
        if content is None:
            self.answer(404, b"", commit | {"X-Error-Code": "EntryNotFound"})
        elif is_large(name):
            etag, size = f'"{sha256(content)}"', str(len(content))
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": size, "ETag": '"elsewhere"'}
            stored = f"http://localhost:{self.server.server_port}/stored/{sha256(content)}"
            self.answer(302, b"", commit | linked | {"Location": stored})
        else:
            self.answer(200, content, commit | {"ETag": f'"{sha1(content)}"'})

    def answer(self, status: int, body: bytes, headers: dict[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents() -> list[bytes]:
    return [content for revision in REVISIONS for content in files(revision).values()]


def write(cache: pathlib.Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    import huggingface_hub

    huggingface_hub.hf_hub_download(REPOSITORY, "onnx/model.bin", cache_dir=cache)
    huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache)
    Hub.newest = REVISIONS[1]
    huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache)
    assert huggingface_hub.try_to_load_from_cache(REPOSITORY, "absent", cache) is None
    server.shutdown()


def read(cache: pathlib.Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import huggingface_hub

    for revision in REVISIONS:
        for name, content in files(revision).items():
            path = huggingface_hub.hf_hub_download(REPOSITORY, name, revision=revision, cache_dir=cache)
            link = pathlib.Path(path)
            assert not link.readlink().is_absolute() and link.resolve().parent.name == "blobs", path
            assert link.read_bytes() == content, path
            assert not is_large(name) or link.resolve().name == sha256(content), path
    newest = pathlib.Path(huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache))
    assert newest.name == REVISIONS[1], newest
    (repository,) = huggingface_hub.scan_cache_dir(cache).repos
    assert len(repository.revisions) == 2 and repository.size_on_disk == sum(map(len, set(contents())))


{"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
