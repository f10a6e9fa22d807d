//! Text that came from elsewhere: names of files, what attestations say, what a store remembers.

#[cfg(feature = "mount")]
use std::borrow::Cow;

/// Something that people can read and type.
#[cfg(feature = "mount")]
pub(crate) fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && harmless(text) == text
}

/// Spells characters that a terminal obeys instead of showing, or that reorder what is around
/// them, as `\u{..}`. The result is one line.
pub(crate) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            harmless.extend(character.escape_unicode());
        } else {
            harmless.push(character);
        }
    }
    harmless
}

/// One of the names of a file, and how many others it has.
#[cfg(feature = "mount")]
pub(crate) fn one_name_of(name: &str, others: usize) -> String {
    let name = harmless(name);
    match others {
        0 => name,
        1 => format!("{name} (+1 name)"),
        others => format!("{name} (+{others} names)"),
    }
}

fn is_obeyed(character: char) -> bool {
    let is_invisible = matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    character.is_control() || is_invisible
}

/// How many characters of a name are shown to people.
#[cfg(feature = "mount")]
const SHOWN_MAX: usize = 200;

/// The beginning of a text, as much as people read.
#[cfg(feature = "mount")]
pub(crate) fn clipped(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}..", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// A message without the numbers that the standard library adds to what the system said:
/// `No such file or directory (os error 2)`.
pub(crate) fn without_error_numbers(message: &str) -> String {
    const MARK: &str = " (os error ";
    let mut parts = message.split(MARK);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.parse::<u32>().is_ok() => kept.push_str(rest),
            _ => kept.extend([MARK, part]),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(harmless("a\nb"), "a\\u{a}b");
        assert_eq!(harmless("\u{1b}[2J\u{202e}"), "\\u{1b}[2J\\u{202e}");
        assert_eq!(harmless("\u{e9} \\ '"), "\u{e9} \\ '");
    }

    #[cfg(feature = "mount")]
    #[test]
    fn a_long_name_is_clipped_between_characters() {
        let long = "\u{e9}".repeat(SHOWN_MAX);
        assert_eq!(clipped(&long), long);
        assert_eq!(clipped(&format!("{long}x")), format!("{long}.."));
    }

    #[test]
    fn only_the_number_of_an_error_is_taken_from_a_message() {
        for (message, kept) in [
            ("x: Denied (os error 13)", "x: Denied"),
            ("x (os error 2); y (os error 13): z", "x; y: z"),
            ("x (os error two)", "x (os error two)"),
            ("x (os error 2", "x (os error 2"),
            ("", ""),
        ] {
            assert_eq!(without_error_numbers(message), kept);
        }
    }
}
