use std::sync::Arc;

use super::{
    belief::Memories,
    document::{Field, Fields, Text, clip},
    error::{Fault, PolicyError},
};
use crate::{
    certificate::{AUTHORITY_FILE_MAX, Authority, NamePattern},
    key::{KEY_FILE_MAX, VerifyingKey},
    verify::TrustedSigners,
};

const KEYS: [&str; 3] = ["key", "ca", "san"];
const CHOOSE: &str = "give key = \"FILE\" with a public key, or ca = \"FILE\" and san = \"NAME\"";
const CHOOSE_SAN: &str =
    "say whom the certificate must name, such as san = \"spiffe://hub.example/model/*\"";

/// Reads a file that the policy names.
pub(super) type Read<'r> = &'r mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Whom a policy knows, in the order of its text.
#[derive(Debug, Default)]
pub(super) struct Signers {
    known: Vec<Known>,
    trusted: TrustedSigners,
    /// What they signed, as far as it was looked at lately.
    pub(super) memories: Memories,
}

/// Somebody whose signatures may count.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) shows: Shows,
}

/// What somebody shows to be believed, as the policy has it.
#[derive(Clone, Debug)]
pub(super) enum Shows {
    /// A signature by this key.
    Key(VerifyingKey),
    /// A certificate of this authority, that names this.
    Certificate { ca: String, san: String, authority: Arc<Authority> },
}

impl Signers {
    pub(super) fn parse(field: Option<Field<'_>>, read: Read<'_>) -> Result<Self, PolicyError> {
        let Some(field) = field else { return Ok(Self::default()) };
        let line = field.line();
        let tables = field.named_tables(&KEYS)?;
        if tables.len() > TrustedSigners::MAX {
            let (place, what) = ("the policy".to_owned(), "signers");
            return Err(Fault::TooMany { place, what, max: TrustedSigners::MAX }.at(line));
        }
        tables.into_iter().try_fold(Self::default(), |signers, (name, mut fields)| {
            if fields.has("ca") || fields.has("san") {
                signers.with_authority(name, &mut fields, read)
            } else {
                signers.with_key(name, &mut fields, read)
            }
        })
    }

    pub(super) fn all(&self) -> &[Known] {
        &self.known
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|signer| signer.name.as_str())
    }

    pub(super) fn trusted(&self) -> &TrustedSigners {
        &self.trusted
    }

    fn with_key(
        self,
        name: Text,
        fields: &mut Fields<'_>,
        read: Read<'_>,
    ) -> Result<Self, PolicyError> {
        let place = fields.place();
        let text = fields.need("key", CHOOSE)?.text()?;
        let line = text.line;
        let pem = pem(text, &place, KEY_FILE_MAX, read)?;
        let key =
            VerifyingKey::from_pem(&pem).map_err(|source| Fault::Key { place, source }.at(line))?;
        let trusted = self.trusted.clone().with_key(&name.text, key.clone());
        self.with(name, Shows::Key(key), trusted)
    }

    fn with_authority(
        self,
        name: Text,
        fields: &mut Fields<'_>,
        read: Read<'_>,
    ) -> Result<Self, PolicyError> {
        let place = fields.place();
        if fields.has("key") {
            let why = "'key' and 'ca' exclude each other: name them as two signers";
            return Err(Fault::Contradiction { place, why }.at(name.line));
        }
        let text = fields.need("ca", CHOOSE)?.text()?;
        let line = text.line;
        let san = fields.need("san", CHOOSE_SAN)?.text()?;
        let pattern: NamePattern = san
            .text
            .parse()
            .map_err(|error| san.is_unknown("san", place.clone(), format!("{error}")))?;
        let pem = pem(text, &place, AUTHORITY_FILE_MAX, read)?;
        let authority = Authority::new(&pem, Some(pattern))
            .map_err(|source| Fault::Authority { place, source }.at(line))?;
        let authority = Arc::new(authority);
        let ca = String::from_utf8_lossy(&pem).into_owned();
        let trusted = self.trusted.clone().with_authority(&name.text, Arc::clone(&authority));
        self.with(name, Shows::Certificate { ca, san: san.text, authority }, trusted)
    }

    /// Two names for one signer can only be a mistake: its signature counts for one of them.
    fn with(
        mut self,
        name: Text,
        shows: Shows,
        trusted: TrustedSigners,
    ) -> Result<Self, PolicyError> {
        if let Some(same) = self.known.iter().find(|other| other.shows.is_same(&shows)) {
            let (first, second) = (same.name.clone(), name.text);
            return Err(Fault::SameSigner { first, second }.at(name.line));
        }
        self.known.push(Known { name: name.text, line: name.line, shows });
        Ok(Self { trusted, ..self })
    }
}

impl Shows {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(key), Self::Key(other)) => key == other,
            (Self::Certificate { authority, .. }, Self::Certificate { authority: other, .. }) => {
                authority.is_same(other)
            }
            _ => false,
        }
    }
}

/// The text itself, or what the file of this name holds.
fn pem(value: Text, place: &str, max: usize, read: Read<'_>) -> Result<Vec<u8>, PolicyError> {
    if value.text.contains("-----BEGIN") {
        return Ok(value.text.into_bytes());
    }
    let unreadable = |reason: String| {
        let (place, file) = (place.to_owned(), clip(&value.text));
        Fault::Unreadable { place, file, reason }.at(value.line)
    };
    let bytes = read(&value.text).map_err(unreadable)?;
    if bytes.len() > max {
        return Err(unreadable(format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}
