//! What lies beside the content under the names of publications: ours, or somebody's own file that
//! happens to be called so.

use std::{
    fs::File,
    io::{self, Read},
};

use attestfs_attestation::{BUNDLE_MAX, Bundle, CLAIMS_FILE, CLAIMS_MAX, Claims};
use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};

/// What lies where a publication is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    Nobody,
    /// An earlier publication, whoever signed it: a new one may replace it.
    Publication,
    /// Anything else. It is not ours to replace.
    Stranger,
}

impl Occupant {
    /// What has this name in the directory. Under the name of claims only claims are a publication,
    /// and under any other name only a bundle is.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub fn at(directory: &File, name: &str) -> io::Result<Self> {
        // NONBLOCK: a pipe must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(Self::Nobody),
            // A symbolic link, or a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Self::Stranger),
            Err(errno) => return Err(errno.into()),
        };
        Self::of(file, name)
    }

    /// What an open file of this name is.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(file: File, name: &str) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Ok(Self::Stranger);
        }
        let is_claims = name == CLAIMS_FILE;
        // One byte more than may be there, so that the parser can tell that there is more.
        let bytes_max = if is_claims { CLAIMS_MAX } else { BUNDLE_MAX } as u64 + 1;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        let is_publication =
            if is_claims { are_claims(&bytes) } else { Bundle::parse(&bytes).is_ok() };
        Ok(if is_publication { Self::Publication } else { Self::Stranger })
    }
}

/// Whether these bytes are claims and nothing else.
fn are_claims(bytes: &[u8]) -> bool {
    Claims::parse(bytes).is_ok_and(|claims| !claims.bundles.is_empty() && claims.skipped == 0)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use attestfs_attestation::{KeyHint, Payload};
    use attestfs_digest::Sha256;

    use super::*;

    fn bundle() -> Vec<u8> {
        let payload = Payload::new(b"{}".to_vec());
        Bundle::attestation(payload, vec![1], KeyHint(Sha256([2; 32]))).to_json()
    }

    #[test]
    fn only_an_earlier_publication_may_be_replaced() {
        let base = tempfile::tempdir().unwrap();
        let directory = File::open(base.path()).unwrap();
        let with_more = [&bundle()[..], b"\n{\"claim\": \"my own\"}\n"].concat();
        let cases: [(&str, &[u8], Occupant); 7] = [
            ("claims.jsonl", b"", Occupant::Stranger),
            ("claims.jsonl", b"{\"claim\": \"my own\"}\n", Occupant::Stranger),
            ("claims.jsonl", &with_more, Occupant::Stranger),
            ("claims.jsonl", &bundle(), Occupant::Publication),
            ("model.sig", b"-----BEGIN PGP SIGNATURE-----", Occupant::Stranger),
            ("model.sig", &with_more, Occupant::Stranger),
            ("model.sig", &bundle(), Occupant::Publication),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(Occupant::at(&directory, "elsewhere").unwrap(), Occupant::Nobody);
            fs::write(base.path().join(name), bytes).unwrap();
            assert_eq!(Occupant::at(&directory, name).unwrap(), expected, "{name}: {bytes:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_a_stranger() {
        let base = tempfile::tempdir().unwrap();
        let directory = File::open(base.path()).unwrap();
        fs::write(base.path().join("bundle"), bundle()).unwrap();
        symlink("bundle", base.path().join("link")).unwrap();
        fs::create_dir(base.path().join("directory")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(base.path().join("socket")).unwrap());
        for name in ["link", "directory", "socket"] {
            assert_eq!(Occupant::at(&directory, name).unwrap(), Occupant::Stranger, "{name}");
        }
    }
}
