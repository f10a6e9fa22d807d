use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest;

/// The SHA-256 of a whole content, as `sha256sum` prints it (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// The BLAKE3 of a whole content, as `b3sum` prints it: 32 bytes of output, no key, no context.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blake3(pub [u8; 32]);

impl Sha256 {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl Blake3 {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }
}

/// Both digests of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    /// The join key of every other tool.
    pub sha256: Sha256,
    /// The root of the tree we keep.
    pub blake3: Blake3,
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a digest: expected 64 lower-case hexadecimal digits")]
pub struct ParseDigestError {
    text: String,
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            /// Reads 64 lower-case hexadecimal digits.
            ///
            /// # Errors
            /// Anything else, upper case included: one content has one spelling.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self).ok_or_else(|| ParseDigestError { text: clip(text) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

hexadecimal!(Sha256);
hexadecimal!(Blake3);

fn parse(text: &str) -> Option<[u8; 32]> {
    let lower_case = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; 32];
    (lower_case && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Hostile text is quoted in an error, but not at any length.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the empty content, as `sha256sum` and `b3sum` print them.
    const SHA256_EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const BLAKE3_EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn one_content_has_one_spelling() {
        let refused = [
            "",
            "e3b0",
            &SHA256_EMPTY[1..],
            &format!("{SHA256_EMPTY}0"),
            &format!(" {}", &SHA256_EMPTY[1..]),
            &format!("0x{}", &SHA256_EMPTY[2..]),
            &format!("g{}", &SHA256_EMPTY[1..]),
            &format!("\u{e9}{}", &SHA256_EMPTY[2..]),
            &SHA256_EMPTY.to_uppercase(),
        ];
        for text in refused {
            let error = text.parse::<Sha256>().unwrap_err();
            assert!(error.to_string().contains("64 lower-case"), "{error}");
        }
    }

    #[test]
    fn an_error_quotes_hostile_text_but_not_at_any_length() {
        let error = "f".repeat(1_000_000).parse::<Blake3>().unwrap_err();
        assert!(error.to_string().len() < 200);
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let sha256: Sha256 = SHA256_EMPTY.parse().unwrap();
        assert_eq!(sha256, Sha256::of(b""));
        assert_eq!(sha256.to_string(), SHA256_EMPTY);
        assert_eq!(format!("{sha256:?}"), format!("Sha256({SHA256_EMPTY})"));

        let blake3: Blake3 = BLAKE3_EMPTY.parse().unwrap();
        assert_eq!(blake3, Blake3::of(b""));
        assert_eq!(blake3.to_string(), BLAKE3_EMPTY);
    }

    #[test]
    fn known_contents_have_known_digests() {
        assert_eq!(
            Sha256::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            Blake3::of(b"abc").to_string(),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
    }

    #[test]
    fn json_carries_the_text_and_nothing_else() {
        let digests = Digests { sha256: Sha256::of(b""), blake3: Blake3::of(b"") };
        let json = serde_json::to_string(&digests).unwrap();
        assert_eq!(json, format!(r#"{{"sha256":"{SHA256_EMPTY}","blake3":"{BLAKE3_EMPTY}"}}"#));
        assert_eq!(serde_json::from_str::<Digests>(&json).unwrap(), digests);
        let shouted = json.replace("e3b0", "E3B0");
        assert!(serde_json::from_str::<Digests>(&shouted).is_err());
    }
}
