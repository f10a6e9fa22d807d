//! What is genuine, and not what should be there now.

use super::*;

const FILE: &str = "/data/model/model.bin";

#[test]
fn an_older_publication_is_refused_once_a_newer_one_is_known() {
    let mut bench = Bench::new();
    let old = bench.publish(&trained("OLD"), "trainer");
    bench.judge("", FILE, "OLD").unwrap();
    let new = bench.publish(&trained("NEW"), "trainer");
    bench.judge("", FILE, "NEW").unwrap();
    let verdict = bench.judge("", FILE, "OLD");
    let name = "model/model.bin".to_owned();
    assert_eq!(verdict, Err(Refusal::Superseded { name, attestation: old, by: new }));
    refused(verdict, 12, "something newer in its place");
}

#[test]
fn an_older_publication_is_refused_with_all_that_travelled_with_it() {
    let mut bench = Bench::new();
    let files = [("model.bin", "OLD")];
    bench.publish(&trained("OLD"), "trainer");
    bench.publishes_model("/data/model", &files, "trainer");
    bench.judge("", FILE, "OLD").unwrap();
    let new = [("model.bin", "NEW")];
    bench.publish(&trained("NEW"), "trainer");
    bench.publishes_model("/data/model", &new, "trainer");
    bench.judge("", FILE, "NEW").unwrap();
    // The attacker puts back the file, its signature and its claims.
    bench.signs("/data/model", &files, "trainer");
    refused(bench.judge("", FILE, "OLD"), 12, "something newer");
    let old = bench.bundle(&trained("OLD"), "trainer");
    bench.travels("/data/model", vec![old]);
    refused(bench.judge("", FILE, "OLD"), 12, "something newer");
}

#[test]
fn what_was_published_again_later_is_the_newest() {
    let mut bench = Bench::new();
    for weights in ["A", "B", "A"] {
        bench.publish(&trained(weights), "trainer");
    }
    bench.judge("", FILE, "A").unwrap();
    refused(bench.judge("", FILE, "B"), 12, "something newer");
}

#[test]
fn a_store_that_did_not_publish_it_has_nothing_to_say() {
    let mut bench = Bench::new();
    let elsewhere = bench.bundle(&trained("OTHER"), "trainer");
    bench.publish(&trained("NEW"), "trainer");
    bench.travels("/data/model", vec![elsewhere]);
    bench.judge("", FILE, "OTHER").unwrap();
}

#[test]
fn of_model_signatures_the_newest_counts() {
    let mut bench = Bench::new();
    let rule = r#"kinds = ["model-signing"]"#;
    let files = [("model.bin", "W")];
    bench.publishes_model("/data/model", &files, "trainer");
    bench.judge(rule, FILE, "W").unwrap();
    bench.publishes_model("/data/model", &[("model.bin", "W"), ("config.json", "{}")], "trainer");
    bench.judge(rule, FILE, "W").unwrap();
    bench.signs("/data/model", &files, "trainer");
    refused(bench.judge(rule, FILE, "W"), 12, "something newer");
    // Elsewhere it is somebody's copy, of which the store knows nothing.
    bench.signs("/data/copy", &files, "trainer");
    bench.judge(rule, "/data/copy/model.bin", "W").unwrap();
    // One that the store never published was not replaced.
    bench.signs("/data/model", &[("model.bin", "W"), ("more.json", "{}")], "alice");
    bench.judge(rule, FILE, "W").unwrap();
}

#[test]
fn what_was_replaced_is_not_brought_back_by_a_signature_that_the_store_does_not_know() {
    let mut bench = Bench::new();
    bench.publish(&trained("OLD"), "trainer");
    bench.publish(&trained("NEW"), "trainer");
    // A reviewer signed the directory at rest, when it was old.
    let reviewed = bench.signs("/data/model", &[("model.bin", "OLD")], "alice");
    refused(bench.judge("", FILE, "OLD"), 12, "something newer");
    let elsewhere = bench.bundle(&of_another_machine("OLD"), "trainer");
    bench.travels("/data/model", vec![elsewhere]);
    refused(bench.judge("", FILE, "OLD"), 12, "something newer");
    // What was never published here replaces nothing; and a pin knows what it wants.
    bench.signs("/data/model", &[("model.bin", "OTHER")], "alice");
    bench.judge("", FILE, "OTHER").unwrap();
    bench.signs("/data/model", &[("model.bin", "OLD")], "alice");
    bench.judge(&format!("attestation = \"sha256:{reviewed}\""), FILE, "OLD").unwrap();
}

/// Of publications of the same content that follow each other a store may keep the last one only.
#[test]
fn what_was_replaced_stays_so_when_the_store_no_longer_knows_which_statement_published_it() {
    let mut bench = Bench::new();
    let mut earlier = trained("OLD");
    earlier.run.host = "earlier".to_owned();
    bench.publish(&trained("OLD"), "trainer");
    let forgotten = bench.bundle(&earlier, "trainer");
    bench.travels("/data/copy", vec![forgotten]);
    bench.judge("", "/data/copy/model.bin", "OLD").unwrap();
    bench.publish(&trained("NEW"), "trainer");
    refused(bench.judge("", "/data/copy/model.bin", "OLD"), 12, "something newer");
}

/// The same content, made by a run that this store did not see.
fn of_another_machine(weights: &str) -> Commit {
    let mut other = trained(weights);
    other.root.path = "/elsewhere".to_owned();
    other.run.host = "other".to_owned();
    other
}

