use std::collections::BTreeMap;

use attestfs_digest::Sha256;
use proptest::prelude::*;

use super::{
    entry::{LINES_MAX, MANIFESTS_MAX, meant, spelt},
    *,
};
use crate::{
    manifest::Manifest,
    name::{escaped, is_canonical},
    provenance::Provenance,
    run::LockUse,
    statement::sha256,
    testing::{commit, content, output},
    verify::Refusal,
};

type Tree = BTreeMap<String, Locked>;

fn locked(text: &str) -> Locked {
    let content = content(text);
    Locked { sha256: content.sha256(), size: content.size }
}

fn tree<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tree {
    files.into_iter().map(|(path, text)| (path.to_owned(), locked(text))).collect()
}

/// `count` files of this directory.
fn many(directory: &str, count: usize) -> Tree {
    (0..count).map(|number| (format!("{directory}{number:05}"), locked("x"))).collect()
}

fn no_manifest(manifest: Sha256) -> Result<Vec<u8>, String> {
    Err(format!("there is no {manifest}"))
}

fn parse(text: &str) -> Result<Lock, LockError> {
    Lock::parse(text.as_bytes(), &mut no_manifest)
}

fn parse_written(written: &WrittenLock) -> Result<Lock, LockError> {
    parse_beside(written.bytes(), written.manifests())
}

fn parse_beside(lock: &[u8], manifests: &[Manifest]) -> Result<Lock, LockError> {
    Lock::parse(lock, &mut |digest| {
        let manifest = manifests.iter().find(|manifest| manifest.sha256() == digest);
        manifest.map(|manifest| manifest.bytes().to_vec()).ok_or_else(|| "not there".to_owned())
    })
}

fn text(written: &WrittenLock) -> &str {
    std::str::from_utf8(written.bytes()).unwrap()
}

/// The lock with these lines after the first one.
fn with(lines: &str) -> String {
    format!("{LOCK_HEADER}\n{lines}")
}

fn line(path: &str, text: &str) -> String {
    let Locked { sha256, size } = locked(text);
    format!("{path} {sha256} {size}\n")
}

fn changed() -> jiff::Timestamp {
    "2026-05-03T12:00:00Z".parse().unwrap()
}

fn check(lock: &Lock, tree: u16, path: &str, text: &str) -> Result<(), Refusal> {
    lock.check(tree, path, &content(text), changed())
}

#[test]
fn a_run_that_opened_nothing_has_a_lock_of_one_line() {
    let written = WrittenLock::of(&[Tree::new()]);
    assert_eq!(text(&written), "# attestfs lock, version 1\n");
    let lock = parse_written(&written).unwrap();
    assert_eq!((lock.trees(), lock.files().count()), (1, 0));
    assert!(matches!(check(&lock, 0, "a", "x"), Err(Refusal::NotLocked { .. })));
}

#[test]
fn what_is_not_in_the_lock_is_refused_by_its_name() {
    let lock = parse_written(&WrittenLock::of(&[tree([("raw/a.csv", "1;2")])])).unwrap();
    let refusal = check(&lock, 0, "raw/b.csv", "1;2").unwrap_err();
    assert_eq!(refusal.to_string(), "raw/b.csv: not in the lock");
    assert_eq!(refusal.check(), (13, "the lock has it"));
    assert!(refusal.next_step().contains("--lock-update"));
    assert!(check(&lock, 1, "raw/a.csv", "1;2").is_err(), "another tree");
    assert!(check(&lock, 0, "raw", "1;2").is_err());
    assert!(check(&lock, 0, "", "1;2").is_err());
}

#[test]
fn another_content_is_refused_with_both_digests_and_the_day_of_the_change() {
    let lock = parse_written(&WrittenLock::of(&[tree([("raw/a.csv", "1;2")])])).unwrap();
    let refusal = check(&lock, 0, "raw/a.csv", "1;3").unwrap_err();
    let (is, was) = (locked("1;3").sha256.to_string(), locked("1;2").sha256.to_string());
    let expected =
        format!("raw/a.csv: locked {}.., is {}.., changed 2026-05-03", &was[..12], &is[..12]);
    assert_eq!(refusal.to_string(), expected);
    assert_eq!(refusal.check().0, 13);
    assert!(refusal.next_step().contains("--lock-update"));
}

