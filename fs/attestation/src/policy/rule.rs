use std::sync::Arc;

use attestfs_digest::Sha256;
use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::{
    document::{Field, Fields, Text, clip, likest},
    error::{Fault, PolicyError},
    level::Level,
    rules::Policy,
    signers::Signers,
};
use crate::name::is_canonical;

/// Longest glob, in bytes.
const GLOB_MAX: usize = 1024;

/// Most names in one list of a rule.
const NAMES_MAX: usize = 256;

const CHOOSE_PATHS: &str = "write paths = [\"**/*.safetensors\"], relative to the mount";
const CHOOSE_LEVEL: &str = "choose one of stat (a change is seen when the file's identity changed), rehash (the content is read at the first open), per-read (each read is verified), verity (the kernel verifies)";
const CHOOSE_SIGNERS: &str = "name signers, or leave it out to accept all of [signers]";

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) number: usize,
    pub(super) line: usize,
    pub(super) paths: Vec<String>,
    pub(super) act: Act,
    /// All whom the policy knows.
    pub(super) signers: Arc<Signers>,
    matcher: GlobSet,
}

/// What a rule does with a file that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Refuses it, for this reason.
    Refuse(String),
    /// Admits it, if it is vouched for.
    Admit(Demand),
}

/// What it takes to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) level: Level,
    /// Names of those whose word counts; never empty.
    pub(super) signers: Vec<String>,
    /// Whether the rule named them.
    pub(super) are_named: bool,
    /// How many of them must agree, at least 1.
    pub(super) least: usize,
    /// Empty: any stage.
    pub(super) stages: Vec<String>,
    pub(super) kinds: Kinds,
    pub(super) pin: Option<Sha256>,
}

/// Which attestations count. At least one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) provenance: bool,
    pub(super) model: bool,
}

/// Counts the globs of all rules.
#[derive(Debug, Default)]
pub(super) struct Globs(usize);

impl Rule {
    pub(super) const KEYS: [&str; 9] = [
        "paths",
        "level",
        "signed_by",
        "all_of",
        "threshold",
        "stages",
        "kinds",
        "attestation",
        "refuse",
    ];

    pub(super) fn parse(
        number: usize,
        mut fields: Fields<'_>,
        signers: &Arc<Signers>,
        globs: &mut Globs,
    ) -> Result<Self, PolicyError> {
        let line = fields.line();
        let paths = fields.need("paths", CHOOSE_PATHS)?.texts(Policy::PATHS_MAX, CHOOSE_PATHS)?;
        let matcher = globs.matcher(&paths, &fields)?;
        let act = match fields.take("refuse") {
            Some(refuse) => Act::refuse(refuse, &fields)?,
            None => Act::Admit(Demand::parse(&mut fields, signers)?),
        };
        Ok(Self {
            number,
            line,
            paths: paths.into_iter().map(|path| path.text).collect(),
            act,
            signers: Arc::clone(signers),
            matcher,
        })
    }

