//! The journal of a run, as whoever was killed left it or somebody else wrote it.

use std::{cell::RefCell, fs};

use attestfs_daemon::journal::{pieces, whole_length};
use attestfs_fs::Fact;
use tempfile::TempDir;

use crate::told::is_told;

target!("journal", holds);

thread_local! {
    static RUN: RefCell<TempDir> = RefCell::new(TempDir::with_prefix("attestfs-fuzz-").unwrap());
}

fn holds(bytes: &[u8]) {
    RUN.with_borrow(|run| {
        fs::write(run.path().join("journal.jsonl"), bytes).unwrap();
        let whole = whole_length(run.path()).unwrap();
        assert!(whole <= bytes.len() as u64);
        assert!(whole == 0 || bytes[usize::try_from(whole).unwrap() - 1] == b'\n');
        let mut at = 0;
        for piece in pieces(run.path(), 0, whole).unwrap() {
            match piece {
                Ok(piece) => {
                    assert!(piece.from == at && piece.to <= whole && !piece.facts.is_empty());
                    at = piece.to;
                    piece.facts.iter().for_each(says_the_same_again);
                }
                Err(error) => return is_told(&error),
            }
        }
        assert_eq!(at, whole);
    });
}

fn says_the_same_again(fact: &Fact) {
    let line = serde_json::to_vec(fact).unwrap();
    assert_eq!(&serde_json::from_slice::<Fact>(&line).unwrap(), fact);
}
