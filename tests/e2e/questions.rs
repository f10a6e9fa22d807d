//! What people ask about a path or a run, of a state that knows more than that.

use std::fs;

use serde_json::Value;

use crate::{
    evidence::Bundle,
    lab::{Finish, Lab},
};

/// Two runs wrote the same bytes: one as `pa/g/w`, and another, which failed afterwards, as
/// `pb/g/zz`.
fn same_content_twice() -> Option<Lab> {
    let lab = Lab::new()?;
    lab.shell(&lab.directory("pa").to_string_lossy(), "mkdir g && echo same > g/w").succeed();
    let failing = "mkdir g && echo same > g/zz && exit 7";
    assert_eq!(lab.shell(&lab.directory("pb").to_string_lossy(), failing).finish().code, Some(7));
    Some(lab)
}

#[test]
fn a_path_is_answered_with_its_own_attestation_and_the_others_are_listed() {
    let Some(lab) = same_content_twice() else { return };
    for (path, named, other) in [("pa/g/w", "g/w", "g/zz"), ("pb/g/zz", "g/zz", "g/w")] {
        let exported = Bundle::parse(&lab.attestfs(["attestation", "export", path]).succeed());
        assert_eq!(exported.statement["subject"][0]["name"], named);
        let shown = lab.attestfs(["attestation", "show", path]).succeed();
        let line = |head: &str| shown.lines().find(|line| line.starts_with(head)).unwrap();
        assert!(line("speaks of ").contains(path), "{shown}");
        assert!(line("another ").contains(other), "{shown}");
        assert!(line("another ").contains("(same content, elsewhere)"), "{shown}");
        let id = line("another ").split_whitespace().nth(1).unwrap();
        let shown = lab.attestfs(["attestation", "show", id, "--json"]).succeed();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["statement"]["subject"][0]["name"], other);
        let explained = lab.attestfs(["explain", path]).succeed();
        let claims: Vec<_> =
            explained.lines().filter(|line| line.contains("claimed, not checked (")).collect();
        assert_eq!(claims.len(), 2, "{explained}");
        assert!(claims[0].starts_with("claimed"), "{explained}");
        assert!(claims[1].starts_with("same content, elsewhere: "), "{explained}");
    }
    fs::copy(lab.path("pa/g/w"), lab.path("copy")).unwrap();
    let shown = lab.attestfs(["attestation", "show", "copy"]).succeed();
    assert!(shown.contains("pa/g/w (same content, elsewhere), stage 'shell', which succeeded"));
}

#[test]
fn a_run_is_shown_by_the_beginning_of_its_name() {
    let Some(lab) = Lab::new() else { return };
    lab.shell(&lab.directory("tree").to_string_lossy(), "echo 1 > file").succeed();
    let listed = lab.attestfs(["stage", "list", "--json"]).succeed();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let run = listed["runs"][0]["run"]["description"]["id"].as_str().unwrap().to_owned();
    let shown = lab.attestfs(["stage", "show", &run[..8]]).succeed();
    assert!(shown.starts_with(&format!("run        {run}\n")), "{shown}");
    let refused = lab.attestfs(["stage", "show", &run[..7]]).finish();
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[test]
fn a_digest_in_upper_case_is_told_what_it_should_be() {
    let lab = Lab::without_mounts();
    let digest = "AB".repeat(32);
    for question in [&["attestation", "show"][..], &["lineage"]] {
        let refused = lab.attestfs(question.iter().chain([&&*digest])).finish();
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("a digest has lower-case digits"), "{refused:?}");
    }
}