    /// Its place among the rules, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its globs, as they are written.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Whether a path, relative to the mount and spelt as [`crate::escaped`] does, is its.
    pub fn has(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// What it takes to be admitted, or why nothing is: a sentence in short.
    pub fn demands(&self) -> String {
        match &self.act {
            Act::Refuse(reason) => reason.clone(),
            Act::Admit(demand) => demand.in_short(),
        }
    }

    /// How content is verified. None of a rule that refuses everything.
    pub fn level(&self) -> Option<Level> {
        match &self.act {
            Act::Refuse(_) => None,
            Act::Admit(demand) => Some(demand.level),
        }
    }

    /// Why everything is refused, of a rule that does.
    pub fn refuses(&self) -> Option<&str> {
        match &self.act {
            Act::Refuse(reason) => Some(reason),
            Act::Admit(_) => None,
        }
    }
}

impl Act {
    /// A reason to refuse needs no other word.
    fn refuse(field: Field<'_>, rest: &Fields<'_>) -> Result<Self, PolicyError> {
        let reason = field.text()?;
        if Rule::KEYS.iter().any(|key| *key != "paths" && rest.has(key)) {
            let why = "'refuse' refuses everything: only 'paths' can stand beside it";
            return Err(Fault::Contradiction { place: rest.place(), why }.at(reason.line));
        }
        if reason.text.trim().is_empty() {
            let (key, choose) = ("refuse", "say why, for whoever is refused");
            return Err(Fault::Empty { key, place: rest.place(), choose }.at(reason.line));
        }
        Ok(Self::Refuse(reason.text))
    }
}

impl Demand {
    fn parse(fields: &mut Fields<'_>, signers: &Signers) -> Result<Self, PolicyError> {
        let level = level(fields)?;
        let (named, least) = agreement(fields, signers)?;
        let stages = fields.take("stages");
        let stages =
            stages.map(|it| it.texts(NAMES_MAX, "name stages, or leave it out")).transpose()?;
        let kinds = Kinds::parse(fields)?;
        if let Some(stage) = stages.iter().flatten().next().filter(|_| !kinds.provenance) {
            let why = "a model signature names no stage: 'stages' needs the kind slsa-provenance";
            return Err(Fault::Contradiction { place: fields.place(), why }.at(stage.line));
        }
        let pin = pin(fields)?;
        let words = |texts: Vec<Text>| texts.into_iter().map(|it| it.text).collect::<Vec<_>>();
        let everybody = || signers.names().map(ToOwned::to_owned).collect();
        Ok(Self {
            level,
            are_named: named.is_some(),
            signers: named.map_or_else(everybody, words),
            least,
            stages: stages.map(words).unwrap_or_default(),
            kinds,
            pin,
        })
    }
}

impl Demand {
    /// Whether the word of this signer counts.
    pub(super) fn asks(&self, signer: &str) -> bool {
        self.signers.iter().any(|asked| asked == signer)
    }

    fn in_short(&self) -> String {
        let signers = self.signers.join(", ");
        let agreement = match (self.least, self.signers.len()) {
            (1, 1) => format!("signed by {signers}"),
            (1, _) => format!("signed by any of {signers}"),
            (least, of) if least == of => format!("signed by all of {signers}"),
            (least, _) => format!("signed by {least} of {signers}"),
        };
        let mut parts = vec![agreement];
        if !self.stages.is_empty() {
            parts.push(format!("made by {}", self.stages.join(" or ")));
        }
        if self.kinds != Kinds::BOTH {
            parts.push(format!("as {}", self.kinds.words().collect::<Vec<_>>().join(" or ")));
        }
        parts.extend(self.pin.map(|pin| format!("in attestation {pin}")));
        parts.join(", ")
    }
}

impl Kinds {
    pub(super) const BOTH: Self = Self { provenance: true, model: true };

    const PROVENANCE: &str = "slsa-provenance";
    const MODEL: &str = "model-signing";

    fn parse(fields: &mut Fields<'_>) -> Result<Self, PolicyError> {
        let Some(field) = fields.take("kinds") else {
            return Ok(Self::BOTH);
        };
        let choose = "choose from slsa-provenance, model-signing";
        let words = field.texts(2, choose)?;
        let mut kinds = Self { provenance: false, model: false };
        for word in words {
            match word.text.as_str() {
                Self::PROVENANCE => kinds.provenance = true,
                Self::MODEL => kinds.model = true,
                _ => return Err(word.is_unknown("kinds", fields.place(), choose.to_owned())),
            }
        }
        Ok(kinds)
    }

    pub(super) fn words(self) -> impl Iterator<Item = &'static str> {
        let words = [(self.provenance, Self::PROVENANCE), (self.model, Self::MODEL)];
        words.into_iter().filter_map(|(counts, word)| counts.then_some(word))
    }
}

impl Globs {
    fn matcher(&mut self, paths: &[Text], fields: &Fields<'_>) -> Result<GlobSet, PolicyError> {
        self.0 += paths.len();
        if self.0 > Policy::PATHS_MAX {
            let fault = Fault::TooMany {
                place: "the policy".to_owned(),
                what: "paths in all rules",
                max: Policy::PATHS_MAX,
            };
            return Err(fault.at(fields.line()));
        }
        let mut builder = GlobSetBuilder::new();
        for path in paths {
            builder.add(glob(path, fields)?);
        }
        builder.build().map_err(|error| {
            let (place, found, choose) = (fields.place(), String::new(), error.to_string());
            Fault::Value { key: "paths", place, found, choose }.at(fields.line())
        })
    }
}

