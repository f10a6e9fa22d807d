//! The socket from both ends: a real daemon on a thread, real clients, and clients that mean harm.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::{PermissionsExt, symlink},
            net::UnixStream,
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use attestfs_attestation::{CommitKind, INCOMPLETE_TYPE, Outcome, RunDescription, SigningKey};
use attestfs_digest::Sha256;
use attestfs_fs::{Fact, Identity, Process, Recorder, RunVersion, TreePath};
use tokio::sync::oneshot;

use super::{
    Answer, ArtifactOrder, AttestationFilter, Code, CommitOrder, FRAME_BYTES_MAX, Failure,
    FrameReader, FromClient, FromDaemon, Hello, LineageQuestion, LineageRoot, ModelSignature,
    MountDescription, Reply, Request, VERSION, encode,
};
use crate::{
    client::{Client, ClientError, RunLink, RunLinkParts},
    clock::{Clock, SystemClock},
    commit::{Attester, Evidence, QuoteError},
    config::{Environment, StateDir},
    daemon::{DaemonError, Seams, serve_until},
    journal::Journal,
    lineage::{
        AttestationQuery, CommitId, Direction, LineageStore, RunEnd, RunId,
        testing::{MemoryStore, description},
    },
    publication::DurableFiles,
};

const SUCCESS: CommitKind = CommitKind::StageEnd(Outcome::Success);

/// Longer than any test takes.
const NEVER: Duration = Duration::from_mins(10);

/// A state directory with a tree beside it, and a store that outlives daemons.
struct House {
    base: tempfile::TempDir,
    state: StateDir,
    store: Arc<MemoryStore>,
    platform: Arc<Platform>,
}

/// A platform that fails to give evidence once, after it was told to.
#[derive(Debug, Default)]
struct Platform(AtomicBool);

impl Attester for Platform {
    fn quote(&self, _statements: &[Sha256]) -> Result<Option<Evidence>, QuoteError> {
        if self.0.swap(false, Ordering::SeqCst) {
            let reason = "as it was told".to_owned();
            return Err(QuoteError { reason });
        }
        Ok(None)
    }
}

