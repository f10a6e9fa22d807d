//! `policy check`, and `verify --policy`.

use std::{fs, os::unix::fs::symlink};

use serde_json::Value;

use crate::tool::{Answer, Tool};

const SIGNED: &str = r#"version = 1
[signers.trainer]
key = "keys/attestfs.pub"
[[rule]]
paths = ["**/*.pkl"]
refuse = "pickle runs code"
[[rule]]
paths = ["**/*.bin", "**/*.json"]
level = "rehash"
"#;

fn with_policy(text: &str) -> Tool {
    let tool = Tool::with_signed_model();
    tool.write("policy.toml", text);
    tool
}

fn verify(tool: &Tool, arguments: &[&str]) -> Answer {
    tool.run(["verify"].iter().chain(arguments).chain(&["--policy", "policy.toml"]))
}

#[test]
fn a_policy_with_an_unknown_key_is_refused_by_its_line() {
    let tool = with_policy("version = 1\n[[rule]]\npath = [\"**\"]\n");
    let check = || tool.run(["policy", "check", "policy.toml"]);
    check().is(1).says("line 3: unknown key 'path' in rule 1: did you mean 'paths'?");
    verify(&tool, &["model"]).is(1).says("line 3: unknown key 'path'");
    tool.write("policy.toml", [0xff]);
    check().is(1).says("no text in UTF-8");
}

#[test]
fn a_policy_or_a_key_that_is_not_there_is_named() {
    let tool = with_policy(&SIGNED.replace("attestfs.pub", "other.pub"));
    tool.run(["policy", "check", "missing.toml"]).is(3).says("missing.toml: No such file");
    tool.run(["policy", "check", "keys"]).is(3).says("Is a directory");
    let words = "line 3: signers.trainer names the file 'keys/other.pub': No such file";
    tool.run(["policy", "check", "policy.toml"]).is(1).says(words);
    tool.run(["policy", "check"]).is(2);
}

#[test]
fn the_files_that_a_policy_names_lie_beside_it() {
    let tool = with_policy("");
    tool.write("elsewhere/policy.toml", SIGNED.replace("keys/", "../keys/"));
    tool.run(["policy", "check", "elsewhere/policy.toml"]).is(0);
}

#[test]
fn a_policy_is_shown_as_it_is_understood() {
    let tool = with_policy(SIGNED);
    let paths = ["a/b.json", "x.pkl", "README"];
    let check = || ["policy", "check", "policy.toml"].into_iter().chain(paths);
    let text = tool.run(check()).is(0).text();
    for line in [
        "rule 1  refuse  **/*.pkl             pickle runs code",
        "rule 2  rehash  **/*.bin **/*.json  signed by trainer",
        "a/b.json  rule 2",
        "x.pkl     rule 1",
        "README    not guarded",
    ] {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_shown = text.lines().any(|it| it.split_whitespace().eq(words.iter().copied()));
        assert!(is_shown, "{line}: {text}");
    }
    let json = tool.run(check().chain(["--json"])).is(0).json();
    assert_eq!((&json["mode"], &json["signers"][0]), (&"enforce".into(), &"trainer".into()));
    assert_eq!(
        (&json["rules"][0]["level"], &json["rules"][1]["level"]),
        (&().into(), &"rehash".into())
    );
    assert_eq!(json["paths"][2]["rule"], Value::Null);
    tool.run(["policy", "check", "policy.toml", "/model/a"]).is(2).says("relative to a mount");
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let tool = with_policy(&format!("{SIGNED}[[rule]]\npaths = ['**/*.bin']\nrefuse = 'x'"));
    let text = tool.run(["policy", "check", "policy.toml"]).is(0).text();
    assert!(text.contains("warning: line 10: rule 3 never decides about '**/*.bin'"), "{text}");
}

#[test]
fn the_ready_policies_can_be_used() {
    let ready = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/policies");
    for entry in fs::read_dir(ready).unwrap() {
        let policy = entry.unwrap().path();
        let tool = Tool::with_model();
        let text = fs::read_to_string(&policy).unwrap();
        for name in ["trainer", "alice", "bob"] {
            fs::create_dir(tool.path(name)).unwrap();
            tool.run(["keygen", "--out", name]).is(0);
            fs::copy(tool.path(name).join("attestfs.pub"), tool.path(format!("{name}.pub")))
                .unwrap();
        }
        let authority = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=CA",
            "-keyout",
            "ca.key",
            "-out",
            "hub-ca.pem",
        ];
        assert_eq!(tool.other("openssl", authority).code, 0);
        tool.write("policy.toml", text);
        tool.run(["policy", "check", "policy.toml"]).is(0);
    }
}

#[test]
fn a_signed_directory_is_judged_as_a_mount_would() {
    let tool = with_policy(SIGNED);
    let text = verify(&tool, &["model"]).is(0).text();
    assert!(text.contains("model: 2 files admitted by the policy"), "{text}");
    assert!(text.contains("1 file that no rule has would open unchecked"), "{text}");
    assert!(text.contains("not checked: whether something newer"), "{text}");
    let json = verify(&tool, &["model", "--json"]).is(0).json();
    assert_eq!(json["files"][0]["name"], "config.json");
    assert_eq!(json["files"][0]["signers"][0], "trainer");
    assert_eq!(json["unguarded"], 1);
}