/// `*`, `?` and `[..]` stay inside a component, `**` does not.
fn glob(path: &Text, fields: &Fields<'_>) -> Result<Glob, PolicyError> {
    let bad = |choose: String| path.is_unknown("paths", fields.place(), choose);
    if path.text.len() > GLOB_MAX {
        return Err(bad(format!("it has more than {GLOB_MAX} bytes")));
    }
    if !is_canonical(&path.text) {
        return Err(bad("it could never match: paths are relative to the mount, without '.', '..', '//' and '/' at the beginning or end".to_owned()));
    }
    let built = GlobBuilder::new(&path.text).literal_separator(true).backslash_escape(true).build();
    built.map_err(|error| bad(error.kind().to_string()))
}

fn level(fields: &mut Fields<'_>) -> Result<Level, PolicyError> {
    let text = fields.need("level", CHOOSE_LEVEL)?.text()?;
    text.text
        .parse()
        .map_err(|_unknown| text.is_unknown("level", fields.place(), CHOOSE_LEVEL.to_owned()))
}

/// Who must agree: the names, if the rule names any, and how many of them.
fn agreement(
    fields: &mut Fields<'_>,
    signers: &Signers,
) -> Result<(Option<Vec<Text>>, usize), PolicyError> {
    let place = fields.place();
    let contradiction = |line, why| Fault::Contradiction { place: place.clone(), why }.at(line);
    let (any, all) = (fields.take("signed_by"), fields.take("all_of"));
    let threshold = fields.take("threshold");
    match (any, all) {
        (Some(_), Some(all)) => {
            Err(contradiction(all.line(), "'signed_by' and 'all_of' exclude each other"))
        }
        (Some(any), None) => {
            let names = known(any, &place, signers)?;
            let least = threshold.map_or(Ok(1), |field| at_least(field, &place, names.len()))?;
            Ok((Some(names), least))
        }
        (None, Some(_)) if let Some(threshold) = threshold => Err(contradiction(
            threshold.line(),
            "'threshold' counts those of 'signed_by': all of 'all_of' must agree",
        )),
        (None, Some(all)) => {
            let names = known(all, &place, signers)?;
            let least = names.len();
            Ok((Some(names), least))
        }
        (None, None) if let Some(threshold) = threshold => Err(contradiction(
            threshold.line(),
            "'threshold' counts those of 'signed_by': name them",
        )),
        (None, None) if signers.all().is_empty() => Err(contradiction(
            fields.line(),
            "somebody must sign what it has, and [signers] names nobody",
        )),
        (None, None) => Ok((None, 1)),
    }
}

fn known(field: Field<'_>, place: &str, signers: &Signers) -> Result<Vec<Text>, PolicyError> {
    let names = field.texts(NAMES_MAX, CHOOSE_SIGNERS)?;
    match names.iter().find(|name| signers.names().all(|known| known != name.text)) {
        None => Ok(names),
        Some(name) => Err(Fault::UnknownSigner {
            name: clip(&name.text),
            place: place.to_owned(),
            meant: likest(&name.text, signers.names()),
        }
        .at(name.line)),
    }
}

fn at_least(field: Field<'_>, place: &str, names: usize) -> Result<usize, PolicyError> {
    let line = field.line();
    let number = field.number()?;
    let least = usize::try_from(number).ok().filter(|least| (1..=names).contains(least));
    least.ok_or_else(|| {
        Fault::Value {
            key: "threshold",
            place: place.to_owned(),
            found: number.to_string(),
            choose: format!("'signed_by' has {names}: it must be at least 1 and at most that"),
        }
        .at(line)
    })
}

fn pin(fields: &mut Fields<'_>) -> Result<Option<Sha256>, PolicyError> {
    let Some(field) = fields.take("attestation") else { return Ok(None) };
    let text = field.text()?;
    let digest = text.text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    digest.map(Some).ok_or_else(|| {
        let choose =
            "write sha256: and the 64 hexadecimal digits that name the attestation".to_owned();
        text.is_unknown("attestation", fields.place(), choose)
    })
}
