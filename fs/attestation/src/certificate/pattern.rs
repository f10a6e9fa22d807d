use std::{fmt, str::FromStr};

/// Longest pattern, in bytes. Names in certificates are shorter.
const PATTERN_MAX: usize = 1024;

/// Which names of a signer count: `spiffe://hub.example/model/*`, `*@hub.example`,
/// `*.build.hub.example`.
///
/// A pattern with `:` is held against URIs, one with `@` against mail addresses, and any other against
/// DNS names, so that a name of one kind never passes for one of another. `*` stands for one or more
/// characters and never for the separator of its kind: `/`, `@` or `.`. Everything else stands for
/// itself; in DNS names, and in the domain of a mail address, case does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    kind: NameKind,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or nothing but `*`: that is every name of its kind.
    #[error("it names nobody: write what the name has, as in 'spiffe://hub.example/model/*'")]
    Nobody,
    /// `**` is no wildcard of its own.
    #[error(
        "'**' is not known: '*' stands for what lies between two separators, as in 'spiffe://hub.example/*/*'"
    )]
    DoubleStar,
    /// No certificate has such a name.
    #[error("it has a character that no name in a certificate has")]
    Character,
    /// Longer than any name.
    #[error("it has more than {PATTERN_MAX} bytes")]
    TooLong,
}

/// A name that a certificate gives its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubjectName {
    pub(super) kind: NameKind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    Uri,
    Mail,
    Dns,
}