#[test]
fn what_the_policy_refuses_is_refused_by_its_check() {
    let tool = with_policy(SIGNED);
    tool.write("model/sub/weights.bin", "changed");
    let refused = |path: &str| verify(&tool, &[path]).is(1);
    refused("model").says("check 8, ").says("'sub/weights.bin' was changed");
    tool.write("model/data.pkl", "");
    refused("model/data.pkl")
        .says("check 11, ")
        .says("rule 1 refuses 'data.pkl': pickle runs code");
    refused("model").says("1 more file is refused");
    tool.write("model/other.json", "{}");
    refused("model/other.json").says("check 1, ");
    let json = verify(&tool, &["model/data.pkl", "--json"]).is(1).json();
    assert_eq!(json["error"]["check"], 11);
}

#[test]
fn every_file_that_the_policy_refuses_is_named() {
    let tool = with_policy(SIGNED);
    tool.write("model/z.pkl", "");
    tool.write("model/b.json", "{}");
    let json = verify(&tool, &["model", "--json"]).is(1).json();
    let told = |field: &str| -> Vec<_> {
        let refused = json["error"]["refused"].as_array().unwrap().iter();
        refused.map(|file| file[field].clone()).collect()
    };
    assert_eq!(told("name"), ["b.json", "z.pkl"]);
    assert_eq!(told("rule"), [2, 1]);
    assert_eq!(told("check"), [1, 11]);
    assert!(told("message")[1].as_str().unwrap().contains("pickle runs code"), "{json}");
    assert!(told("nextStep").iter().all(Value::is_string), "{json}");
    assert_eq!(json["error"]["check"], 1, "the first of them");
    verify(&tool, &["model"])
        .is(1)
        .says("refused: b.json: check 1")
        .says("refused: z.pkl: check 11");
    let explained = tool.run(["explain", "model", "--policy", "policy.toml"]).is(1).text();
    assert!(explained.contains("refused    z.pkl: check 11, "), "{explained}");
    (0..30).for_each(|number| tool.write(format!("model/more-{number:02}.pkl"), ""));
    let many = verify(&tool, &["model"]).is(1).says("31 more files are refused");
    assert!(many.stderr.contains("refused: more-18.pkl: ") && !many.stderr.contains("more-19"));
    assert!(many.stderr.ends_with("refused: .. and 12 more\n"), "{}", many.stderr);
    let json = verify(&tool, &["model", "--json"]).is(1).json();
    assert_eq!(json["error"]["refused"].as_array().unwrap().len(), 32, "all of them");
}

/// A cache of models: its files are called after digests, and their names are links.
fn with_cache() -> Tool {
    let tool = with_policy(SIGNED);
    tool.write("cache/blobs/9f2c", "weights");
    tool.write("cache/blobs/41aa", "no rule has any name of it");
    fs::create_dir_all(tool.path("cache/snapshots/1")).unwrap();
    let link = |text: &str, path: &str| symlink(text, tool.path(path)).unwrap();
    link("../../blobs/9f2c", "cache/snapshots/1/weights.bin");
    link("../../blobs/41aa", "cache/snapshots/1/readme.txt");
    tool
}

#[test]
fn a_file_at_rest_is_guarded_by_the_names_of_links_that_lead_to_it() {
    let tool = with_cache();
    let refused = |path: &str| verify(&tool, &[path, "--tree", "cache"]).is(1);
    for path in ["cache", "cache/snapshots", "cache/snapshots/1/weights.bin", "cache/blobs/9f2c"] {
        refused(path).says("check 1, ").says("'snapshots/1/weights.bin'");
    }
    let json = verify(&tool, &["cache", "--json"]).is(1).json();
    assert_eq!(json["error"]["refused"][0]["name"], "snapshots/1/weights.bin", "{json}");
    assert_eq!(json["error"]["refused"].as_array().unwrap().len(), 1);
    refused("cache/blobs/41aa").says("no rule of the policy has");
    let sign = ["sign", "cache", "--key", "keys/attestfs.key", "--ignore-paths", "cache/snapshots"];
    tool.run(sign).is(0);
    for path in ["cache", "cache/snapshots/1"] {
        let json = verify(&tool, &[path, "--tree", "cache", "--json"]).is(0).json();
        assert_eq!(json["files"][0]["name"], "snapshots/1/weights.bin", "by either name");
        assert_eq!((&json["files"].as_array().unwrap().len(), &json["unguarded"]), (&1, &1.into()));
    }
    tool.write("cache/blobs/9f2c", "changed");
    verify(&tool, &["cache"]).is(1).says("check 8, ").says("'blobs/9f2c' was changed");
}