/// A daemon that ends when this is dropped.
struct Running {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

impl House {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("tree/model")).unwrap();
        let state = base.path().join("state");
        let state = StateDir::resolve(Some(&state), &Environment::default()).unwrap();
        state.prepare().unwrap();
        Self { base, state, store: Arc::default(), platform: Arc::default() }
    }

    fn daemon(&self) -> Running {
        let running = self.daemon_for(NEVER);
        for _ in 0..1000 {
            if Client::connect(&self.state).is_ok() {
                return running;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not listen");
    }

    fn daemon_for(&self, idle_end: Duration) -> Running {
        let (end, ended) = oneshot::channel::<()>();
        let (state, store) = (self.state.clone(), Arc::clone(&self.store));
        let platform = Arc::clone(&self.platform);
        let thread = thread::spawn(move || {
            let wire = |_: &StateDir| {
                Ok(Seams {
                    store: store as _,
                    files: Arc::new(DurableFiles),
                    attester: platform as _,
                    clock: Arc::new(SystemClock),
                    stop_at: None,
                })
            };
            let told = async {
                ended.await.unwrap_or_default();
                Ok(())
            };
            serve_until(&state, idle_end, None, wire, told)
        });
        Running { end: Some(end), thread: Some(thread) }
    }

    fn client(&self) -> Client {
        Client::connect(&self.state).unwrap()
    }

    /// A connection that has said hello and been greeted.
    fn raw(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.state.socket()).unwrap();
        stream.write_all(&encode(&Hello::ours()).unwrap()).unwrap();
        stream
    }

    fn tree(&self) -> String {
        self.base.path().join("tree").to_str().unwrap().to_owned()
    }

    fn describe(&self, run: &str) -> RunDescription {
        let trees = vec![self.tree()];
        RunDescription { trees, ..description(run) }
    }

    fn journal(&self, run: &str) -> Journal {
        let tree = File::open(self.tree()).unwrap();
        Journal::create(&self.state.run(run), vec![tree]).unwrap()
    }

    fn begin(&self, run: &str, key: Option<File>) -> RunLink {
        let order = order(run, "checkpoint", CommitKind::Checkpoint);
        self.begin_with(run, key, move |_| Ok(order.clone()))
    }

    fn begin_with(
        &self,
        run: &str,
        key: Option<File>,
        checkpoint: impl Fn(&str) -> Result<CommitOrder, Failure> + Send + Sync + 'static,
    ) -> RunLink {
        RunLink::begin(RunLinkParts {
            roots: Vec::new(),
            state: self.state.clone(),
            description: self.describe(run),
            key,
            checkpoint: Box::new(checkpoint),
        })
        .unwrap()
    }

    /// The run writes `model/weights`.
    fn write(&self, journal: &Journal) {
        let path = self.base.path().join("tree/model/weights");
        fs::write(&path, "w").unwrap();
        let file = File::open(&path).unwrap();
        let identity = Identity::of(&file).unwrap();
        let path = TreePath { tree: 0, path: "model/weights".to_owned() };
        let version = RunVersion(1);
        journal.record(Fact::Written {
            version,
            file: identity.file,
            path: path.clone(),
            by: Process::default(),
        });
        journal.record(Fact::Sealed {
            version,
            identity,
            digests: attestfs_digest::digests(&file, identity.size).unwrap(),
            path: Some(path),
            also: Vec::new(),
        });
    }

    /// Waits for what happens on the daemon's side of a connection.
    fn until(&self, what: impl Fn(&MemoryStore) -> bool) {
        for _ in 0..2000 {
            if what(&self.store) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not happen");
    }
}

impl Running {
    fn end(mut self) -> Result<(), DaemonError> {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits for a daemon that ends by itself.
    fn wait(mut self) -> Result<(), DaemonError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
    }
}

fn order(run: &str, id: &str, kind: CommitKind) -> CommitOrder {
    CommitOrder {
        id: CommitId(format!("{run}-{id}")),
        run: RunId(run.to_owned()),
        kind,
        finished: "2026-01-02T12:00:00Z".parse().unwrap(),
        journal_length: 0,
        artifacts: vec![ArtifactOrder {
            tree: 0,
            path: "model".to_owned(),
            only: None,
            left_out: Vec::new(),
            model_signature: true,
        }],
        adopt: false,
        lock: None,
        signer: None,
    }
}

fn key(directory: &Path) -> File {
    let path = directory.join("some.key");
    fs::write(&path, SigningKey::generate().unwrap().to_pem()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    File::open(path).unwrap()
}

/// The next thing the daemon says, after its hello.
fn refusal(stream: &mut UnixStream) -> Failure {
    let mut reader = FrameReader::default();
    let mut hello: Option<Hello> = None;
    loop {
        if hello.is_none() {
            hello = reader.message().unwrap();
        }
        if hello.is_some()
            && let Some(FromDaemon::Reply { id: 0, answer }) = reader.message().unwrap()
        {
            let Answer::Refused(failure) = answer else {
                panic!("{answer:?}");
            };
            return failure;
        }
        assert!(reader.receive(stream.as_fd()).unwrap() > 0, "nothing was said");
    }
}

fn assert_closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0);
}

#[test]
fn a_length_above_the_bound_ends_the_connection_with_a_reason() {
    let house = House::new();
    let _daemon = house.daemon();
    let bound = u32::try_from(FRAME_BYTES_MAX).unwrap();
    for length in [bound + 1, u32::MAX] {
        let mut stream = house.raw();
        stream.write_all(&length.to_be_bytes()).unwrap();
        assert_eq!(refusal(&mut stream).code, Code::TooLarge);
        assert_closed(stream);
    }
}

#[test]
fn bytes_that_are_no_message_end_the_connection_with_a_reason() {
    let house = House::new();
    let _daemon = house.daemon();
    for frame in [&b"\0\0\0\0"[..], b"\0\0\0\x02{}", b"\0\0\0\x04nope", b"\0\0\0\x02\xff\xff"] {
        let mut stream = house.raw();
        stream.write_all(frame).unwrap();
        assert_eq!(refusal(&mut stream).code, Code::Malformed);
        assert_closed(stream);
    }
    house.client().status().unwrap();
}

