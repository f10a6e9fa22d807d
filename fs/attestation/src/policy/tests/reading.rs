//! What a policy may say, and where it says what it may not.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::policy::{Fault, Level, Mode, PolicyError, Rule};

const REFUSING: &str = "[[rule]]\npaths = [\"**/*.pkl\"]\nrefuse = \"pickles run code\"\n";

fn key() -> String {
    SigningKey::generate().unwrap().verifying_key().to_pem()
}

/// Files beside the policy: two keys.
fn beside(file: &str) -> Result<Vec<u8>, String> {
    match file {
        "trainer.pub" => Ok(include_bytes!("../../../vectors/key.pub").to_vec()),
        "large" => Ok(vec![b'x'; 2 * 1024 * 1024]),
        "garbage" => Ok(b"garbage".to_vec()),
        other => Err(format!("no {other} here")),
    }
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text, &mut beside)
}

/// With a signer `trainer` and a rule of these lines for all safetensors.
fn rule(lines: &str) -> Result<Policy, PolicyError> {
    parse(&format!(
        "version = 1\n[signers.trainer]\nkey = \"trainer.pub\"\n[[rule]]\npaths = [\"**/*.safetensors\"]\n{lines}"
    ))
}

/// In this line, in these words.
#[track_caller]
fn fault(policy: Result<Policy, PolicyError>, line: usize, words: &str) {
    let error = policy.unwrap_err();
    assert_eq!(error.line, Some(line), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn what_is_no_toml_is_told_by_its_line() {
    fault(parse("version = 1\nmode = "), 2, "this is no TOML");
    fault(parse("version = 1\nversion = 1\n"), 2, "duplicate key");
}

#[test]
fn more_text_than_is_read_is_refused() {
    let text = format!("version = 1\n{REFUSING}");
    let padding = "#".repeat(Policy::TEXT_MAX - text.len());
    parse(&format!("{text}{padding}")).unwrap();
    let error = parse(&format!("{text}{padding}#")).unwrap_err();
    assert_eq!(*error.fault, Fault::TooLarge { length: Policy::TEXT_MAX + 1 });
    let deep = format!("version = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&deep).is_err());
}

#[test]
fn only_version_one_is_read() {
    fault(parse(REFUSING), 1, "the policy has no 'version': write version = 1");
    for version in ["0", "2", "-1"] {
        fault(
            parse(&format!("version = {version}\n{REFUSING}")),
            1,
            "this attestfs reads version 1",
        );
    }
    fault(parse("version = \"1\""), 1, "'version' of the policy is text: expected a number");
    fault(parse("version = 99999999999999999999"), 1, "expected a small number");
    parse(&format!("version = 0x1\n{REFUSING}")).unwrap();
}

#[test]
fn a_policy_that_guards_nothing_is_none() {
    fault(parse("version = 1"), 1, "guards nothing");
    fault(parse("version = 1\nrule = []"), 2, "guards nothing");
    fault(parse("version = 1\nrule = 1"), 2, "a list of tables");
    fault(parse("version = 1\nrule = [1]"), 2, "a list of tables");
    fault(parse("version = 1\n[rule]\npaths = []"), 2, "each under [[rule]]");
}

#[test]
fn an_unknown_key_is_named_with_what_was_meant() {
    fault(
        parse(&format!("version = 1\nmoed = \"audit\"\n{REFUSING}")),
        2,
        "unknown key 'moed' in the policy: did you mean 'mode'?",
    );
    fault(parse(&format!("version = 1\n\n[[rules]]\n{REFUSING}")), 3, "did you mean 'rule'?");
    fault(
        rule("level = \"stat\"\nsigned-by = [\"trainer\"]"),
        7,
        "unknown key 'signed-by' in rule 1: did you mean 'signed_by'?",
    );
    fault(rule("lvel = \"stat\""), 6, "did you mean 'level'?");
    fault(rule("xyz = 1"), 6, "known are paths, level");
    fault(
        parse("version = 1\n[signers.a]\nkeys = \"x\""),
        3,
        "unknown key 'keys' in signers.a: did you mean 'key'?",
    );
    let long = "k".repeat(10_000);
    fault(parse(&format!("{long} = 1")), 1, "known are version");
}

#[test]
fn a_mode_is_one_of_two() {
    let with = |mode: &str| parse(&format!("version = 1\nmode = \"{mode}\"\n{REFUSING}"));
    fault(with("off"), 2, "'mode' of the policy is 'off': choose one of enforce, audit");
    assert_eq!(with("audit").unwrap().mode(), Mode::Audit);
    assert_eq!(with("enforce").unwrap().mode(), Mode::Enforce);
    assert_eq!(parse(&format!("version = 1\n{REFUSING}")).unwrap().mode(), Mode::Enforce);
}

#[test]
fn a_level_has_no_default() {
    fault(rule(""), 4, "rule 1 has no 'level': choose one of stat");
    fault(rule("level = \"Stat\""), 6, "'level' of rule 1 is 'Stat': choose one of stat");
    fault(rule("level = 1"), 6, "'level' of rule 1 is a number: expected text in quotes");
    for level in Level::ALL {
        let policy = rule(&format!("level = \"{level}\"")).unwrap();
        assert_eq!(policy.rules()[0].level(), Some(level));
        assert_eq!(level.to_string().parse(), Ok(level));
    }
}

#[test]
fn a_rule_that_refuses_says_why_and_nothing_else() {
    let policy = parse(&format!("version = 1\n{REFUSING}")).unwrap();
    let [refusing] = policy.rules() else { panic!("one rule") };
    assert_eq!((refusing.refuses(), refusing.level()), (Some("pickles run code"), None));
    for line in
        ["level = \"stat\"", "signed_by = [\"a\"]", "stages = []", "kinds = []", "threshold = 1"]
    {
        let text = format!("version = 1\n{REFUSING}{line}");
        fault(parse(&text), 4, "'refuse' refuses everything");
    }
    let empty = REFUSING.replace("pickles run code", " ");
    fault(parse(&format!("version = 1\n{empty}")), 4, "'refuse' of rule 1 is empty");
}

#[test]
fn paths_are_needed_and_relative_to_the_mount() {
    let with = |paths: &str| parse(&format!("version = 1\n[[rule]]\nrefuse = \"x\"\n{paths}"));
    fault(with(""), 2, "rule 1 has no 'paths'");
    fault(with("paths = []"), 4, "'paths' of rule 1 is empty");
    fault(with("paths = \"**\""), 4, "expected a list of texts");
    fault(with("paths = [\n1]"), 5, "expected a list of texts");
    fault(with("paths = [\"a\",\n\"a\"]"), 5, "'a' stands twice in 'paths' of rule 1");
    for never in ["", "/a", "a/", "./a", "../a", "a//b", "a/../b"] {
        fault(with(&format!("paths = [\"{never}\"]")), 4, "could never match");
    }
    for broken in ["[", "a[b", "{a", "a}"] {
        fault(with(&format!("paths = ['{broken}']")), 4, &format!("is '{broken}'"));
    }
    fault(with(&format!("paths = [\"{}\"]", "a".repeat(1025))), 4, "more than 1024 bytes");
    with(&format!("paths = [\"{}\"]", "a".repeat(1024))).unwrap();
}

#[test]
fn a_star_stays_within_a_component_and_two_do_not() {
    let with = |path: &str| {
        parse(&format!("version = 1\n[[rule]]\npaths = ['{path}']\nrefuse = 'x'")).unwrap()
    };
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("*.pt", &["a.pt", ".pt"], &["a/b.pt", "a.pth", "a.PT", ""]),
        ("**/*.pt", &["a.pt", "a/b.pt", "a/b/.c.pt"], &["a.pt/b", "apt"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c", "ab/c"]),
        ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
        ("**", &["a", "a/b", "\u{e9}/b"], &[]),
        ("a?c", &["abc"], &["a/c", "ac"]),
        ("[ab].bin", &["a.bin", "b.bin"], &["c.bin", "/.bin"]),
        ("*.{pt,pth}", &["a.pt", "a.pth"], &["a.p", "d/a.pt"]),
        (r"a\\\\xff", &[r"a\\xff"], &["a\u{ff}", r"a\xff"]),
    ];
    for (glob, has, lacks) in cases {
        let policy = with(glob);
        for path in has {
            assert!(policy.rule_for(path).is_some(), "{glob} has {path}");
        }
        for path in lacks {
            assert!(policy.rule_for(path).is_none(), "{glob} lacks {path}");
        }
    }
}

#[test]
fn the_first_rule_that_has_a_path_decides() {
    let text = "version = 1\n[[rule]]\npaths = ['a/*']\nrefuse = 'first'\n[[rule]]\npaths = ['**', 'b']\nrefuse = 'second'";
    let policy = parse(text).unwrap();
    let number = |path| policy.rule_for(path).map(Rule::number);
    assert_eq!([number("a/x"), number("b"), number("a")], [Some(1), Some(2), Some(2)]);
}

#[test]
fn more_than_are_read_is_told() {
    let rules = |count| format!("version = 1\n{}", REFUSING.repeat(count));
    assert_eq!(parse(&rules(Policy::RULES_MAX)).unwrap().rules().len(), Policy::RULES_MAX);
    fault(parse(&rules(Policy::RULES_MAX + 1)), 2, "more than 256 rules");
    let paths = |from: usize, to: usize| {
        let paths: Vec<_> = (from..to).map(|number| format!("'{number}'")).collect();
        format!("[[rule]]\npaths = [{}]\nrefuse = 'x'\n", paths.join(","))
    };
    let half = Policy::PATHS_MAX / 2;
    parse(&format!("version = 1\n{}{}", paths(0, half), paths(half, 2 * half))).unwrap();
    let one_more = format!("version = 1\n{}{}", paths(0, half), paths(half, 2 * half + 1));
    fault(parse(&one_more), 5, "more than 4096 paths in all rules");
    let signers = (0..257).fold("version = 1\n".to_owned(), |mut text, number| {
        writeln!(text, "[signers.s{number}]").unwrap();
        text
    });
    fault(parse(&signers), 2, "more than 256 signers");
    let stages: Vec<_> = (0..257).map(|number| format!("'{number}'")).collect();
    let line = format!("level = \"stat\"\nstages = [{}]", stages.join(","));
    fault(rule(&line), 7, "rule 1 has more than 256 stages");
}

#[test]
fn a_signer_shows_a_key_or_an_authority() {
    let with = |lines: &str| parse(&format!("version = 1\n[signers.a]\n{lines}\n{REFUSING}"));
    fault(with(""), 2, "signers.a has no 'key': give key");
    fault(with("key = 'missing'"), 3, "signers.a names the file 'missing': no missing here");
    fault(with("key = 'large'"), 3, "more than 16384 bytes");
    fault(with("key = 'garbage'"), 3, "the key of signers.a: this is no PEM file");
    fault(with("key = '-----BEGIN PRIVATE KEY-----'"), 3, "this is a private key");
    fault(with("key = 'trainer.pub'\nsan = 'x'"), 2, "'key' and 'ca' exclude each other");
    fault(with("ca = 'garbage'"), 2, "signers.a has no 'san'");
    fault(with("ca = 'garbage'\nsan = '*'"), 4, "'san' of signers.a is '*': it names nobody");
    fault(
        with("ca = 'garbage'\nsan = 'spiffe://a/*'"),
        3,
        "the ca of signers.a: it has no certificate",
    );
    fault(with("ca = 'large'\nsan = 'spiffe://a/*'"), 3, "more than 1048576 bytes");
    with("key = 'trainer.pub'").unwrap();
    with(&format!("key = '''\n{}'''", key())).unwrap();
    fault(parse("version = 1\nsigners = 1"), 2, "expected a table");
    fault(parse("version = 1\nsigners.a = 1"), 2, "expected a table");
}

#[test]
fn one_signer_has_one_name() {
    let text = format!(
        "version = 1\n[signers.b]\nkey = 'trainer.pub'\n[signers.a]\nkey = 'trainer.pub'\n{REFUSING}"
    );
    fault(parse(&text), 4, "signers.b and signers.a are the same");
}

#[test]
fn a_rule_names_signers_that_there_are() {
    fault(
        rule("level = 'stat'\nsigned_by = ['trainr']"),
        7,
        "rule 1 names the signer 'trainr', of whom [signers] says nothing: did you mean 'trainer'?",
    );
    fault(rule("level = 'stat'\nall_of = ['x']"), 7, "'x', of whom [signers] says nothing");
    fault(rule("level = 'stat'\nsigned_by = []"), 7, "'signed_by' of rule 1 is empty");
    fault(rule("level = 'stat'\nsigned_by = ['trainer', 'trainer']"), 7, "stands twice");
    let nobody = "version = 1\n[[rule]]\npaths = ['**']\nlevel = 'stat'";
    fault(parse(nobody), 2, "[signers] names nobody");
    rule("level = 'stat'").unwrap();
}

#[test]
fn what_cannot_both_be_meant_is_refused() {
    let with = |lines: &str| rule(&format!("level = 'stat'\n{lines}"));
    fault(with("signed_by = ['trainer']\nall_of = ['trainer']"), 8, "exclude each other");
    fault(with("all_of = ['trainer']\nthreshold = 1"), 8, "all of 'all_of' must agree");
    fault(with("threshold = 1"), 7, "'threshold' counts those of 'signed_by'");
    for threshold in ["0", "2", "-1"] {
        fault(
            with(&format!("signed_by = ['trainer']\nthreshold = {threshold}")),
            8,
            "at least 1 and at most",
        );
    }
    with("signed_by = ['trainer']\nthreshold = 1").unwrap();
    fault(with("stages = ['a']\nkinds = ['model-signing']"), 7, "a model signature names no stage");
    fault(with("stages = []"), 7, "'stages' of rule 1 is empty");
    fault(with("kinds = []"), 7, "'kinds' of rule 1 is empty");
    fault(with("kinds = ['slsa']"), 7, "'kinds' of rule 1 is 'slsa': choose from slsa-provenance");
    for pin in ["0101", "sha256:01", "sha512:01", ""] {
        fault(with(&format!("attestation = '{pin}'")), 7, "write sha256: and the 64");
    }
    with(&format!("attestation = 'sha256:{}'", "0a".repeat(32))).unwrap();
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let text = format!(
        "version = 1\nmode = 'audit'\n[signers.used]\nkey = 'trainer.pub'\n[signers.unused]\nkey = '''\n{}'''\n[[rule]]\npaths = ['**/*.pt', '**']\nlevel = 'stat'\nsigned_by = ['used']\n[[rule]]\npaths = ['**/*.pt', 'x']\nrefuse = 'x'",
        key()
    );
    let policy = parse(&text).unwrap();
    let warnings: Vec<_> = policy.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 2: mode is audit: what is refused is told, and opens all the same",
            "line 5: no rule asks the signer 'unused'",
            "line 16: rule 2 never decides about '**/*.pt': rule 1 has it",
            "line 16: rule 2 never decides about 'x': rule 1 has it",
        ]
    );
    assert!(rule("level = 'stat'").unwrap().warnings().is_empty());
}

#[test]
fn a_policy_is_named_by_its_text() {
    let one = parse(&format!("version = 1\n{REFUSING}")).unwrap();
    let other = parse(&format!("version = 1\n# The same.\n{REFUSING}")).unwrap();
    assert_eq!(one.to_string(), other.to_string());
    assert_ne!(one.sha256(), other.sha256());
}

/// Any lines that a rule may have, right or wrong.
fn some_rule() -> impl Strategy<Value = String> {
    let lists = prop::sample::subsequence(vec!["'a'", "'b'", "\"c\\n\\\"\\\\\\u0007é\""], 1..=3);
    let list = lists.prop_map(|texts| format!("[{}]", texts.join(", ")));
    let signers = prop::sample::select(vec![
        "",
        "signed_by = ['alice']",
        "signed_by = ['bob', 'alice']\nthreshold = 2",
        "signed_by = ['bob', 'alice', 'hub']\nthreshold = 2",
        "all_of = ['hub', 'alice']",
    ]);
    let kinds = prop::sample::select(vec![
        "",
        "kinds = ['slsa-provenance']",
        "kinds = ['model-signing', 'slsa-provenance']",
    ]);
    let level = prop::sample::select(Level::ALL.to_vec());
    let pin = prop::option::of(any::<[u8; 32]>());
    let admitting = (signers, kinds, level, prop::option::of(list.clone()), pin);
    let admitting = admitting.prop_map(|(signers, kinds, level, stages, pin)| {
        let stages = stages.map(|stages| format!("stages = {stages}")).unwrap_or_default();
        let pin = pin.map(|pin| format!("attestation = 'sha256:{}'", Sha256(pin)));
        format!("level = '{level}'\n{signers}\n{kinds}\n{stages}\n{}", pin.unwrap_or_default())
    });
    let refusing = Just("refuse = \"\\u0001 'no'\"".to_owned());
    let act = prop_oneof![admitting, refusing];
    (list, act).prop_map(|(paths, act)| format!("[[rule]]\npaths = {paths}\n{act}\n"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String) {
        drop(parse(&text));
    }

    #[test]
    fn any_change_of_a_policy_is_read_or_refused(at in 0usize..400, byte: u8) {
        let mut bytes = format!("version = 1\n[signers.trainer]\nkey = 'trainer.pub'\n[[rule]]\npaths = ['**/*.pt']\nlevel = 'stat'\nsigned_by = ['trainer']\nthreshold = 1\nstages = ['a']\n{REFUSING}").into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(parse(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn a_policy_that_is_written_down_says_the_same(rules in prop::collection::vec(some_rule(), 1..4), audit: bool) {
        let bench = Bench::new();
        let mode = if audit { "mode = 'audit'" } else { "" };
        let signers = bench.policy("").to_string();
        let signers = signers.split_once("[[rule]]").unwrap().0.replace("version = 1", "");
        let policy = parse(&format!("version = 1\n{mode}\n{signers}\n{}", rules.concat())).unwrap();
        let written = policy.to_string();
        let again = parse(&written).unwrap();
        prop_assert_eq!(again.to_string(), written);
        let acts = |policy: &Policy| policy.rules().iter().map(|rule| (rule.paths.clone(), rule.act.clone())).collect::<Vec<_>>();
        prop_assert_eq!(acts(&again), acts(&policy));
        prop_assert_eq!(again.mode(), policy.mode());
    }
}