#[test]
fn what_a_guarded_link_to_a_directory_leads_to_is_guarded_at_rest() {
    let tool = with_policy("version = 1\n[[rule]]\npaths = ['latest/**']\nrefuse = 'not yet'\n");
    tool.write("tree/v2/w", "weights");
    symlink("v2", tool.path("tree/latest")).unwrap();
    verify(&tool, &["tree"]).is(1).says("rule 1 refuses 'latest/w': not yet");
    verify(&tool, &["tree/v2", "--tree", "tree"]).is(1).says("rule 1 refuses 'latest/w'");
}

#[test]
fn a_guarded_link_at_rest_does_not_lead_out_of_the_tree() {
    for text in ["../keys/attestfs.pub", "up/w", "/nowhere", "d/../w"] {
        let tool = with_policy(SIGNED);
        tool.write("tree/w", "");
        fs::create_dir(tool.path("tree/d")).unwrap();
        symlink("..", tool.path("tree/up")).unwrap();
        symlink(text, tool.path("tree/w.bin")).unwrap();
        symlink(text, tool.path("tree/w.txt")).unwrap();
        let json = verify(&tool, &["tree", "--json"]).is(1).json();
        let refused = json["error"]["refused"].as_array().unwrap();
        assert!(refused.iter().all(|file| file["name"] == "w.bin"), "{text}: {json}");
        verify(&tool, &["tree"]).is(1).says("'w.bin' is a link out of the tree");
    }
}

#[test]
fn no_link_is_followed_to_what_travels_with_a_directory_at_rest() {
    let tool = with_policy(SIGNED);
    verify(&tool, &["model"]).is(0);
    fs::rename(tool.path("model/model.sig"), tool.path("elsewhere.sig")).unwrap();
    symlink("../elsewhere.sig", tool.path("model/model.sig")).unwrap();
    verify(&tool, &["model/config.json"]).is(1).says("check 1, ");
}

#[test]
fn a_publication_is_guarded_at_rest_by_the_names_of_links_to_it() {
    let tool = with_policy(SIGNED);
    tool.write("tree/claims.jsonl", "");
    symlink("claims.jsonl", tool.path("tree/w.bin")).unwrap();
    verify(&tool, &["tree"]).is(1).says("check 1, ");
}

#[test]
fn in_audit_mode_it_is_said_that_a_refused_file_would_open() {
    let audit = "open it all the same";
    let tool = with_policy(SIGNED);
    tool.write("model/other.json", "{}");
    let refused = |tool: &Tool| verify(tool, &["model"]).is(1);
    assert!(!refused(&tool).stderr.contains(audit));
    tool.write("policy.toml", format!("mode = \"audit\"\n{SIGNED}"));
    refused(&tool).says("check 1, ").says("the mode is audit: a mount would tell it").says(audit);
    verify(&tool, &["model/config.json"]).is(0);
}

#[test]
fn a_signer_whom_the_policy_does_not_know_is_named_with_what_to_do() {
    let tool = with_policy(&SIGNED.replace("keys/", "others/"));
    fs::create_dir(tool.path("others")).unwrap();
    tool.run(["keygen", "--out", "others"]).is(0);
    let hint = tool.other("sha256sum", ["keys/attestfs.pub"]).is(0).text()[..64].to_owned();
    verify(&tool, &["model/config.json"])
        .is(1)
        .says(&format!("signed by {hint}, which this policy does not know"))
        .says("add it under [signers]");
}

#[test]
fn what_no_rule_has_is_not_said_to_be_admitted() {
    let tool = with_policy(SIGNED);
    verify(&tool, &["model/empty"]).is(1).says("no rule of the policy has").says("open unchecked");
}

#[test]
fn what_publications_leave_beside_content_is_guarded_by_no_rule() {
    let everything = SIGNED.replace(r#""**/*.bin", "**/*.json""#, r#""**""#);
    let tool = with_policy(&everything);
    tool.write("model/sub/claims.jsonl", "");
    let text = verify(&tool, &["model"]).is(0).text();
    assert!(text.contains("model: 3 files admitted by the policy"), "{text}");
}

#[test]
fn paths_are_relative_to_the_tree_and_nothing_outside_counts() {
    let tool = with_policy(&SIGNED.replace("**/*.json", "model/*.json"));
    verify(&tool, &["model/config.json"]).is(1).says("no rule of the policy has");
    verify(&tool, &["model/config.json", "--tree", "."]).is(0);
    verify(&tool, &["model/sub/weights.bin", "--tree", "model"]).is(0);
    for tree in [&[][..], &["--tree", "model/sub"]] {
        let file = ["model/sub/weights.bin"];
        verify(&tool, &[&file[..], tree].concat()).is(1).says("check 1, ");
    }
    verify(&tool, &["model", "--tree", "keys"]).is(2).says("does not lie below");
}

#[test]
fn a_policy_names_its_own_signers() {
    let tool = with_policy(SIGNED);
    for other in ["--key", "--bundle", "--cert-chain"] {
        verify(&tool, &["model", other, "keys/attestfs.pub"]).is(2).says("cannot be used with");
    }
    tool.run(["verify", "model", "--key", "keys/attestfs.pub", "--tree", "."]).is(2);
}