#[test]
fn a_client_of_another_version_is_told_so() {
    let house = House::new();
    let _daemon = house.daemon();
    let mut stream = UnixStream::connect(house.state.socket()).unwrap();
    let hello = Hello { version: VERSION + 1, program: "attestfs 99".to_owned() };
    stream.write_all(&encode(&hello).unwrap()).unwrap();
    let failure = refusal(&mut stream);
    assert_eq!(failure.code, Code::Version);
    assert!(failure.message.contains("attestfs 99"), "{failure}");
    assert!(failure.next_step.is_some());
}

#[test]
fn a_daemon_of_another_version_is_reported_with_its_name() {
    let house = House::new();
    let listener = super::listen(&house.state).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let hello = Hello { version: VERSION + 1, program: "attestfs 99".to_owned() };
        stream.write_all(&encode(&hello).unwrap()).unwrap();
        stream
    });
    let error = Client::connect(&house.state).unwrap_err();
    assert!(matches!(error, ClientError::Version { .. }));
    assert!(error.to_string().contains("attestfs 99"), "{error}");
    daemon.join().unwrap();
}

#[test]
fn somebody_who_listens_and_says_nothing_is_reported() {
    let house = House::new();
    let _listener = super::listen(&house.state).unwrap();
    let error = Client::connect(&house.state).unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
}

#[test]
fn a_daemon_that_dies_before_it_greets_is_lost_and_not_an_error_of_the_socket() {
    for heard in [false, true] {
        let house = House::new();
        let listener = super::listen(&house.state).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A socket that is closed with something unread resets its peer.
            if heard {
                stream.read_exact(&mut [0; 4]).unwrap();
            }
        });
        let error = Client::connect(&house.state).unwrap_err();
        assert!(matches!(error, ClientError::Lost), "{error}");
        daemon.join().unwrap();
    }
}

#[test]
fn nobody_there_is_told_from_a_failure() {
    let house = House::new();
    let error = Client::connect(&house.state).unwrap_err();
    assert!(matches!(error, ClientError::Absent { .. }));
}

#[test]
fn a_daemon_that_nobody_needs_ends_and_leaves_no_socket() {
    let house = House::new();
    house.daemon_for(Duration::from_millis(50)).wait().unwrap();
    assert!(!house.state.socket().exists());
}

#[test]
fn a_daemon_with_a_connection_does_not_end() {
    let house = House::new();
    let daemon = house.daemon_for(Duration::from_millis(50));
    let mut client = Client::connect(&house.state);
    while client.is_err() {
        client = Client::connect(&house.state);
    }
    thread::sleep(Duration::from_millis(300));
    client.unwrap().status().unwrap();
    daemon.end().unwrap();
}

#[test]
fn a_second_daemon_of_a_state_leaves_the_first_one_alone() {
    let house = House::new();
    let _first = house.daemon();
    house.daemon_for(NEVER).wait().unwrap();
    assert_eq!(house.client().status().unwrap().pid, std::process::id());
}

#[test]
fn a_run_that_has_no_journal_does_not_begin() {
    let house = House::new();
    let _daemon = house.daemon();
    let begin =
        |id: &str| Request::RunBegin { description: Box::new(house.describe(id)), signer: None };
    let refused = |id: &str| match house.client().call(begin(id)) {
        Err(ClientError::Refused(failure)) => failure.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("train"), Code::Journal);
    assert_eq!(refused("../train"), Code::Malformed);
    drop(house.journal("train"));
    assert_eq!(refused("train"), Code::Journal);
    assert!(house.store.runs(9).unwrap().is_empty());
}

#[test]
fn bounds_of_requests_are_kept() {
    let house = House::new();
    let _daemon = house.daemon();
    let identity = Identity::of(File::open("/dev/null").unwrap()).unwrap();
    let identities = vec![identity; Request::IDENTITIES_MAX + 1];
    assert_eq!(house.client().digests(&identities).unwrap().len(), identities.len());
    let refused = house.client().call(Request::Digests { identities });
    assert!(matches!(refused, Err(ClientError::Refused(it)) if it.code == Code::TooLarge));
}