impl NamePattern {
    pub(super) fn matches(&self, name: &SubjectName) -> bool {
        if self.kind != name.kind {
            return false;
        }
        let (pattern, text) = (self.kind.folded(&self.text), self.kind.folded(&name.text));
        let separator = self.kind.separator();
        let (mut parts, mut of_name) = (pattern.split(separator), text.split(separator));
        loop {
            match (parts.next(), of_name.next()) {
                (None, None) => return true,
                (Some(part), Some(text)) if part_matches(part, text) => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_MAX {
            return Err(PatternError::TooLong);
        }
        if text.bytes().all(|byte| byte == b'*') {
            return Err(PatternError::Nobody);
        }
        if text.contains("**") {
            return Err(PatternError::DoubleStar);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PatternError::Character);
        }
        Ok(Self { text: text.to_owned(), kind: NameKind::of_pattern(text) })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl NameKind {
    fn of_pattern(text: &str) -> Self {
        if text.contains(':') {
            Self::Uri
        } else if text.contains('@') {
            Self::Mail
        } else {
            Self::Dns
        }
    }

    fn separator(self) -> char {
        match self {
            Self::Uri => '/',
            Self::Mail => '@',
            Self::Dns => '.',
        }
    }

    fn folded(self, text: &str) -> String {
        match (self, text.rsplit_once('@')) {
            (Self::Uri, _) => text.to_owned(),
            (Self::Mail, Some((local, domain))) => {
                format!("{local}@{}", domain.to_ascii_lowercase())
            }
            (Self::Mail, None) | (Self::Dns, _) => text.to_ascii_lowercase(),
        }
    }
}

/// Each piece between stars is taken where it first occurs, which leaves most to those after it.
fn part_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (between, tail) = rest.rsplit_once('*').map_or((None, rest), |(it, tail)| (Some(it), tail));
    for piece in between.iter().flat_map(|between| between.split('*')) {
        let Some(after) = after_star(text, piece) else { return false };
        text = after;
    }
    text.len() > tail.len() && text.ends_with(tail)
}

/// What follows the first `piece` that has something before it.
fn after_star<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    let at = text.get(1..)?.find(piece)?;
    text.get(1 + at + piece.len()..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, kind: NameKind, name: &str) -> bool {
        let name = SubjectName { kind, text: name.to_owned() };
        pattern.parse::<NamePattern>().unwrap().matches(&name)
    }

    #[test]
    fn a_pattern_that_names_nobody_or_cannot_be_meant_is_refused() {
        for (text, error) in [
            ("", PatternError::Nobody),
            ("*", PatternError::Nobody),
            ("**", PatternError::Nobody),
            ("spiffe://hub.example/**", PatternError::DoubleStar),
            ("spiffe://hub.example/a b", PatternError::Character),
            ("hub.example\0", PatternError::Character),
            ("häb.example", PatternError::Character),
        ] {
            assert_eq!(text.parse::<NamePattern>().unwrap_err(), error, "{text}");
        }
        "a".repeat(PATTERN_MAX).parse::<NamePattern>().unwrap();
        let long = "a".repeat(PATTERN_MAX + 1).parse::<NamePattern>();
        assert_eq!(long.unwrap_err(), PatternError::TooLong);
    }

    #[test]
    fn a_star_in_a_uri_does_not_cross_a_slash() {
        let pattern = "spiffe://hub.example/model/*";
        for refused in [
            "spiffe://hub.example/model",
            "spiffe://hub.example/model/",
            "spiffe://hub.example/model/a/b",
            "spiffe://hub.example/models/a",
            "spiffe://hub.example.evil/model/a",
            "SPIFFE://hub.example/model/a",
            "xspiffe://hub.example/model/a",
            "",
        ] {
            assert!(!matches(pattern, NameKind::Uri, refused), "{refused}");
        }
        assert!(matches(pattern, NameKind::Uri, "spiffe://hub.example/model/a"));
        assert!(matches("spiffe://*/model/*-v*", NameKind::Uri, "spiffe://hub/model/llm-v2"));
    }

    #[test]
    fn each_of_several_stars_stands_for_something() {
        let pattern = "spiffe://hub.example/a*b*c";
        for (name, expected) in
            [("axbyc", true), ("axbybzc", true), ("axbc", false), ("abyc", false)]
        {
            let name = format!("spiffe://hub.example/{name}");
            assert_eq!(matches(pattern, NameKind::Uri, &name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_of_one_kind_is_none_of_another() {
        let patterns = [
            ("spiffe://hub.example", NameKind::Uri),
            ("me@hub.example", NameKind::Mail),
            ("hub.example", NameKind::Dns),
        ];
        for (pattern, expected) in patterns {
            for kind in [NameKind::Uri, NameKind::Mail, NameKind::Dns] {
                assert_eq!(matches(pattern, kind, pattern), kind == expected, "{pattern} {kind:?}");
            }
        }
    }

    #[test]
    fn a_star_in_a_domain_stands_for_one_label_and_case_does_not_matter() {
        assert!(!matches("*.hub.example", NameKind::Dns, "hub.example"));
        assert!(!matches("*.hub.example", NameKind::Dns, "a.b.hub.example"));
        assert!(matches("*.Hub.example", NameKind::Dns, "CI.hub.Example"));
        assert!(!matches("*@hub.example", NameKind::Mail, "a@b@hub.example"));
        assert!(!matches("Me@hub.example", NameKind::Mail, "me@hub.example"));
        assert!(matches("*@Hub.example", NameKind::Mail, "Me@hub.Example"));
    }

    /// The same by trying every length for every star.
    fn by_trying(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', rest @ ..], text) => (1..=text.len())
                .take_while(|length| text[length - 1] != b'/')
                .any(|length| by_trying(rest, &text[length..])),
            ([byte, rest @ ..], [first, text @ ..]) => byte == first && by_trying(rest, text),
            ([_, ..], []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_trying_everything_matches(
            pattern in "[ab/*]{0,8}",
            name in "[ab/]{0,10}",
        ) {
            let (pattern, name) = (format!("x:{pattern}"), format!("x:{name}"));
            prop_assume!(!pattern.contains("**"));
            let expected = by_trying(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(&pattern, NameKind::Uri, &name), expected);
        }

        #[test]
        fn no_text_panics(pattern: String, name: String) {
            let name = SubjectName { kind: NameKind::Uri, text: name };
            if let Ok(pattern) = pattern.parse::<NamePattern>() {
                pattern.matches(&name);
            }
            for kind in [NameKind::Uri, NameKind::Mail, NameKind::Dns] {
                let pattern = NamePattern { text: "a*a*é*".to_owned(), kind };
                pattern.matches(&name);
            }
        }
    }
}