#[test]
fn what_is_the_newest_below_one_root_is_not_replaced_below_another() {
    let mut bench = Bench::new();
    let mut above = trained("A");
    above.root.path = "/data".to_owned();
    above.outputs = vec![output("model/model.bin", "A")];
    bench.publish(&above, "trainer");
    above.outputs = vec![output("model/model.bin", "B")];
    bench.publish(&above, "trainer");
    refused(bench.judge("", FILE, "A"), 12, "something newer");
    bench.publish(&trained("A"), "trainer");
    bench.judge("", FILE, "A").unwrap();
}

#[test]
fn what_was_published_below_one_root_is_replaced_by_what_was_published_later_below_another() {
    let mut bench = Bench::new();
    let old = bench.publish(&trained("OLD"), "trainer");
    let mut above = trained("NEW");
    above.root.path = "/data".to_owned();
    above.outputs = vec![output("model/model.bin", "NEW")];
    let new = bench.publish(&above, "trainer");
    let name = "model/model.bin".to_owned();
    let superseded = Refusal::Superseded { name, attestation: old, by: new };
    assert_eq!(bench.judge("", FILE, "OLD"), Err(superseded));
    bench.judge("", FILE, "NEW").unwrap();
}

#[test]
fn a_pin_admits_one_attestation_however_old_and_no_other() {
    let mut bench = Bench::new();
    let old = bench.publish(&trained("OLD"), "trainer");
    let new = bench.publish(&trained("NEW"), "trainer");
    let pin = |pinned| format!("attestation = \"sha256:{pinned}\"");
    bench.judge(&pin(old), FILE, "OLD").unwrap();
    refused(bench.judge(&pin(old), FILE, "NEW"), 11, &format!("pinned to {old}"));
    bench.judge(&pin(new), FILE, "NEW").unwrap();
    refused(bench.judge(&pin(new), FILE, "OLD"), 11, &format!("pinned to {new}"));
    refused(bench.judge(&pin(old), FILE, "OTHER"), 8, "was changed");
}

#[test]
fn a_pin_may_name_a_model_signature() {
    let mut bench = Bench::new();
    let pin = |pinned| format!("attestation = \"sha256:{pinned}\"");
    let far = bench.signs("/data", &[("model/model.bin", "W")], "hub");
    let near = bench.signs("/data/model", &[("model.bin", "W")], "trainer");
    for pinned in [far, near] {
        assert_eq!(bench.judge(&pin(pinned), FILE, "W").unwrap().attestations, [pinned]);
    }
    refused(bench.judge(&pin(Sha256([1; 32])), FILE, "W"), 11, "pinned to 0101");
}

#[test]
fn a_pin_does_not_make_a_stranger_known() {
    let mut bench = Bench::new();
    let attestation = bench.publish(&trained("W"), "stranger");
    let rule = format!("attestation = \"sha256:{attestation}\"");
    refused(bench.judge(&rule, FILE, "W"), 3, "which this policy does not know");
}

#[test]
fn what_was_published_elsewhere_may_lie_only_where_nothing_else_was() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "trainer");
    bench.judge("", "/data/copies/model.bin", "W").unwrap();
    let mut other = trained("OTHER");
    other.root.path = "/data/copies".to_owned();
    bench.publish(&other, "trainer");
    refused(
        bench.judge("", "/data/copies/model.bin", "W"),
        7,
        "attested as '/data/model/model.bin'",
    );
    // That its claims came along says nothing: anybody can append a line to a file that is not signed.
    let bundle = bench.bundle(&trained("W"), "trainer");
    bench.travels("/data/copies", vec![bundle.clone()]);
    let verdict = bench.judge("", "/data/copies/model.bin", "W");
    refused(verdict, 7, "attested as '/data/model/model.bin'");
    bench.travels("/data/elsewhere", vec![bundle]);
    bench.judge("", "/data/elsewhere/model.bin", "W").unwrap();
}

#[test]
fn the_newest_of_one_model_does_not_overrule_the_signature_and_the_history_of_another() {
    let mut bench = Bench::new();
    bench.publish(&trained("A"), "trainer");
    let mut other = trained("B");
    other.root.path = "/data/other".to_owned();
    bench.publish(&other, "trainer");
    bench.publishes_model("/data/other", &[("model.bin", "B")], "trainer");
    let signature = Bundle::sign_model(model(&[("model.bin", "B")]), bench.key("trainer")).unwrap();
    let bundles = vec![bench.bundle(&other, "trainer"), bench.bundle(&trained("A"), "trainer")];
    let appended = Claims { bundles, ..Claims::default() }.to_jsonl();
    let beside = Beside::parse(Some(&signature.to_json()), Some(&appended));
    bench.around.insert("/data/other".to_owned(), Arc::new(beside));
    refused(bench.judge("", "/data/other/model.bin", "A"), 8, "'other/model.bin' was changed");
    let rule = r#"kinds = ["slsa-provenance"]"#;
    refused(bench.judge(rule, "/data/other/model.bin", "A"), 8, "'other/model.bin' was changed");
    // Nor where the store knows nothing of this place: then the signature has the last word.
    bench.store.history.remove("/data/other/model.bin");
    refused(bench.judge("", "/data/other/model.bin", "A"), 8, "'other/model.bin' was changed");
}

#[test]
fn a_store_that_cannot_tell_what_is_newest_admits_nothing() {
    let mut bench = Bench::new();
    bench.publish(&trained("W"), "trainer");
    bench.publishes_model("/data/model", &[("model.bin", "W")], "trainer");
    bench.store.fails = true;
    for rule in ["", r#"kinds = ["slsa-provenance"]"#, r#"kinds = ["model-signing"]"#] {
        refused(bench.judge(rule, FILE, "W"), 1, "the index is gone");
    }
}