#[test]
fn what_is_locked_is_admitted_with_its_content() {
    let files = [("raw/a.csv", "1;2"), ("raw/b c.csv", ""), (r"odd\xff", "y")];
    let lock = parse_written(&WrittenLock::of(&[tree(files)])).unwrap();
    for (path, text) in files {
        check(&lock, 0, path, text).unwrap();
        assert!(lock.has(0, path) && !lock.has(1, path));
    }
}

#[test]
fn lines_are_sorted_by_the_bytes_of_their_paths_and_name_path_digest_and_size() {
    let written =
        WrittenLock::of(&[tree([(r"b\xff", "1"), ("b/a", "22"), ("bé", ""), ("a b", "3")])]);
    let expected = [line("a b", "3"), line("b/a", "22"), line("bé", ""), line(r"b\xff", "1")];
    assert_eq!(text(&written), with(&expected.concat()));
    assert_eq!(parse_written(&written).unwrap().sha256(), sha256(written.bytes()));
}

#[test]
fn a_name_that_would_break_a_line_or_mislead_a_reader_is_spelt_out() {
    let names = ["a\nb", "\u{202e}gpj.exe", "tab\t", "# attestfs lock, version 1", "[dir 1]", " "];
    let written = WrittenLock::of(&[tree(names.map(|name| (name, "x")))]);
    assert!(text(&written).contains("a\\x0ab "), "{}", text(&written));
    assert!(text(&written).contains("\\xe2\\x80\\xaegpj.exe "), "{}", text(&written));
    assert_eq!(text(&written).lines().count(), 1 + names.len());
    let lock = parse_written(&written).unwrap();
    for name in names {
        check(&lock, 0, name, "x").unwrap();
    }
}

#[test]
fn several_trees_have_a_section_each_by_their_position() {
    let written = WrittenLock::of(&[tree([("a", "1")]), Tree::new(), tree([("a", "2")])]);
    let (first, third) = (line("a", "1"), line("a", "2"));
    assert_eq!(text(&written), with(&format!("[dir 1]\n{first}[dir 2]\n[dir 3]\n{third}")));
    let lock = parse_written(&written).unwrap();
    assert_eq!(lock.trees(), 3);
    check(&lock, 0, "a", "1").unwrap();
    check(&lock, 2, "a", "2").unwrap();
    let swapped = check(&lock, 2, "a", "1").unwrap_err();
    assert!(swapped.to_string().starts_with("[dir 3] a: locked "), "{swapped}");
    assert!(check(&lock, 1, "a", "1").is_err());
}

#[test]
fn a_tree_of_one_section_takes_nothing_in_of_another() {
    let written = WrittenLock::of(&[many("raw/", LINES_MAX + 1), tree([("raw/a", "y")])]);
    let lock = parse_written(&written).unwrap();
    check(&lock, 0, "raw/00001", "x").unwrap();
    check(&lock, 1, "raw/a", "y").unwrap();
    assert!(check(&lock, 1, "raw/00001", "x").is_err());
}

#[test]
fn a_directory_of_a_thousand_files_is_listed_and_of_one_more_is_a_tree() {
    let listed = WrittenLock::of(&[many("raw/", LINES_MAX)]);
    assert_eq!(text(&listed).lines().count(), 1 + LINES_MAX);
    assert!(listed.manifests().is_empty());
    let written = WrittenLock::of(&[many("raw/", LINES_MAX + 1)]);
    let [manifest] = written.manifests() else { panic!("one manifest") };
    assert_eq!(text(&written), with(&format!("raw/ tree:{} 1001\n", manifest.sha256())));
    assert!(manifest.bytes().ends_with(b"  01000\n"), "names are relative to the directory");
    for lock in [&listed, &written].map(|written| parse_written(written).unwrap()) {
        check(&lock, 0, "raw/00999", "x").unwrap();
        assert!(matches!(check(&lock, 0, "raw/00999", "y"), Err(Refusal::LockMismatch { .. })));
        assert!(matches!(check(&lock, 0, "raw/new", "x"), Err(Refusal::NotLocked { .. })));
    }
}

