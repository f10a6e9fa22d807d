//! The manifest of many files, as `sha256sum` writes it.

use attestfs_attestation::{Listing, Manifest};

use crate::told::is_told;

target!("manifest", holds);

fn holds(bytes: &[u8]) {
    let listing = match Listing::parse(bytes) {
        Ok(listing) => listing,
        Err(error) => return is_told(&error),
    };
    let files = listing.files().count();
    // Digest, two spaces, at least one byte of a name, end of the line.
    assert!(files <= bytes.len() / 68);
    let written = Manifest::of(listing.files());
    let again = Listing::parse(written.bytes()).unwrap();
    assert_eq!(Manifest::of(again.files()), written);
    assert!(again.files().all(|file| listing.files().any(|other| other == file)));
    // Only lines that are there twice become fewer; a backslash may come without its escape.
    assert!(written.files() <= files && written.bytes().len() <= 2 * bytes.len());
}
