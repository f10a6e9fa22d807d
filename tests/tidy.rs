//! Rules of this repository that no compiler checks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The rooms, in the order in which they may import each other: only from left to right.
const ROOMS: [&str; 5] =
    ["attestfs-digest", "attestfs-attestation", "attestfs-fs", "attestfs-daemon", "attestfs"];

/// What the filesystem promises, each promise emphasized.
const PROMISES: &str = "fs/DESIGN.md";

/// Left by builds, tests and version control.
const NOT_OURS: [&str; 3] = [".git", "target", "proptest-regressions"];

#[test]
fn imports_run_one_way() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some(own) = room(name) else { panic!("{name} is none of the rooms: add it there") };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let allowed = room(other).is_none_or(|other| other < own);
            assert!(allowed, "{name} must not import {other}: {}", ROOMS.join(" <- "));
        }
    }
}

#[test]
fn only_the_fuse_adapter_names_the_fuse_library() {
    let room = |file: &Path| file == "fs/src/fuse.rs" || file.starts_with("fs/src/fuse");
    check_named_only("fuser", room);
}

#[test]
fn only_the_lineage_folder_names_the_database() {
    check_named_only("sled", |file| file.starts_with("daemon/src/lineage"));
}

#[test]
fn every_dependency_has_a_reason() {
    for manifest in files("toml").into_iter().filter(|file| file.ends_with("Cargo.toml")) {
        for line in dependency_lines(&read(&manifest)) {
            let inherited =
                line.contains(".workspace = true") || line.contains("{ workspace = true");
            let room = line.starts_with("attestfs-");
            let reason =
                line.split_once(" # ").is_some_and(|(_, reason)| !reason.trim().is_empty());
            assert!(
                inherited || room || reason,
                "{}: say in a comment why this is needed: {line}",
                manifest.display()
            );
        }
    }
}

#[test]
fn every_markdown_page_has_one_title_and_it_is_the_first_line() {
    for page in files("md") {
        let text = read(&page);
        let titles: Vec<_> = outside_code(&text).filter(|line| line.starts_with("# ")).collect();
        assert_eq!(titles.len(), 1, "{}: {titles:?}", page.display());
        assert!(text.starts_with("# "), "{}: the title comes first", page.display());
    }
}

#[test]
fn what_the_filesystem_promises_has_a_test_of_the_same_words() {
    let tests = tests_in(Path::new(""));
    for promise in emphasized(&read(Path::new(PROMISES))) {
        let is_tested = tests.iter().any(|(_, test)| stands_in(&promise, test));
        assert!(is_tested, "{PROMISES}: no test is called {promise}, or by these words and more");
    }
}

#[test]
fn each_test_of_what_the_filesystem_promises_is_promised() {
    let promises = emphasized(&read(Path::new(PROMISES)));
    for (file, test) in tests_in(Path::new("tests/semantics")) {
        let is_promised = promises.iter().any(|promise| stands_in(promise, &test));
        assert!(is_promised, "{}: {PROMISES} does not promise that {test}", file.display());
    }
}

#[test]
fn no_file_names_a_place_on_the_machine_of_its_author() {
    let places = [concat!("/", "work/"), concat!("/", "root/")];
    for file in every_file() {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let place = places.iter().find(|place| line.contains(**place));
            assert!(place.is_none(), "{}:{}: {line}", file.display(), number + 1);
        }
    }
}

/// Code that names the library `name` may stand only in files for which `allowed` holds.
fn check_named_only(name: &str, allowed: impl Fn(&Path) -> bool) {
    let (path, import) = (format!("{name}::"), format!("use {name}"));
    let mut found = false;
    for file in files("rs").into_iter().filter(|file| file != Path::new("tests/tidy.rs")) {
        for line in read(&file).lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
        {
            if line.contains(&path) || line.starts_with(&import) {
                assert!(allowed(&file), "{} names {name}: {line}", file.display());
                found = true;
            }
        }
    }
    assert!(found, "nothing names {name} any more: this rule looks for something else");
}

/// What a page emphasizes, spelled as the name of a test is. A single word is a term.
fn emphasized(page: &str) -> Vec<String> {
    let prose: Vec<_> = outside_code(page).collect();
    let prose = prose.join(" ").replace(" * ", " ");
    // A star in a piece of code emphasizes nothing.
    let pieces = prose.split('`').enumerate();
    let prose: String = pieces
        .map(|(at, piece)| if at % 2 == 0 { piece.into() } else { piece.replace('*', "") })
        .collect();
    let names = prose.split('*').skip(1).step_by(2).map(as_name);
    names.filter(|name| name.contains('_')).collect()
}

fn as_name(words: &str) -> String {
    let words = words.to_lowercase().replace('\'', "");
    let words = words.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// Whether the words of a promise are the name of a test, or a part of it: a sentence may say the rest.
fn stands_in(promise: &str, test: &str) -> bool {
    format!("_{test}_").contains(&format!("_{promise}_"))
}

/// The tests in the files of a directory, by name.
fn tests_in(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut tests = Vec::new();
    for file in files("rs").into_iter().filter(|file| file.starts_with(directory)) {
        let text = read(&file);
        let mut lines = text.lines().map(str::trim);
        while lines.any(|line| line == "#[test]") {
            let name = lines.find_map(|line| line.strip_prefix("fn ")?.split_once('('));
            let (name, _) =
                name.unwrap_or_else(|| panic!("{}: a test is a function", file.display()));
            tests.push((file.clone(), name.to_owned()));
        }
    }
    tests
}

/// The packages of the workspace, as cargo reads their manifests.
fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(root());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn room(name: &str) -> Option<usize> {
    ROOMS.iter().position(|room| *room == name)
}

/// The entries of all sections that list dependencies.
fn dependency_lines(manifest: &str) -> impl Iterator<Item = &str> {
    let mut among_dependencies = false;
    manifest.lines().filter(move |line| {
        if line.starts_with('[') {
            among_dependencies = line.trim_end().ends_with("dependencies]");
            return false;
        }
        among_dependencies && !line.is_empty() && !line.starts_with('#')
    })
}

/// The lines of a Markdown page that are not in a fenced block.
fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The files with this extension, relative to the root.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut files = every_file();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    assert!(!files.is_empty(), "no .{extension} file");
    files
}

fn every_file() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new(""), &mut files);
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (directory.join(entry.file_name()), entry.file_type().unwrap());
        if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            collect(&path, files);
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