#[test]
fn the_deepest_directory_that_needs_it_becomes_a_tree() {
    let mut files = many("raw/images/", LINES_MAX + 1);
    files.extend(many("raw/labels/", LINES_MAX - 1));
    let written = WrittenLock::of(&[files.clone()]);
    assert_eq!(written.manifests().len(), 1);
    let lines: Vec<_> = text(&written).lines().collect();
    assert!(lines[1].starts_with("raw/images/ tree:"), "{}", lines[1]);
    assert_eq!(lines.len(), 1 + 1 + LINES_MAX - 1);
    // One more line, and the directory above them has too many.
    files.insert("raw/readme".to_owned(), locked("x"));
    let written = WrittenLock::of(&[files.clone()]);
    let [manifest] = written.manifests() else { panic!("the manifest below is gone") };
    assert_eq!(manifest.files(), files.len());
    assert_eq!(text(&written), with(&format!("raw/ tree:{} {}\n", manifest.sha256(), files.len())));
    let lock = parse_written(&written).unwrap();
    check(&lock, 0, "raw/readme", "x").unwrap();
    check(&lock, 0, "raw/images/00007", "x").unwrap();
}

#[test]
fn a_whole_tree_can_be_one_line() {
    let mut files = many("", LINES_MAX + 1);
    files.insert("!first".to_owned(), locked("y"));
    let written = WrittenLock::of(&[files]);
    let lines: Vec<_> = text(&written).lines().collect();
    assert!(lines[1].starts_with("./ tree:") && lines.len() == 2, "{lines:?}");
    check(&parse_written(&written).unwrap(), 0, "!first", "y").unwrap();
}

#[test]
fn a_changed_manifest_and_a_missing_one_are_refused() {
    let written = WrittenLock::of(&[many("raw/", LINES_MAX + 1)]);
    let missing = parse_beside(written.bytes(), &[]).unwrap_err();
    assert!(matches!(missing, LockError::NoManifest { number: 2, .. }), "{missing}");
    let changed = Lock::parse(written.bytes(), &mut |_| Ok(b"changed".to_vec())).unwrap_err();
    assert!(matches!(changed, LockError::WrongManifest { number: 2, .. }), "{changed}");
}

