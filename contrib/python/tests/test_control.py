"""The module against a daemon that says whatever a test wants. No mount is needed."""

import json
import os
import socket
import struct
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

import attestfs
from attestfs import _control
from attestfs._control import FRAME_BYTES_MAX, VERSION, ask, escaped, state_directory

HELLO = {"version": VERSION, "program": "attestfs test"}


def frame(message):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def done(reply, value):
    return frame({"reply": {"id": 1, "answer": {"done": {"reply": reply, "value": value}}}})


class FakeDaemon:
    """Answers each connection with the next of the given bytes, and keeps what was asked."""

    def __init__(self, *answers):
        self.directory = tempfile.TemporaryDirectory()
        self.state = self.directory.name
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(self.state, "control.sock"))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, args=(answers,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.listener.close()
        self.directory.cleanup()

    def serve(self, answers):
        for answer in answers:
            connection, _ = self.listener.accept()
            with connection:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                asked = b"".join(iter(lambda: connection.recv(65536), b""))
            self.requests += list(messages(asked))[1:]


def messages(asked):
    while asked:
        (length,) = struct.unpack(">I", asked[:4])
        yield json.loads(asked[4 : 4 + length])
        asked = asked[4 + length :]


class Frames(unittest.TestCase):
    def refused(self, answer, *words):
        with FakeDaemon(answer) as daemon, self.assertRaises(attestfs.AttestfsError) as caught:
            ask({"request": "status"}, "status", daemon.state)
        for word in words:
            self.assertIn(word, str(caught.exception))
        return caught.exception

    def test_what_is_no_answer_is_refused(self):
        hello = frame(HELLO)
        self.refused(b"", "ended the connection")
        self.refused(hello[:7], "middle")
        self.refused(hello + struct.pack(">I", FRAME_BYTES_MAX + 1), "at most")
        self.refused(hello + frame(b"nonsense"), "no message")
        self.refused(hello + frame(b"[" * 100_000), "no message")
        self.refused(hello + frame([]), "no message")
        self.refused(hello + frame({"reply": None}), "no reply")
        self.refused(hello + frame({"reply": {"answer": {}}}), "neither yes nor no")
        self.refused(hello + done("other", {}), "'other'")

    def test_another_version_is_named(self):
        self.refused(frame({"version": 1, "program": "attestfs 0.0.1"}), "attestfs 0.0.1", "version 1")

    def test_a_refusal_has_its_code_and_the_next_step(self):
        said = {"code": "stage", "message": "stage 'x' is open here", "next_step": "close it"}
        answer = frame(HELLO) + frame({"reply": {"id": 1, "answer": {"refused": said}}})
        error = self.refused(answer, "stage 'x' is open here", "close it")
        self.assertIsInstance(error, attestfs.Refused)
        self.assertEqual((error.code, error.next_step), ("stage", "close it"))

    def test_nobody_there_is_told_with_the_place(self):
        with tempfile.TemporaryDirectory() as state, mock.patch.object(_control, "_PATIENCE_SECONDS", 0):
            for place in (state, os.path.join(state, "nothing")):
                with self.assertRaises(attestfs.NoDaemon) as caught:
                    ask({"request": "status"}, "status", place)
                self.assertIn(place, str(caught.exception))

    def test_a_state_directory_with_a_long_name_has_a_socket_too(self):
        with tempfile.TemporaryDirectory() as base, mock.patch.object(_control, "_PATIENCE_SECONDS", 0):
            state = os.path.join(base, "x" * 200)
            os.mkdir(state)
            with self.assertRaises(attestfs.NoDaemon):
                ask({"request": "status"}, "status", state)


class Names(unittest.TestCase):
    def test_paths_are_spelt_so_that_no_two_look_alike(self):
        for path, spelt in [
            (b"/a b", "/a b"),
            (b"/\xc3\xa9", "/\u00e9"),
            (b"/back\\slash", r"/back\\slash"),
            (b"/\xff\xfe", r"/\xff\xfe"),
            (b"/\xc3", r"/\xc3"),
        ]:
            self.assertEqual(escaped(os.fsdecode(path)), spelt)

    def test_the_state_directory_is_where_the_program_has_it(self):
        with mock.patch.dict(os.environ, {"ATTESTFS_STATE": "/from/environment"}):
            self.assertEqual(state_directory(), Path("/from/environment"))
            self.assertEqual(state_directory("/from/option"), Path("/from/option"))
        with mock.patch.dict(os.environ, {}, clear=True), mock.patch("os.geteuid", return_value=1000):
            with self.assertRaises(attestfs.AttestfsError):
                state_directory()
            os.environ["HOME"] = "/home/somebody"
            self.assertEqual(state_directory().parent, Path("/home/somebody/.local/state/attestfs"))
            os.environ["XDG_STATE_HOME"] = "relative"
            self.assertEqual(state_directory().parent, Path("/home/somebody/.local/state/attestfs"))
            os.environ["XDG_STATE_HOME"] = "/state"
            self.assertEqual(state_directory().parent, Path("/state/attestfs"))


def report(**changes):
    artifact = {
        "root": "/data/model",
        "statement": "aa",
        "unattested": None,
        "predicate_type": "x",
        "subjects": 1,
        "left_out": [{"name": "log", "reason": "still open"}],
        "model_signature": "written",
    }
    return {"commit": "c", "artifacts": [{**artifact, **changes}]}


OPENED = frame(HELLO) + done("stage-opened", {"run": "run-1"})


def committed(**changes):
    return frame(HELLO) + done("commit", report(**changes))


class Stages(unittest.TestCase):
    def setUp(self):
        patched = mock.patch.dict(os.environ)
        patched.start()
        self.addCleanup(patched.stop)
        os.environ.pop("ATTESTFS_RUN", None)

    def asked(self, daemon):
        return [request["call"]["request"]["request"] for request in daemon.requests]

    def test_an_error_aborts_the_stage_and_is_seen(self):
        with FakeDaemon(OPENED, committed()) as daemon:
            with self.assertRaises(ZeroDivisionError):
                with attestfs.stage("train", "/data", state=daemon.state):
                    1 / 0
        self.assertEqual(self.asked(daemon), ["stage-open", "stage-abort"])

    def test_an_error_is_seen_although_nothing_can_be_aborted(self):
        with FakeDaemon(OPENED, b"") as daemon:
            with self.assertRaises(ZeroDivisionError):
                with attestfs.stage("train", "/data", state=daemon.state):
                    1 / 0

    def test_the_end_of_the_block_closes_the_stage(self):
        with FakeDaemon(OPENED, committed()) as daemon:
            with attestfs.stage("train", "/data", inputs=["raw"], out=["model"], state=daemon.state) as run:
                self.assertTrue(run.is_open)
        self.assertEqual(self.asked(daemon), ["stage-open", "stage-close"])
        order = daemon.requests[0]["call"]["request"]
        self.assertEqual((order["path"], order["stage"]["inputs"]), ("/data", ["/data/raw"]))
        self.assertEqual(order["stage"]["outputs"], ["/data/model"])
        self.assertEqual(run.report.artifacts[0].left_out, {"log": "still open"})
        self.assertIn("left out: log", run._repr_html_())

    def test_a_stage_that_is_ended_in_its_block_is_not_ended_again(self):
        with FakeDaemon(OPENED, committed()) as daemon:
            with attestfs.stage("train", "/data", state=daemon.state) as run:
                run.abort()
        self.assertEqual(self.asked(daemon), ["stage-open", "stage-abort"])

    def test_a_stage_is_entered_once_and_says_its_name(self):
        with FakeDaemon(OPENED, committed()) as daemon:
            with attestfs.stage("train", "/data", state=daemon.state) as run:
                with self.assertRaisesRegex(attestfs.AttestfsError, "'train' is open already, run run-1"):
                    with run:
                        pass
            with self.assertRaisesRegex(attestfs.AttestfsError, "'train' has ended already"):
                run.open()
        self.assertEqual(self.asked(daemon), ["stage-open", "stage-close"])

    def test_a_forked_child_that_leaves_the_block_ends_nothing(self):
        with FakeDaemon(OPENED, committed()) as daemon:
            with attestfs.stage("train", "/data", state=daemon.state) as run:
                with mock.patch("os.getpid", return_value=-1):
                    run.__exit__(None, None, None)
                self.assertTrue(run.is_open)
        self.assertEqual(self.asked(daemon), ["stage-open", "stage-close"])

    def test_what_is_missing_at_the_end_is_an_error(self):
        for changes in [
            {"statement": None, "unattested": "there is nothing"},
            {"model_signature": {"refused": "a symbolic link"}},
        ]:
            with FakeDaemon(OPENED, committed(**changes)) as daemon:
                with self.assertRaises(attestfs.Incomplete):
                    with attestfs.stage("train", "/data", state=daemon.state):
                        pass

    def test_what_is_recorded_of_a_failure_reads_like_no_success(self):
        failed = {"predicate_type": "https://attestfs.dev/predicate/incomplete-run/v1"}
        for changes, vouched_for in [({}, True), (failed, False), ({"statement": None}, False)]:
            with FakeDaemon(OPENED, committed(**changes)) as daemon:
                report = attestfs.stage("train", "/data", state=daemon.state).open().abort()
            self.assertEqual(report.artifacts[0].vouched_for, vouched_for)
            told = "vouched for by nobody"
            for shown in (str(report), report._repr_html_()):
                self.assertEqual(told in shown, changes == failed, shown)

    def test_no_stage_is_opened_within_a_run(self):
        os.environ["ATTESTFS_RUN"] = "run-0"
        with self.assertRaisesRegex(attestfs.AttestfsError, "within 'attestfs run'"):
            attestfs.stage("train", "/data", state="/nowhere").open()

    def test_one_path_is_no_list_of_paths(self):
        with self.assertRaises(TypeError):
            attestfs.stage("train", "/data", out="model")


class Files(unittest.TestCase):
    def test_files_outside_of_mounts_are_told_apart_from_unguarded_ones(self):
        with tempfile.NamedTemporaryFile() as file:
            for ask_for in (attestfs.verdict, attestfs.provenance):
                with self.assertRaises(attestfs.NotMounted):
                    ask_for(file.name)
        with self.assertRaises(FileNotFoundError):
            attestfs.verdict("/nothing/there")

    def test_what_is_shown_in_a_notebook_is_escaped(self):
        refused = attestfs.Verdict(False, None, "<script>", None)
        self.assertNotIn("<script>", refused._repr_html_())
        self.assertFalse(refused)


if __name__ == "__main__":
    unittest.main()
