use crate::tool::Tool;

#[test]
fn every_line_is_yes_no_or_not_used_and_a_no_says_what_to_do() {
    if cfg!(not(feature = "mount")) {
        println!("skipped: this build has no filesystem");
        return;
    }
    let tool = Tool::new();
    let answer = tool.run(["doctor", "--json"]);
    let json = answer.json();
    let findings = json["findings"].as_array().unwrap();
    let missing: Vec<_> = findings.iter().filter(|finding| finding["state"] == "missing").collect();
    assert_eq!(answer.code, if missing.is_empty() { 0 } else { 3 }, "{answer:?}");
    assert!(missing.iter().all(|finding| finding["nextStep"].is_string()), "{answer:?}");
    let subjects: Vec<_> = findings.iter().map(|it| it["subject"].as_str().unwrap()).collect();
    let asked = ["kernel", "/dev/fuse", "mounting", "open files", "passthrough", "cgroup", "GPU"];
    for subject in asked.into_iter().chain(["TEE"]) {
        assert!(subjects.contains(&subject), "{subject}");
    }
    let text = tool.run(["doctor"]).is(answer.code).text();
    assert!(text.lines().count() >= findings.len(), "{text}");
}

#[test]
fn a_state_that_others_can_write_to_is_a_no() {
    use std::{fs, os::unix::fs::PermissionsExt};
    if cfg!(not(feature = "mount")) {
        println!("skipped: this build has no filesystem");
        return;
    }
    let tool = Tool::new();
    fs::create_dir(tool.path("state")).unwrap();
    fs::set_permissions(tool.path("state"), fs::Permissions::from_mode(0o777)).unwrap();
    let text = tool.run(["doctor"]).is(3).text();
    assert!(text.contains("NO  state"), "{text}");
    assert!(text.contains("may be written by others"), "{text}");
}

#[test]
fn the_limit_of_open_files_is_told_with_what_it_bounds() {
    if cfg!(not(feature = "mount")) {
        println!("skipped: this build has no filesystem");
        return;
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let text = Tool::new().run(["doctor"]).text();
    let line = text.lines().find(|line| line.contains("open files")).unwrap();
    let named = limit.map_or_else(|| "no hard limit".to_owned(), |limit| limit.to_string());
    assert!(line.contains(&named), "{line}");
}

#[test]
fn asking_leaves_nothing_behind() {
    let tool = Tool::new();
    tool.run(["doctor"]);
    assert!(!tool.path("state").exists());
}