#[test]
fn the_end_of_a_stage_is_attested_and_asked_again_it_is_the_same() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    assert_eq!(house.client().status().unwrap().live_runs, [RunId("train".to_owned())]);
    house.write(&journal);
    let order =
        CommitOrder { journal_length: journal.sync().unwrap(), ..order("train", "end", SUCCESS) };
    let report = link.commit(order.clone()).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(link.commit(order).unwrap(), report);
    assert!(house.client().status().unwrap().live_runs.is_empty());
    let statement = report.artifacts[0].statement.unwrap();
    let Reply::Attestation { record, bundle } =
        house.client().call(Request::Attestation { statement }).unwrap()
    else {
        panic!("another reply");
    };
    assert_eq!(record.run, RunId("train".to_owned()));
    assert!(bundle.exists());
    drop((link, journal));
    thread::sleep(Duration::from_millis(50));
    let published =
        house.client().call(Request::Attestations { filter: AttestationFilter::All, limit: 9 });
    assert!(matches!(published.unwrap(), Reply::Attestations(list) if list.len() == 1));
}

#[test]
fn a_run_that_ends_without_a_commit_is_ended() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    let end = RunEnd {
        outcome: Outcome::Failed { exit_code: Some(127), signal: None },
        finished: "2026-01-02T12:00:00Z".parse().unwrap(),
    };
    link.end(journal.sync().unwrap(), end.clone()).unwrap();
    link.end(journal.sync().unwrap(), end.clone()).unwrap();
    let run = house.store.run(&RunId("train".to_owned())).unwrap().unwrap();
    assert_eq!(run.end, Some(end));
}

#[test]
fn a_run_that_dies_without_a_word_is_attested_as_unknown() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    house.write(&journal);
    drop((journal, link));
    house.until(|store| store.unfinished().unwrap().is_empty());
    let run = RunId("train".to_owned());
    let end = house.store.run(&run).unwrap().unwrap().end.unwrap();
    assert_eq!(end.outcome, Outcome::Unknown);
    let published = AttestationQuery::Run(&run);
    house.until(|store| !store.attestations(published, 9).unwrap().is_empty());
    let published = house.store.attestations(published, 9).unwrap();
    assert_eq!(published[0].predicate_type, INCOMPLETE_TYPE);
}

#[test]
fn only_the_daemon_that_saw_a_run_begin_knows_without_its_mounts_what_is_lost() {
    for (is_same, subjects) in [(true, 1), (false, 0)] {
        let house = House::new();
        let first = house.daemon();
        let journal = house.journal("train");
        let link = house.begin("train", None);
        house.write(&journal);
        fs::remove_file(house.state.run("train").join("mounted")).unwrap();
        let daemon = if is_same {
            first
        } else {
            first.end().unwrap();
            house.daemon()
        };
        house.until(|_| !house.client().status().unwrap().live_runs.is_empty());
        drop((journal, link));
        house.until(|store| store.unfinished().unwrap().is_empty());
        daemon.end().unwrap();
        let published = house.store.attestations(AttestationQuery::All, 9).unwrap();
        assert_eq!(published.iter().map(|it| it.subjects).sum::<u64>(), subjects);
    }
}

#[test]
fn a_run_of_which_nobody_can_tell_whether_it_lives_is_not_ended_yet() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    let (path, aside) =
        (house.state.run("train").join("journal.jsonl"), house.base.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    symlink(&path, &path).unwrap();
    drop(link);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(house.store.unfinished().unwrap().len(), 1);
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    drop(journal);
    house.until(|store| store.unfinished().unwrap().is_empty());
}

#[test]
fn a_run_that_died_while_no_daemon_was_there_is_found_at_the_next_start() {
    let house = House::new();
    let journal = house.journal("train");
    house.store.begin(&house.describe("train")).unwrap();
    house.write(&journal);
    drop(journal);
    let _daemon = house.daemon();
    house.until(|store| store.unfinished().unwrap().is_empty());
}

#[test]
fn a_run_that_lives_outlives_its_daemon() {
    let house = House::new();
    let first = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    house.write(&journal);
    first.end().unwrap();
    let _second = house.daemon();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(house.store.unfinished().unwrap().len(), 1);
    let order =
        CommitOrder { journal_length: journal.sync().unwrap(), ..order("train", "end", SUCCESS) };
    let report = link.commit(order).unwrap();
    assert_eq!(report.artifacts[0].subjects, 1);
}

