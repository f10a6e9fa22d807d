//! What serving processes count, as a monitor sees it, and what is said of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::{
    guarded::{is_refused, policy},
    lab::{Finish, Lab, Running, eventually},
    mounted::Mounted,
    needs,
};

/// What was shown at one time: each series as it is written, with its value.
#[derive(Debug, Default)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Of a socket in the lab.
    fn of(lab: &Lab, socket: &str) -> Self {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--max-time", "20", "--unix-socket"]).arg(lab.path(socket));
        Self::parse(&curl.arg("http://localhost/metrics").succeed())
    }

    fn parse(page: &str) -> Self {
        assert!(page.ends_with("# EOF\n"), "{page}");
        let series = page.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    fn value(&self, series: &str) -> f64 {
        let value = self.0.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    fn names(&self) -> BTreeSet<String> {
        let names = self.0.keys().map(|series| series.split('{').next().unwrap().to_owned());
        names.collect()
    }

    /// Names of labels.
    fn labels(&self) -> BTreeSet<String> {
        let inner = self.0.keys().filter_map(|series| series.split_once('{'));
        let words = inner.flat_map(|(_, labels)| labels.split("\","));
        words.filter_map(|word| Some(word.split_once("=\"")?.0.to_owned())).collect()
    }
}

/// A number as a series shows it.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn number(count: usize) -> f64 {
    count as f64
}

/// A lab for mounts that a monitor looks at.
fn watched() -> Option<Lab> {
    needs::programs(&["curl"]).then(Lab::new).flatten()
}

