use std::{collections::HashMap, fmt};

use serde::Serialize;

use super::{
    rule::{Act, Rule},
    signers::Signers,
};

/// What is allowed and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// From 1.
    pub line: usize,
    /// A sentence.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// In the order of their lines. `audit` is the line that asks for that mode, if one does.
pub(super) fn warnings(audit: Option<usize>, signers: &Signers, rules: &[Rule]) -> Vec<Warning> {
    let mut warnings: Vec<_> = unused(signers, rules).chain(shadowed(rules)).collect();
    warnings.extend(audit.map(|line| Warning {
        line,
        text: "mode is audit: what is refused is told, and opens all the same".to_owned(),
    }));
    warnings.sort_by_key(|warning| warning.line);
    warnings
}

/// Signers whom no rule asks.
fn unused<'a>(signers: &'a Signers, rules: &'a [Rule]) -> impl Iterator<Item = Warning> + 'a {
    let is_asked = |name: &str| {
        rules.iter().any(|rule| match &rule.act {
            Act::Refuse(_) => false,
            Act::Admit(demand) => demand.signers.iter().any(|asked| asked == name),
        })
    };
    let unused = signers.all().iter().filter(move |signer| !is_asked(&signer.name));
    unused.map(|signer| Warning {
        line: signer.line,
        text: format!("no rule asks the signer '{}'", signer.name),
    })
}

/// Paths that an earlier rule has already.
fn shadowed(rules: &[Rule]) -> impl Iterator<Item = Warning> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut warnings = Vec::new();
    for rule in rules {
        for path in &rule.paths {
            let everything = ["**", "**/*"].iter().find_map(|all| first.get(all));
            let earlier = first.get(path.as_str()).or(everything).copied();
            if let Some(earlier) = earlier.filter(|earlier| *earlier != rule.number) {
                let number = rule.number;
                let text =
                    format!("rule {number} never decides about '{path}': rule {earlier} has it");
                warnings.push(Warning { line: rule.line, text });
            }
            first.entry(path).or_insert(rule.number);
        }
    }
    warnings.into_iter()
}