#[test]
fn a_checkpoint_is_made_by_the_run_that_observes_the_path() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = Arc::new(house.journal("train"));
    let recorded = Arc::clone(&journal);
    let link = house.begin_with("train", None, move |path| {
        assert!(path.ends_with("tree/model"));
        Ok(CommitOrder {
            journal_length: recorded.sync().unwrap(),
            ..order("train", "checkpoint", CommitKind::Checkpoint)
        })
    });
    house.write(&journal);
    let report = house.client().checkpoint(&format!("{}/model", house.tree())).unwrap();
    assert_eq!(report.artifacts[0].model_signature, ModelSignature::Written);
    assert_eq!(house.store.unfinished().unwrap().len(), 1);
    drop(link);
}

#[test]
fn a_checkpoint_waits_for_a_run_that_has_lost_its_daemon() {
    let house = House::new();
    let first = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    first.end().unwrap();
    let _second = house.daemon();
    house.write(&journal);
    let order = CommitOrder {
        journal_length: journal.sync().unwrap(),
        ..order("train", "checkpoint", CommitKind::Checkpoint)
    };
    drop(link);
    let client = house.client();
    let path = format!("{}/model", house.tree());
    let asked = thread::spawn(move || client.checkpoint(&path));
    thread::sleep(Duration::from_millis(100));
    let _link = house.begin_with("train", None, move |_| Ok(order.clone()));
    assert_eq!(asked.join().unwrap().unwrap().artifacts[0].subjects, 1);
}

#[test]
fn a_checkpoint_that_the_run_refuses_is_refused() {
    let house = House::new();
    let _daemon = house.daemon();
    let _journal = house.journal("train");
    let _link = house.begin_with("train", None, |_| Err(Failure::new(Code::Timeout, "still open")));
    let refused = house.client().checkpoint(&house.tree()).unwrap_err();
    assert_eq!(refused.to_string(), "still open");
    let nowhere = house.client().checkpoint("/nowhere").unwrap_err();
    assert!(matches!(nowhere, ClientError::Refused(it) if it.code == Code::UnknownRun));
}

#[test]
fn an_overview_has_what_processes_say_of_themselves_and_lacks_what_they_do_not_say() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let _link = house.begin("train", None);
    house.write(&journal);
    let mut silent = house.raw();
    let mount = MountDescription {
        id: "mount".to_owned(),
        mount_point: Some("/mnt".to_owned()),
        origin: "/elsewhere".to_owned(),
        read_only: true,
        policy: None,
        pid: 1,
        started: SystemClock.now(),
    };
    let request = Box::new(Request::MountBegin { mount: Box::new(mount) });
    silent.write_all(&encode(&FromClient::Call { id: 1, request }).unwrap()).unwrap();
    let overview = || match house.client().call(Request::Overview).unwrap() {
        Reply::Overview(overview) => overview,
        other => panic!("{other:?}"),
    };
    let seen = (0..100).map(|_| overview()).find(|seen| !seen.mounts.is_empty()).unwrap();
    assert_eq!(seen.mounts[0].condition, None, "it says nothing");
    let run = &seen.runs[0];
    assert!(run.condition.is_some(), "{run:?}");
    assert_eq!(run.bytes_behind, journal.length());
    assert!(run.behind_since.is_some_and(|since| since <= SystemClock.now()), "{run:?}");
}

#[test]
fn a_presented_key_signs_for_its_run_and_for_nobody_else() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let file = key(house.base.path());
    let hint = crate::signer::key_from_file(&file, "").unwrap().verifying_key().hint();
    let link = house.begin("train", Some(file));
    house.write(&journal);
    let order =
        CommitOrder { journal_length: journal.sync().unwrap(), ..order("train", "end", SUCCESS) };
    let stranger = house.client().commit(&CommitOrder { signer: Some(hint), ..order.clone() });
    assert!(matches!(stranger, Err(ClientError::Refused(it)) if it.code == Code::Key));
    link.commit(order).unwrap();
    let published = house.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!(published[0].signer, hint.to_string());
    assert!(!house.state.key().exists());
}

#[test]
fn a_key_that_is_open_to_others_is_refused() {
    let house = House::new();
    let _daemon = house.daemon();
    let file = key(house.base.path());
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(house.base.path().join("some.key"), open).unwrap();
    let refused = house.client().present_key(file.as_fd()).unwrap_err();
    assert!(refused.to_string().contains("chmod 600"), "{refused}");
    let missing = house.client().call(Request::PresentKey).unwrap_err();
    assert!(matches!(missing, ClientError::Refused(it) if it.code == Code::Key));
}