#[test]
fn what_a_mount_counts_is_what_was_done() {
    let Some(lab) = watched() else { return };
    policy(&lab, "rehash");
    let tree = lab.directory("tree");
    for number in 0..20 {
        fs::write(tree.join(format!("{number}.txt")), vec![b'x'; 10_000]).unwrap();
    }
    fs::write(tree.join("stray.bin"), vec![b'x'; 5000]).unwrap();
    let options = ["--policy", "policy.toml", "--metrics", "unix:metrics.sock"];
    let mounted = Mounted::new(&lab, "tree", "mnt", &options);
    let before = Scrape::of(&lab, "metrics.sock");
    assert!(before.value("attestfs_start_time_seconds") > 1.7e9);
    let opened = r#"attestfs_fuse_requests_total{op="open",status="ok"}"#;
    assert!(before.value(opened).abs() < 0.5);
    let read: usize =
        (0..20).map(|it| fs::read(mounted.path.join(format!("{it}.txt"))).unwrap().len()).sum();
    for _ in 0..3 {
        assert!(is_refused(&mounted.path.join("stray.bin")));
    }
    fs::write(mounted.path.join("new.txt"), vec![b'x'; 300_000]).unwrap();
    let after = Scrape::of(&lab, "metrics.sock");
    let refused =
        r#"attestfs_gate_verdicts_total{verdict="refused",reason="an attestation is at hand"}"#;
    for (series, value) in [
        (opened, number(20)),
        (r#"attestfs_fuse_requests_total{op="open",status="EACCES"}"#, number(3)),
        (r#"attestfs_fuse_request_duration_seconds_count{op="open"}"#, number(23)),
        (r#"attestfs_fuse_requests_total{op="create",status="ok"}"#, number(1)),
        (r#"attestfs_gate_verdicts_total{verdict="admitted",reason="unguarded"}"#, number(20)),
        (refused, number(3)),
        (r#"attestfs_hashed_bytes_total{for="gate"}"#, number(5000)),
        ("attestfs_fuse_read_bytes_total", number(read)),
        ("attestfs_fuse_written_bytes_total", number(300_000)),
        (r#"attestfs_fuse_requests_under_way{op="open"}"#, number(0)),
    ] {
        assert!((after.value(series) - value).abs() < 0.5, "{series} is {}", after.value(series));
    }
    eventually("nothing is open any more", || {
        Scrape::of(&lab, "metrics.sock").value("attestfs_open_handles").abs() < 0.5
    });
    assert!(after.value("attestfs_inodes") > 21.5);
    mounted.umount(&[]).succeed();
    mounted.wait_for_end();
    assert!(!lab.path("metrics.sock").exists(), "the socket goes with the mount");
}

#[test]
fn counts_are_exact_under_load_and_never_go_back() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 150;
    let Some(lab) = watched() else { return };
    let tree = lab.directory("tree");
    fs::write(tree.join("file"), "content").unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--metrics", "unix:metrics.sock"]);
    let work = || {
        for _ in 0..ROUNDS {
            fs::read(mounted.path.join("file")).unwrap();
            fs::read(mounted.path.join("nothing")).unwrap_err();
        }
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut last = Scrape::of(&lab, "metrics.sock");
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let next = Scrape::of(&lab, "metrics.sock");
            for (series, value) in last.0.iter().filter(|(series, _)| series.contains("_total")) {
                assert!(next.value(series) >= *value, "{series}");
            }
            last = next;
        }
        Scrape::of(&lab, "metrics.sock")
    });
    let opened = r#"attestfs_fuse_requests_total{op="open",status="ok"}"#;
    assert!((done.value(opened) - number(THREADS * ROUNDS)).abs() < 0.5);
    let missing = r#"attestfs_fuse_requests_total{op="lookup",status="ENOENT"}"#;
    assert!((done.value(missing) - number(THREADS * ROUNDS)).abs() < 0.5);
    eventually("all are released", || {
        let released = r#"attestfs_fuse_requests_total{op="release",status="ok"}"#;
        (Scrape::of(&lab, "metrics.sock").value(released) - number(THREADS * ROUNDS)).abs() < 0.5
    });
}

#[test]
fn an_address_that_is_taken_or_none_stops_a_mount_and_a_run_before_anything_is_done() {
    let Some(lab) = watched() else { return };
    lab.directory("tree");
    lab.directory("mnt");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, of_mount, of_run) in [(taken.as_str(), 3, 125), ("nonsense", 2, 2)] {
        let mount = lab.attestfs(["mount", "--metrics", address, "tree", "mnt"]).finish();
        assert_eq!(mount.code, Some(of_mount), "{mount:?}");
        assert!(mount.stderr.contains(address), "{mount:?}");
        let mut run = lab.run("train");
        run.args(["--metrics", address, "--dir", "tree", "--", "touch", "tree/ran"]);
        let run = run.finish();
        assert_eq!(run.code, Some(of_run), "{run:?}");
    }
    let mut run = lab.run("train");
    run.env("ATTESTFS_METRICS", "nonsense").args(["--dir", "tree", "--", "touch", "tree/ran"]);
    assert_eq!(run.finish().code, Some(2));
    assert!(!lab.path("tree/ran").exists());
}

#[test]
fn the_address_of_a_run_is_for_itself_and_not_for_its_command_or_its_daemon() {
    let Some(lab) = watched() else { return };
    lab.directory("tree");
    let mut run = lab.run("train");
    run.env("ATTESTFS_METRICS", "unix:run.sock").args(["--dir", "tree", "--", "sh", "-ec"]);
    let script = "echo ${ATTESTFS_METRICS-nowhere}; \
        head -c 100000 /dev/zero > tree/weights; \
        curl -sS --unix-socket run.sock http://localhost/metrics";
    let shown = run.arg(script).succeed();
    let (address, page) = shown.split_once('\n').unwrap();
    assert_eq!(address, "nowhere");
    let scrape = Scrape::parse(page);
    assert!((scrape.value("attestfs_fuse_written_bytes_total") - 100_000.0).abs() < 0.5);
    assert!(scrape.value("attestfs_journal_facts_total") > 0.5);
    assert!(!lab.path("run.sock").exists());
}

/// A daemon that a monitor looks at, on a port of its own.
fn watched_daemon(lab: &Lab) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut daemon = lab.attestfs(["daemon", "--foreground", "--metrics", &port]);
    let daemon = Running::start(daemon.env("ATTESTFS_LOG", "warn"));
    let url = format!("http://127.0.0.1:{port}/metrics");
    eventually("the daemon answers", || lab.daemon().is_some());
    (daemon, url)
}

fn scrape_url(url: &str) -> Scrape {
    let mut curl = Command::new("curl");
    Scrape::parse(&curl.args(["-sS", "--fail", "--max-time", "20", url]).succeed())
}

#[test]
fn a_daemon_shows_how_far_it_is_behind_and_what_it_has_published() {
    let Some(lab) = watched() else { return };
    let (_daemon, url) = watched_daemon(&lab);
    let before = scrape_url(&url);
    assert!(before.value("attestfs_live_runs").abs() < 0.5);
    assert!(before.value("attestfs_store_behind_seconds").abs() < 0.5);
    lab.directory("tree");
    let mut run = lab.run("train");
    run.args(["--dir", "tree", "--out", "model", "--", "sh", "-ec"]);
    let script =
        format!("mkdir tree/model; echo 1 > tree/model/weights; sleep 1.1; curl -sS {url}");
    let during = Scrape::parse(&run.arg(script).succeed());
    assert!((during.value("attestfs_live_runs") - 1.0).abs() < 0.5);
    assert!(during.value("attestfs_journal_behind_bytes") > 1.0);
    assert!(during.value("attestfs_store_behind_seconds") >= 1.0);
    let after = scrape_url(&url);
    let published = r#"attestfs_commits_total{kind="stage-end",result="published"}"#;
    assert!((after.value(published) - 1.0).abs() < 0.5);
    let count = r#"attestfs_commit_duration_seconds_count{kind="stage-end"}"#;
    assert!((after.value(count) - 1.0).abs() < 0.5);
    for series in
        ["attestfs_live_runs", "attestfs_journal_behind_bytes", "attestfs_pending_commits"]
    {
        assert!(after.value(series).abs() < 0.5, "{series}");
    }
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&lab.attestfs(["status", "--json"]).succeed()).unwrap()
}

