//! Who made something, when, with what and from what, for people.

use std::fmt::{self, Write};

use attestfs_attestation::{
    Attested, CommitWord, LockUse, MaterialReport, ModelReport, Origin, OutcomeWord, Signer,
    SignerIdentity, Verified,
};
use attestfs_digest::Sha256;
use jiff::Timestamp;

use crate::text::harmless;

/// The most materials of one run that are listed, but for those that lead on.
const LISTED_MAX: usize = 12;

/// The most names of files that are listed.
const NAMES_MAX: usize = 8;

/// What verified attestations tell.
pub(super) struct Story<'a>(pub(super) &'a Verified);

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(model) = &self.0.model {
            write_model(f, model)?;
        }
        for attested in &self.0.attestations {
            write_attested(f, attested)?;
        }
        if !self.0.without_provenance.is_empty() {
            let names = some(self.0.without_provenance.iter().map(String::as_str));
            writeln!(f, "\nnothing at hand says how these were made: {names}")?;
        }
        let missing = not_seen(&self.0.attestations);
        match missing {
            0 => Ok(()),
            1 => writeln!(
                f,
                "\n1 attestation of a material is not at hand: what is behind it is not checked"
            ),
            n => writeln!(
                f,
                "\n{n} attestations of materials are not at hand: what is behind them is not checked"
            ),
        }
    }
}

/// How many attestations of materials were not there to be checked.
pub(super) fn not_seen(attestations: &[Attested]) -> usize {
    let materials = attestations.iter().flat_map(|attested| &attested.materials);
    materials
        .map(|material| match &material.origin {
            Origin::NotSeen(_) | Origin::TooFar(_) => 1,
            Origin::Attested(attested) => not_seen(std::slice::from_ref(attested)),
            Origin::Outside | Origin::ShownAlready(_) => 0,
        })
        .sum()
}

/// How many attestations of materials were checked.
pub(super) fn followed(attestations: &[Attested]) -> usize {
    let materials = attestations.iter().flat_map(|attested| &attested.materials);
    materials
        .map(|material| match &material.origin {
            Origin::Attested(attested) => 1 + followed(std::slice::from_ref(attested)),
            _ => 0,
        })
        .sum()
}

fn write_model(f: &mut fmt::Formatter<'_>, model: &ModelReport) -> fmt::Result {
    writeln!(f, "\nmodel '{}'", harmless(&model.name))?;
    writeln!(f, "  signed by  {}", harmless(&model.signer.to_string()))?;
    writeln!(f, "  holds      {}", counted(model.files as u64, "file"))
}

fn write_attested(f: &mut fmt::Formatter<'_>, attested: &Attested) -> fmt::Result {
    let when = format!("{} to {}", time(attested.started), time(attested.finished));
    writeln!(f, "\nstage '{}'{}", harmless(&attested.stage), mark(attested))?;
    writeln!(f, "  signed by  {}", harmless(&attested.signer.to_string()))?;
    writeln!(f, "  run        {} on {}", harmless(&attested.run), harmless(&attested.host))?;
    writeln!(f, "  time       {when}")?;
    writeln!(f, "  command    {}", command(&attested.command))?;
    write_lock(f, attested.lock.as_ref())?;
    writeln!(f, "  files      {}", some(attested.files.iter().map(String::as_str)))?;
    writeln!(f, "  statement  sha256:{}", attested.attestation)?;
    if attested.materials.is_empty() {
        return writeln!(f, "  from       nothing below its directories");
    }
    writeln!(f, "  from")?;
    let mut tree = String::new();
    write_materials(&mut tree, "  ", &attested.materials)?;
    f.write_str(&tree)
}

/// The lock that has all that a run read.
pub(super) fn write_lock(f: &mut fmt::Formatter<'_>, lock: Option<&LockUse>) -> fmt::Result {
    let Some(LockUse { sha256, enforced }) = lock else { return Ok(()) };
    let how = if *enforced { "enforced" } else { "obeyed, not enforced" };
    writeln!(f, "  lock       sha256:{sha256} ({how})")
}

/// Each material on a line, and below it what it was made from.
fn write_materials(tree: &mut String, indent: &str, all: &[MaterialReport]) -> fmt::Result {
    let mut listed: Vec<_> = all.iter().filter(|material| leads_on(material)).collect();
    let leaves = all.iter().filter(|material| !leads_on(material));
    listed.extend(leaves.take(LISTED_MAX.saturating_sub(listed.len())));
    let hidden = all.len() - listed.len();
    for (position, material) in listed.iter().enumerate() {
        let is_last = position + 1 == listed.len() && hidden == 0;
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        writeln!(tree, "{indent}{branch}{}", line(material))?;
        if let Origin::Attested(attested) = &material.origin {
            write_materials(tree, &format!("{indent}{below}"), &attested.materials)?;
        }
    }
    match hidden {
        0 => Ok(()),
        more => writeln!(tree, "{indent}└─ … and {more} more"),
    }
}

fn leads_on(material: &MaterialReport) -> bool {
    matches!(material.origin, Origin::Attested(_))
}

fn line(material: &MaterialReport) -> String {
    let digest = match (&material.sha256, &material.digest_unknown) {
        (Some(sha256), _) => format!("sha256:{}", short(sha256)),
        (None, Some(reason)) => format!("no digest: {}", harmless(reason)),
        (None, None) => "no digest".to_owned(),
    };
    let origin = match &material.origin {
        Origin::Outside => "from outside".to_owned(),
        Origin::NotSeen(name) => format!("attested by {}, not at hand", short(name)),
        Origin::TooFar(name) => format!("attested by {}, too far away", short(name)),
        Origin::ShownAlready(name) => format!("attested by {}, shown elsewhere", short(name)),
        Origin::Attested(attested) => format!(
            "by stage '{}'{}, {}, signed by {}",
            harmless(&attested.stage),
            mark(attested),
            time(attested.started),
            signer(&attested.signer),
        ),
    };
    let role = match material.role.as_str() {
        "" | "material" => String::new(),
        role => format!(" ({})", harmless(role)),
    };
    format!("{}{role}  {digest}  {origin}", harmless(&material.name))
}

fn mark(attested: &Attested) -> &'static str {
    match attested.commit {
        CommitWord::Checkpoint => " (checkpoint)",
        CommitWord::StageEnd => "",
    }
}

fn time(timestamp: Timestamp) -> impl fmt::Display {
    timestamp.strftime("%Y-%m-%d %H:%M:%SZ")
}

fn command(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

/// As a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", harmless(&word.replace('\'', r"'\''")))
}

/// Names, but not at any length.
pub(super) fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let hidden = names.len().saturating_sub(NAMES_MAX);
    let shown: Vec<_> = names.take(NAMES_MAX).map(harmless).collect();
    match hidden {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Enough for a person to recognise a digest; nobody should compare by it.
pub(super) fn short(digest: &Sha256) -> String {
    digest.to_string()[..12].to_owned()
}

/// A name is told whole.
fn signer(signer: &Signer) -> String {
    match signer.identity() {
        SignerIdentity::Key(hint) => short(&hint.0),
        SignerIdentity::Certificate(identity) => harmless(&identity.name),
    }
}

/// How a run ended, or that it went on.
pub(super) fn ended(outcome: OutcomeWord) -> &'static str {
    match outcome {
        OutcomeWord::Running => "a checkpoint",
        OutcomeWord::Success => "which succeeded",
        OutcomeWord::Failed => "which failed",
        OutcomeWord::Unknown => "whose end nobody saw",
    }
}

pub(super) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
