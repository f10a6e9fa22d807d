use std::{ffi::OsString, fs::File, os::unix::ffi::OsStringExt};

use crate::tool::Tool;

/// Each is one name of a file.
const HOSTILE: [&[u8]; 9] = [
    b"plain",
    b"with space",
    b"new\nline",
    b"back\\slash",
    b"carriage\rreturn",
    b"\\n",
    b"not utf8 \xff\xfe",
    "\u{e9}\u{202e}x".as_bytes(),
    b"* binary?",
];

fn hostile_files(tool: &Tool) -> Vec<OsString> {
    let names: Vec<_> = HOSTILE.iter().map(|name| OsString::from_vec(name.to_vec())).collect();
    for (length, name) in names.iter().enumerate() {
        tool.write(name, vec![b'x'; length * 70_000]);
    }
    names
}

#[test]
fn lines_are_those_of_sha256sum() {
    let tool = Tool::new();
    let names = hostile_files(&tool);
    let theirs = tool.other("sha256sum", &names).is(0);
    let sha256 = ["digest", "--algorithm", "sha256"].map(OsString::from);
    let ours = tool.run(sha256.iter().chain(&names)).is(0);
    assert_eq!(ours.text(), theirs.text());
    assert_eq!(ours.stdout, theirs.stdout);
    tool.write("sums", &ours.stdout);
    tool.other("sha256sum", ["--check", "--strict", "sums"]).is(0);
}

#[test]
fn blake3_has_the_same_lines_and_the_numbers_of_the_library() {
    let tool = Tool::new();
    for length in [0, 1, 1023, 1024, 1025, 65_536, 65_537, 2_000_000] {
        let content = vec![b'y'; length];
        tool.write("file", &content);
        let line = format!("{}  file\n", blake3::hash(&content));
        assert_eq!(tool.run(["digest", "file"]).is(0).text(), line, "{length}");
    }
    tool.write("new\nline", "");
    let escaped = format!("\\{}  new\\nline\n", blake3::hash(b""));
    assert_eq!(tool.run(["digest", "new\nline"]).is(0).text(), escaped);
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_is_hashed() {
    let tool = Tool::new();
    tool.write("directory/file", "");
    tool.write("file", "");
    let answer = tool.run(["digest", "directory", "missing", "/dev/null", "file"]).is(1);
    assert_eq!(answer.text(), format!("{}  file\n", blake3::hash(b"")));
    let complaints: Vec<_> = answer.stderr.lines().collect();
    assert_eq!(complaints[0], "attestfs: directory: Is a directory");
    assert!(complaints[1].starts_with("attestfs: missing: No such file"), "{answer:?}");
    assert!(complaints[2].starts_with("attestfs: /dev/null: not a regular file"), "{answer:?}");
}

#[test]
fn programs_get_all_digests_and_errors_in_one_object() {
    let tool = Tool::new();
    tool.write("file", "x");
    let answer = tool.run(["digest", "--json", "file", "missing"]).is(1).json();
    assert_eq!(answer["digests"][0]["path"], "file");
    assert_eq!(answer["digests"][0]["algorithm"], "blake3");
    assert_eq!(answer["digests"][0]["digest"], blake3::hash(b"x").to_string());
    assert_eq!(answer["digests"][0]["size"], 1);
    assert_eq!(answer["errors"][0]["path"], "missing");
}

#[test]
fn holes_are_zeros() {
    let tool = Tool::new();
    File::create(tool.path("hole")).unwrap().set_len(5 << 20).unwrap();
    let theirs = tool.other("sha256sum", ["hole"]).is(0);
    let ours = tool.run(["digest", "--algorithm", "sha256", "hole"]).is(0);
    assert_eq!(ours.stdout, theirs.stdout);
}