#[test]
fn status_names_the_daemon_the_runs_and_the_mounts_with_what_they_refused() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "stat");
    fs::write(lab.directory("tree").join("stray.bin"), "nobody's").unwrap();
    let mounted = Mounted::new(&lab, "tree", "mnt", &["--policy", "policy.toml"]);
    assert!(is_refused(&mounted.path.join("stray.bin")));
    lab.attestfs(["stage", "open", "mnt", "--stage", "train"]).succeed();
    fs::write(mounted.path.join("out.txt"), "written").unwrap();
    let shown = status(&lab);
    let daemon = lab.daemon().unwrap().as_raw_nonzero().get();
    assert_eq!(shown["daemon"]["pid"], daemon);
    let (mount, run) = (&shown["mounts"][0], &shown["runs"][0]);
    assert_eq!(mount["mountPoint"], mounted.path.to_str().unwrap());
    assert_eq!(mount["pid"], mounted.pid());
    assert_eq!((&mount["stage"], &run["stage"]), (&"train".into(), &"train".into()));
    assert_eq!(mount["run"], run["run"]);
    assert_eq!(
        (&mount["condition"]["refused"], &run["condition"]["refused"]),
        (&1.into(), &1.into())
    );
    assert!(run["bytesBehind"].as_u64().unwrap() > 0, "{run}");
    let lines = lab.attestfs(["status"]).succeed();
    for words in ["stage train", "1 refused", "policy.toml", "bytes behind"] {
        assert!(lines.contains(words), "{lines}");
    }
    lab.attestfs(["stage", "close", "mnt"]).succeed();
    assert_eq!(status(&lab)["runs"], Value::Array(Vec::new()));
}

#[test]
fn status_starts_no_daemon_and_says_that_there_is_none() {
    let Some(lab) = Lab::new() else { return };
    let shown = status(&lab);
    assert_eq!((&shown["daemon"], &shown["runs"]), (&Value::Null, &Value::Null));
    assert!(lab.attestfs(["status"]).succeed().contains("no daemon"));
    assert!(!lab.state().join("control.sock").exists());
}

#[test]
fn a_refusal_is_one_line_of_the_log_with_its_fields() {
    let Some(lab) = Lab::new() else { return };
    policy(&lab, "stat");
    fs::write(lab.directory("tree").join("stray.bin"), "nobody's").unwrap();
    lab.directory("mnt");
    let mut mount =
        lab.attestfs(["mount", "--key", "keys/attestfs.key", "--policy", "policy.toml"]);
    mount.env("ATTESTFS_LOG_FORMAT", "json").args(["tree", "mnt"]).succeed();
    let refused = is_refused(&lab.path("mnt/stray.bin"));
    let log = fs::read_dir(lab.state().join("mounts")).unwrap().map(|it| it.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|it| it == "log")).collect::<Vec<_>>();
    lab.attestfs(["umount", "mnt"]).succeed();
    assert!(refused);
    let log = fs::read_to_string(&log[0]).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().filter(|line| line["message"] == "refused").collect();
    assert_eq!(told.len(), 1, "{log}");
    let told = told[0];
    assert_eq!((&told["path"], &told["level"]), (&"stray.bin".into(), &"WARN".into()), "{told}");
    assert_eq!(told["pid"], std::process::id());
    assert_eq!(told["uid"], rustix::process::geteuid().as_raw());
    assert!(told["reason"].as_str().is_some_and(|reason| reason.len() > 10), "{told}");
    assert!(told["check"].is_u64() && told["next_step"].is_string(), "{told}");
}