#[test]
fn a_commit_that_waits_for_its_key_goes_on_when_somebody_presents_it() {
    let house = House::new();
    let _daemon = house.daemon();
    let file = key(house.base.path());
    let journal = house.journal("train");
    let link = house.begin("train", Some(file.try_clone().unwrap()));
    house.write(&journal);
    house.platform.0.store(true, Ordering::SeqCst);
    let order =
        CommitOrder { journal_length: journal.sync().unwrap(), ..order("train", "end", SUCCESS) };
    let refused = link.commit(order).unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(it) if it.code == Code::State), "{refused}");
    drop((link, journal));
    let client = house.client();
    house.until(|_| client.status().unwrap().live_runs.is_empty());
    let pending = client.status().unwrap().pending;
    assert_eq!(pending.len(), 1);
    assert_eq!(client.present_key(file.as_fd()).unwrap(), pending[0].signer);
    house.until(|store| store.frozen().unwrap().is_empty());
    assert!(client.status().unwrap().pending.is_empty());
    let published = house.store.attestations(AttestationQuery::All, 9).unwrap();
    assert_eq!(published.len(), 1);
    assert_eq!(published[0].kind, SUCCESS);
}

#[test]
fn questions_about_nothing_are_answered_with_not_found() {
    let house = House::new();
    let _daemon = house.daemon();
    let digest = Sha256([7; 32]);
    let question = LineageQuestion {
        root: LineageRoot::Digest(digest),
        direction: Direction::Ancestors,
        depth: None,
    };
    for request in [Request::Lineage { question }, Request::Attestation { statement: digest }] {
        let refused = house.client().call(request).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(it) if it.code == Code::NotFound));
    }
    let run = RunId("nobody".to_owned());
    let refused = house.client().call(Request::Stage { run }).unwrap_err();
    let ClientError::Refused(refused) = refused else { panic!("{refused}") };
    assert_eq!(
        (refused.code, &*refused.message),
        (Code::UnknownRun, "this store knows no run 'nobody'")
    );
    assert!(refused.next_step.unwrap().contains("attestfs stage list"));
}

#[test]
fn a_run_is_shown_by_the_beginning_of_its_name_if_no_other_begins_so() {
    let house = House::new();
    let _daemon = house.daemon();
    for run in ["01a1f797-1", "01a1f797-2", "01a1f7aa-1"] {
        let _journal = house.journal(run);
        drop(house.begin(run, None));
    }
    let show = |name: &str| house.client().call(Request::Stage { run: RunId(name.to_owned()) });
    let Reply::Stage(details) = show("01a1f7aa").unwrap() else { panic!("another reply") };
    assert_eq!(details.summary.run.description.id, "01a1f7aa-1");
    for (name, message) in [
        ("01a1f797", "'01a1f797' begins the names of 2 runs"),
        ("01a1f7a", "this store knows no run '01a1f7a'"),
        ("01a1f7ab", "this store knows no run '01a1f7ab'"),
    ] {
        let refused = show(name).unwrap_err();
        let ClientError::Refused(refused) = refused else { panic!("{refused}") };
        assert_eq!((refused.code, &*refused.message), (Code::UnknownRun, message));
    }
}

#[test]
fn a_stage_is_shown_with_what_it_wrote() {
    let house = House::new();
    let _daemon = house.daemon();
    let journal = house.journal("train");
    let link = house.begin("train", None);
    house.write(&journal);
    let order =
        CommitOrder { journal_length: journal.sync().unwrap(), ..order("train", "end", SUCCESS) };
    link.commit(order).unwrap();
    let run = RunId("train".to_owned());
    let Reply::Stage(details) = house.client().call(Request::Stage { run }).unwrap() else {
        panic!("another reply");
    };
    assert_eq!((details.outputs.kept.len(), details.attestations.len()), (1, 1));
    let path = house.base.path().join("tree/model/weights");
    let question = LineageQuestion {
        root: LineageRoot::File {
            identity: Identity::of(File::open(&path).unwrap()).unwrap(),
            path: path.to_str().unwrap().to_owned(),
            sha256: None,
        },
        direction: Direction::Ancestors,
        depth: None,
    };
    let Reply::Lineage(graph) = house.client().call(Request::Lineage { question }).unwrap() else {
        panic!("another reply");
    };
    assert_eq!((graph.runs.len(), graph.versions.len()), (1, 1));
}
