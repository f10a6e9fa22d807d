use std::sync::Arc;

use attestfs_digest::Sha256;

use super::{
    document::Fields,
    error::{Fault, PolicyError},
    level::Mode,
    rule::{Globs, Rule},
    signers::Signers,
    warning::{Warning, warnings},
};
use crate::statement::sha256;

const KEYS: [&str; 4] = ["version", "mode", "signers", "rule"];

/// Which files are guarded, and whose word lets them be opened. The first rule that has a path decides
/// about it; a path that no rule has is not guarded.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) mode: Mode,
    pub(super) signers: Arc<Signers>,
    pub(super) rules: Vec<Rule>,
    sha256: Sha256,
    warnings: Vec<Warning>,
}

impl Policy {
    /// The version of the format.
    pub const VERSION: i64 = 1;

    /// Longest text that is read, in bytes.
    pub const TEXT_MAX: usize = 1024 * 1024;

    /// Most rules.
    pub const RULES_MAX: usize = 256;

    /// Most paths in all rules together.
    pub const PATHS_MAX: usize = 4096;

    /// Reads a policy. `read` gives the content of a file that the policy names, relative to it, or a
    /// sentence that says why not.
    ///
    /// # Errors
    /// The first fault. There is no such thing as a policy that is right in part.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Self, PolicyError> {
        if text.len() > Self::TEXT_MAX {
            return Err(Fault::TooLarge { length: text.len() }.anywhere());
        }
        let mut fields = Fields::parse(text, &KEYS)?;
        check_version(&mut fields)?;
        let (mode, mode_line) = mode(&mut fields)?;
        let signers = Arc::new(Signers::parse(fields.take("signers"), read)?);
        let rules = rules(&mut fields, &signers)?;
        let audit = Some(mode_line).filter(|_| mode == Mode::Audit);
        let warnings = warnings(audit, &signers, &rules);
        Ok(Self { mode, signers, rules, sha256: sha256(text.as_bytes()), warnings })
    }

    /// Of the text: names the policy in logs and verdicts.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// What the gate does with a refusal.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The rules, in their order. Never empty.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that decides about a path relative to the mount, as [`crate::escaped`] spells it.
    /// None when nothing guards it.
    pub fn rule_for(&self, path: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.has(path))
    }

    /// Names of the signers, in the order of the text.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signers.names()
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

fn check_version(fields: &mut Fields<'_>) -> Result<(), PolicyError> {
    let version = fields.need("version", "write version = 1")?;
    let line = version.line();
    let version = version.number()?;
    if version == Policy::VERSION {
        return Ok(());
    }
    Err(Fault::Value {
        key: "version",
        place: fields.place(),
        found: version.to_string(),
        choose: "this attestfs reads version 1".to_owned(),
    }
    .at(line))
}

/// The mode, and its line.
fn mode(fields: &mut Fields<'_>) -> Result<(Mode, usize), PolicyError> {
    let Some(mode) = fields.take("mode") else { return Ok((Mode::default(), fields.line())) };
    let mode = mode.text()?;
    let known = Mode::ALL.into_iter().find(|known| known.word() == mode.text);
    let choose = "choose one of enforce, audit".to_owned();
    let known = known.ok_or_else(|| mode.is_unknown("mode", fields.place(), choose))?;
    Ok((known, mode.line))
}

fn rules(fields: &mut Fields<'_>, signers: &Arc<Signers>) -> Result<Vec<Rule>, PolicyError> {
    let field = fields.need("rule", "a policy without [[rule]] guards nothing")?;
    let line = field.line();
    let tables = field.numbered_tables(&Rule::KEYS, Policy::RULES_MAX)?;
    if tables.is_empty() {
        let choose = "a policy without [[rule]] guards nothing";
        return Err(Fault::Empty { key: "rule", place: fields.place(), choose }.at(line));
    }
    let mut globs = Globs::default();
    let numbered = tables.into_iter().zip(1..);
    numbered.map(|(table, number)| Rule::parse(number, table, signers, &mut globs)).collect()
}