#[test]
fn a_manifest_that_does_not_fit_its_line_is_refused() {
    let fault = |manifest: &[u8], files: usize| {
        let line = format!("raw/ tree:{} {files}\n", sha256(manifest));
        let read = &mut |_| Ok(manifest.to_vec());
        match Lock::parse(with(&line).as_bytes(), read) {
            Err(LockError::BadManifest { number: 2, reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let digest = "01".repeat(32);
    let (one, other) = (format!("{digest}  a\n"), format!("{}  a\n", "02".repeat(32)));
    assert_eq!(fault(one.as_bytes(), 2), ManifestFault::Count { expected: 2, found: 1 });
    let twice = fault(format!("{one}{other}").as_bytes(), 2);
    assert_eq!(twice, ManifestFault::Twice { name: "a".to_owned() });
    for name in ["../a", "/a", "a//b", "."] {
        let fault = fault(format!("{digest}  {name}\n").as_bytes(), 1);
        assert_eq!(fault, ManifestFault::Name { name: name.to_owned() });
    }
    assert!(matches!(fault(b"not a manifest", 1), ManifestFault::Form(_)));
}

#[test]
fn what_is_no_lock_is_refused_by_its_first_line() {
    for text in ["", "\n", "# attestfs lock, version 2\n", "# attestfs lock, version 1", "{}"] {
        assert_eq!(parse(text), Err(LockError::Header), "{text:?}");
    }
    let crlf = "# attestfs lock, version 1\r\n";
    assert_eq!(parse(crlf), Err(LockError::LineEnd { number: 1 }));
}

#[test]
fn a_lock_that_is_too_large_is_not_read() {
    let length = LOCK_MAX + 1;
    let read = Lock::parse(&vec![b'\n'; length], &mut no_manifest);
    assert_eq!(read, Err(LockError::TooLarge { length }));
    let read = Lock::parse(&vec![b'\n'; LOCK_MAX], &mut no_manifest);
    assert_eq!(read, Err(LockError::Header));
}

#[test]
fn a_lock_has_no_more_sections_than_trees_have_numbers() {
    let sections = |count: usize| {
        (1..=count).fold(String::new(), |text, number| text + &format!("[dir {number}]\n"))
    };
    let most = usize::from(u16::MAX);
    assert_eq!(parse(&with(&sections(most))).unwrap().trees(), most);
    let number = most + 2;
    assert_eq!(parse(&with(&sections(most + 1))), Err(LockError::Section { number }));
}

#[test]
fn manifests_that_are_too_large_together_are_not_read() {
    let line = format!("raw/ tree:{} 1\n", sha256(b"a"));
    let read = &mut |_| Ok(vec![0; MANIFESTS_MAX + 1]);
    let refused = Lock::parse(with(&line).as_bytes(), read).unwrap_err();
    let LockError::BadManifest { reason, .. } = refused else { panic!("{refused}") };
    assert_eq!(reason, ManifestFault::TooLarge);
}

#[test]
fn a_broken_line_is_refused_by_its_number() {
    let good = line("a", "x");
    let digest = locked("x").sha256.to_string();
    let upper = digest.to_uppercase();
    for bad in [
        "\n".to_owned(),
        "# a comment\n".to_owned(),
        "<<<<<<< HEAD\n".to_owned(),
        format!("b {digest}\n"),
        format!("b {digest} \n"),
        format!("b {digest} +1\n"),
        format!("b {digest} 01\n"),
        format!("b {digest} -1\n"),
        format!("b {digest} 99999999999999999999\n"),
        format!("b {upper} 1\n"),
        format!("b {} 1\n", &digest[1..]),
        format!("b tree:{digest} 1\n"),
        format!("b {digest} 1"),
        "[dir]\n".to_owned(),
        "[dir 01]\n".to_owned(),
    ] {
        let parsed = parse(&with(&format!("{good}{bad}")));
        assert_eq!(parsed, Err(LockError::Line { number: 3 }), "{bad:?}");
    }
    let crlf = line("b", "x").replace('\n', "\r\n");
    assert_eq!(parse(&with(&crlf)), Err(LockError::LineEnd { number: 2 }));
    let mut bytes = with(&good).into_bytes();
    bytes.extend_from_slice(format!("\u{e9} {digest} 1\n").as_bytes());
    let accented = bytes.iter().position(|&byte| byte == 0xc3).unwrap();
    bytes.remove(accented);
    let parsed = Lock::parse(&bytes, &mut no_manifest);
    assert_eq!(parsed, Err(LockError::Line { number: 3 }), "not UTF-8");
}

#[test]
fn a_path_has_one_spelling() {
    for path in [
        "",
        "/a",
        "a//b",
        "../a",
        "a/..",
        ".",
        "a/",
        r"\a",
        r"\x61",
        r"\xC3\xA9",
        r"\xc3\xa9",
        "\u{202e}",
    ] {
        let parsed = parse(&with(&line(path, "x")));
        assert_eq!(parsed, Err(LockError::Path { number: 2 }), "{path:?}");
    }
    let nul = line(r"a\x00b", "x");
    assert_eq!(parse(&with(&nul)), Err(LockError::Path { number: 2 }));
    let digest = locked("x").sha256;
    for directory in ["..", "/", "a//", r"\x61"] {
        let parsed = parse(&with(&format!("{directory}/ tree:{digest} 1\n")));
        assert_eq!(parsed, Err(LockError::Path { number: 2 }), "{directory:?}");
    }
}

#[test]
fn paths_are_sorted_and_each_stands_once() {
    for (one, other) in [("b", "a"), ("a", "a"), ("a/b", "a"), ("b", "a/b")] {
        let parsed = parse(&with(&format!("{}{}", line(one, "x"), line(other, "y"))));
        assert_eq!(parsed, Err(LockError::Order { number: 3 }), "{one} {other}");
    }
}

#[test]
fn what_lies_below_a_tree_has_no_line_of_its_own() {
    let manifest = Manifest::of([("a", locked("x").sha256)]);
    for (directory, path) in [("raw/", "raw/b"), ("raw/", "raw/a/b"), ("./", "b"), ("./", "!")] {
        let tree = format!("{directory} tree:{} 1\n", manifest.sha256());
        let text = with(&format!("{tree}{}", line(path, "x")));
        let parsed = parse_beside(text.as_bytes(), std::slice::from_ref(&manifest));
        assert_eq!(parsed, Err(LockError::Twice { number: 3 }), "{directory} {path}");
    }
    let tree = format!("raw/ tree:{} 1\n", manifest.sha256());
    let text = with(&format!("{}{tree}{}", line("raw", "x"), line("raw0", "x")));
    parse_beside(text.as_bytes(), &[manifest]).unwrap();
}

#[test]
fn sections_are_numbered_and_never_alone() {
    let a = line("a", "x");
    for (text, number) in [
        ("[dir 1]\n".to_owned(), 2),
        (format!("[dir 1]\n{a}"), 3),
        ("[dir 2]\n".to_owned(), 2),
        ("[dir 0]\n".to_owned(), 2),
        (format!("{a}[dir 1]\n"), 3),
        (format!("{a}[dir 2]\n"), 3),
        (format!("{a}[dir 1]\n[dir 2]\n"), 3),
        ("[dir 1]\n[dir 1]\n".to_owned(), 3),
        ("[dir 1]\n[dir 3]\n".to_owned(), 3),
    ] {
        assert_eq!(parse(&with(&text)), Err(LockError::Section { number }), "{text}");
    }
}

#[test]
fn attestations_are_no_data() {
    let lock = parse_written(&WrittenLock::of(&[Tree::new()])).unwrap();
    for path in ["model.sig", "model/claims.jsonl"] {
        check(&lock, 0, path, "x").unwrap();
    }
}

/// A lock with one manifest, lying at `conf/data.lock`: itself, and what its own files hold.
fn lying() -> (Lock, [(String, String); 2]) {
    let written = WrittenLock::of(&[many("raw/", LINES_MAX + 1)]);
    let [manifest] = written.manifests() else { panic!("one manifest") };
    let manifest_path = format!("conf/data.lock.d/{}.manifest", manifest.sha256());
    let listing = String::from_utf8(manifest.bytes().to_vec()).unwrap();
    let own = [("conf/data.lock".to_owned(), text(&written).to_owned()), (manifest_path, listing)];
    (parse_written(&written).unwrap().lying_at(0, "conf/data.lock"), own)
}

#[test]
fn the_lock_and_its_manifests_open_with_the_content_it_was_read_from_and_no_other() {
    let (lock, own) = lying();
    for (path, content) in &own {
        check(&lock, 0, path, content).unwrap();
        assert!(lock.is_own(0, path) && !lock.has(0, path));
        assert!(matches!(check(&lock, 0, path, "x"), Err(Refusal::LockMismatch { .. })), "{path}");
        assert!(check(&lock, 1, path, content).is_err(), "another tree");
    }
}

#[test]
fn what_else_lies_beside_the_manifests_of_a_lock_is_data() {
    let (lock, [(_, content), (manifest, _)]) = lying();
    let other_manifest = format!("conf/data.lock.d/{}.manifest", sha256(b"x"));
    let below = format!("{manifest}/x");
    for path in ["conf/data.lock.d/x", &other_manifest, &below, "conf/data.lock.d", "data.lock"] {
        assert!(matches!(check(&lock, 0, path, "x"), Err(Refusal::NotLocked { .. })), "{path}");
        assert!(check(&lock, 0, path, &content).is_err(), "{path}");
        assert!(!lock.is_own(0, path), "{path}");
    }
}

#[test]
fn differences_are_told_in_the_order_of_the_lock() {
    let lock =
        parse_written(&WrittenLock::of(&[tree([("a", "1"), ("b", "2"), ("d", "4")])])).unwrap();
    assert_eq!(lock.differences(&[tree([("a", "1"), ("b", "2"), ("d", "4")])]), []);
    let told: Vec<_> = lock
        .differences(&[tree([("a", "1"), ("b", "22"), ("c", "3")]), tree([("a", "1")])])
        .iter()
        .map(ToString::to_string)
        .collect();
    let [changed, added, gone, elsewhere] = &*told else { panic!("{told:?}") };
    assert!(changed.starts_with("b: locked ") && changed.contains(", is "), "{changed}");
    assert_eq!(added, "c: opened, not in the lock");
    assert_eq!(gone, "d: locked, not opened");
    assert_eq!(elsewhere, "a: opened, not in the lock");
}

#[test]
fn a_statement_names_the_lock_and_whether_it_was_enforced() {
    let parameters = |lock| {
        let mut stage = commit("train");
        stage.run.lock = lock;
        stage.outputs = vec![output("model.bin", "weights")];
        let statement = stage.draft().unwrap().payload.statement::<Provenance>().unwrap();
        let parameters = statement.predicate.build_definition.external_parameters;
        assert_eq!(parameters.lock, lock);
        serde_json::to_value(parameters).unwrap()
    };
    assert!(parameters(None).get("lock").is_none(), "no lock is no key");
    for enforced in [true, false] {
        let sha256 = sha256(b"a lock");
        let written = parameters(Some(LockUse { sha256, enforced }));
        assert_eq!(written["lock"], serde_json::json!({ "sha256": sha256, "enforced": enforced }));
    }
}

#[test]
fn what_else_a_statement_might_say_of_the_lock_is_refused() {
    let sha256 = sha256(b"a lock");
    let read = |text: String| serde_json::from_str::<LockUse>(&text);
    assert!(read(format!(r#"{{"sha256": "{sha256}", "enforced": true}}"#)).is_ok());
    for other in [r#", "except": "raw""#, r#", "enforced": true"#] {
        assert!(read(format!(r#"{{"sha256": "{sha256}", "enforced": true{other}}}"#)).is_err());
    }
    assert!(read(format!(r#"{{"sha256": "{sha256}"}}"#)).is_err());
}

/// What the lines of a lock bind: sizes are for people.
fn without_sizes(lock: &[u8]) -> Vec<&[u8]> {
    let lines = lock.split(|&byte| byte == b'\n');
    lines.map(|line| line.rsplitn(2, |&byte| byte == b' ').last().unwrap_or_default()).collect()
}

fn any_path() -> impl Strategy<Value = String> {
    let component = prop_oneof!["[a-c]", "[a-c \\n\\\\#é]{1,3}", "[\\x00-\\x7f]{1,2}"];
    let path = prop::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"));
    path.prop_map(|path| escaped(path.as_bytes())).prop_filter("a path", |path| is_canonical(path))
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let locked = (any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(digest, size)| Locked { sha256: Sha256(digest), size });
    prop::collection::btree_map(any_path(), locked, 0..20)
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(trees in prop::collection::vec(any_tree(), 1..4)) {
        let written = WrittenLock::of(&trees);
        let lock = parse_written(&written).unwrap();
        prop_assert_eq!(lock.trees(), trees.len());
        prop_assert_eq!(lock.differences(&trees), []);
        let count: usize = trees.iter().map(BTreeMap::len).sum();
        prop_assert_eq!(lock.files().count(), count);
        prop_assert_eq!(lock.sha256(), written.sha256());
    }

    #[test]
    fn no_directory_takes_more_lines_than_it_may(tree in any_tree(), lines_max in 1..6usize) {
        let trees = [tree];
        let written = WrittenLock::within(&trees, lines_max);
        prop_assert_eq!(parse_written(&written).unwrap().differences(&trees), []);
        let lines: Vec<_> = without_sizes(written.bytes()).into_iter().skip(1).collect();
        let above = |path: &'_ String| -> Vec<String> {
            path.match_indices('/').map(|(end, _)| path[..=end].to_owned()).collect()
        };
        for directory in trees[0].keys().flat_map(above) {
            let below = lines.iter().filter(|line| line.starts_with(spelt(&directory).as_bytes()));
            prop_assert!(below.count() <= lines_max, "{directory}");
        }
        let ends = lines.iter().filter(|line| line.is_empty()).count();
        prop_assert!(lines.len() - ends <= lines_max);
    }

    #[test]
    fn a_changed_lock_is_refused_or_means_something_else(
        trees in prop::collection::vec(any_tree(), 1..3),
        at: u16,
        byte: u8,
    ) {
        let written = WrittenLock::of(&trees).bytes().to_vec();
        let mut changed = written.clone();
        let at = usize::from(at) % changed.len();
        changed[at] = byte;
        if let Ok(lock) = Lock::parse(&changed, &mut no_manifest) {
            let means_the_same = lock.differences(&trees).is_empty();
            prop_assert_eq!(means_the_same, without_sizes(&changed) == without_sizes(&written));
        }
    }

    #[test]
    fn every_path_is_spelt_in_one_way_and_read_back(bytes: Vec<u8>) {
        let path = escaped(&bytes);
        let text = spelt(&path);
        prop_assert!(!text.chars().any(char::is_control));
        prop_assert_eq!(meant(&text), Some(path));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        drop(Lock::parse(&bytes, &mut no_manifest));
        let mut after_the_header = format!("{LOCK_HEADER}\n").into_bytes();
        after_the_header.extend_from_slice(&bytes);
        drop(Lock::parse(&after_the_header, &mut no_manifest));
    }

    #[test]
    fn arbitrary_lines_never_panic(
        lines in prop::collection::vec(
            "[a-c/. ]{0,4} (tree:)?[0-9a-f]{64} [0-9]{1,3}|\\[dir [0-3]\\]",
            0..6,
        ),
    ) {
        let text = with(&(lines.join("\n") + "\n"));
        drop(Lock::parse(text.as_bytes(), &mut |_| Ok(Vec::new())));
    }
}
