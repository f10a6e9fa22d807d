//! A policy as text again, the files that it names within: what was read can be kept in one file.

use std::fmt;

use super::{
    level::Mode,
    rule::{Act, Demand, Kinds, Rule},
    rules::Policy,
    signers::{Known, Shows},
};

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = {}", Self::VERSION)?;
        if self.mode != Mode::default() {
            writeln!(f, "mode = \"{}\"", self.mode)?;
        }
        self.signers.all().iter().try_for_each(|signer| write!(f, "\n{signer}"))?;
        self.rules.iter().try_for_each(|rule| write!(f, "\n{rule}"))
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[signers.{}]", Quoted(&self.name))?;
        match &self.shows {
            Shows::Key(key) => writeln!(f, "key = {}", Quoted(&key.to_pem())),
            Shows::Certificate { ca, san, .. } => {
                writeln!(f, "ca = {}\nsan = {}", Quoted(ca), Quoted(san))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[rule]]\npaths = {}", List(&self.paths))?;
        match &self.act {
            Act::Refuse(reason) => writeln!(f, "refuse = {}", Quoted(reason)),
            Act::Admit(demand) => write!(f, "{demand}"),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "level = \"{}\"", self.level)?;
        match self.least {
            _ if !self.are_named => {}
            least if least > 1 && least == self.signers.len() => {
                writeln!(f, "all_of = {}", List(&self.signers))?;
            }
            1 => writeln!(f, "signed_by = {}", List(&self.signers))?,
            least => writeln!(f, "signed_by = {}\nthreshold = {least}", List(&self.signers))?,
        }
        if !self.stages.is_empty() {
            writeln!(f, "stages = {}", List(&self.stages))?;
        }
        if self.kinds != Kinds::BOTH {
            writeln!(f, "kinds = {}", List(&self.kinds.words().collect::<Vec<_>>()))?;
        }
        self.pin.iter().try_for_each(|pin| writeln!(f, "attestation = \"sha256:{pin}\""))
    }
}

/// A basic string of TOML.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                control if control.is_control() => write!(f, "\\u{:04X}", u32::from(control))?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}

struct List<'a, T>(&'a [T]);

impl<T: AsRef<str>> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<_> = self.0.iter().map(|text| Quoted(text.as_ref()).to_string()).collect();
        write!(f, "[{}]", quoted.join(", "))
    }
}