/// What the queries of the dashboard ask for is what real processes show.
#[test]
fn every_query_of_the_dashboard_asks_for_what_there_is() {
    let Some(lab) = watched() else { return };
    let (shown_names, shown_labels) = everything_shown(&lab);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/dashboards/attestfs.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 10, "{queries:?}");
    for query in queries {
        let asked = asked(query);
        assert!(!asked.names.is_empty(), "{query}");
        for name in asked.names {
            assert!(shown_names.contains(name), "{name} in {query} is not among {shown_names:?}");
        }
        for label in asked.labels {
            let known = shown_labels.contains(label) || ["instance", "job"].contains(&label);
            assert!(known, "{label} in {query} is not among {shown_labels:?}");
        }
    }
}

/// Names of metrics and labels that a mount, a run and their daemon show when there was some load.
fn everything_shown(lab: &Lab) -> (BTreeSet<String>, BTreeSet<String>) {
    let (_daemon, url) = watched_daemon(lab);
    policy(lab, "rehash");
    fs::write(lab.directory("tree").join("stray.bin"), "nobody's").unwrap();
    let mut run = lab.run("train");
    run.args(["--metrics", "unix:run.sock", "--policy", "policy.toml", "--dir", "tree"]);
    let script = "cat tree/stray.bin || true; printf 12 > tree/out; \
        printf x | dd of=tree/out bs=1 seek=9 conv=notrunc 2>/dev/null; sleep 0.5; \
        curl -sS --unix-socket run.sock http://localhost/metrics";
    let run = Scrape::parse(&run.args(["--", "sh", "-c", script]).succeed());
    let daemon = scrape_url(&url);
    let names = run.names().into_iter().chain(daemon.names()).collect();
    (names, run.labels().into_iter().chain(daemon.labels()).collect())
}

fn queries(dashboard: &Value) -> Vec<&str> {
    match dashboard {
        Value::Array(values) => values.iter().flat_map(queries).collect(),
        Value::Object(members) => {
            let own = members.get("expr").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(queries)).collect()
        }
        _ => Vec::new(),
    }
}

#[derive(Debug, Default, PartialEq)]
struct Asked<'q> {
    names: BTreeSet<&'q str>,
    labels: BTreeSet<&'q str>,
}

/// The metrics and labels of a query: every word that is neither a function nor a keyword.
fn asked(query: &str) -> Asked<'_> {
    const KEYWORDS: [&str; 9] =
        ["by", "without", "on", "ignoring", "group_left", "and", "or", "unless", "bool"];
    const GROUPINGS: [&str; 4] = ["by", "without", "on", "ignoring"];
    let mut asked = Asked::default();
    let (mut rest, mut last, mut among_labels) = (query, "", false);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        match first {
            '"' => rest = rest[1..].split_once('"').unwrap().1,
            '[' => rest = rest.split_once(']').unwrap().1,
            _ if word.is_empty() => {
                among_labels = match first {
                    '{' => true,
                    '(' => GROUPINGS.contains(&last),
                    '}' | ')' => false,
                    _ => among_labels,
                };
                rest = &rest[first.len_utf8()..];
            }
            _ => {
                let next = after.trim_start();
                let is_function = ["(", "by ", "without "].iter().any(|it| next.starts_with(it));
                if among_labels {
                    asked.labels.insert(word);
                } else if !first.is_ascii_digit() && !is_function && !KEYWORDS.contains(&word) {
                    asked.names.insert(word);
                }
                (last, rest) = (word, after);
            }
        }
    }
    asked
}

#[test]
fn what_a_query_asks_for_is_read_as_prometheus_reads_it() {
    let query = r#"histogram_quantile(0.99, sum by (op, le) (rate(a_seconds_bucket{op=~"x|y"}[5m]))) / on (job) b"#;
    let expected =
        Asked { names: ["a_seconds_bucket", "b"].into(), labels: ["job", "le", "op"].into() };
    assert_eq!(asked(query), expected);
    assert_eq!(asked("sum(unknown) > 3").names, ["unknown"].into());
}
