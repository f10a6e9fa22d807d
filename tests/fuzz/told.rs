use std::error::Error;

/// Longest sentence about hostile bytes, however many there are.
const SENTENCE_BYTES_MAX: usize = 4096;

/// An error says something, and not all that it was given.
pub(crate) fn is_told(error: &dyn Error) {
    let sentence = error.to_string();
    assert!(!sentence.is_empty(), "{error:?}");
    assert!(sentence.len() <= SENTENCE_BYTES_MAX, "{} bytes: {error:?}", sentence.len());
}
