//! Mounts of this program, as the kernel lists them.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use attestfs_fs::Attachment;

/// A mount, in the mount namespace of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// By which `/proc/<pid>/fdinfo` calls it.
    pub(super) id: u64,
    /// The mount that it stands on.
    parent: u64,
    /// Where.
    pub(crate) target: PathBuf,
    /// What it says that lies behind it.
    pub(crate) source: PathBuf,
    /// Its type.
    kind: Vec<u8>,
    /// The path within the mounted filesystem that is seen there: bind mounts show a part.
    part: PathBuf,
}

impl Mounted {
    /// Whether this program made it.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == TYPE
    }

    /// Whether this program made it, and only the command of a run sees it.
    pub(crate) fn is_of_a_run(&self) -> bool {
        self.is_ours() && self.source.as_os_str() == Attachment::OF_A_RUN
    }

    /// Whether it stands on `other`, or on something in it.
    pub(super) fn stands_on(&self, other: &Self) -> bool {
        self.parent == other.id
    }

    /// `36 35 98:0 /part /target rw,noatime master:1 - fuse.attestfs /source rw`
    fn parse(line: &[u8]) -> Option<Self> {
        let separator = line.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR)?;
        let (place, kind) = (&line[..separator], &line[separator + SEPARATOR.len()..]);
        let mut place = place.split(|byte| *byte == b' ');
        let mut kind = kind.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(place.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescaped(field)));
        Some(Self {
            id,
            parent,
            part: path(place.nth(1)?),
            target: path(place.next()?),
            kind: kind.next()?.to_vec(),
            source: path(kind.next()?),
        })
    }

    /// What lies behind a path that is seen through it.
    fn behind(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.target).ok()?;
        let part = self.part.strip_prefix("/").ok()?;
        let components = [part, below].into_iter().flat_map(Path::components);
        Some(components.fold(self.source.clone(), |path, component| path.join(component)))
    }
}

/// All mounts that this process sees.
pub(crate) fn all() -> Vec<Mounted> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts.split(|byte| *byte == b'\n').filter_map(Mounted::parse).collect()
}

/// The mount that is seen at exactly this path: of several on each other the uppermost.
pub(crate) fn at(target: &Path) -> Option<Mounted> {
    uppermost(all(), target)
}

/// The mount of this program through which an absolute path without symbolic links is seen; none
/// inside a run, which is behind one of its own.
pub(crate) fn seen_through(path: &Path) -> Option<Mounted> {
    through(&all(), path)
}

/// What statements call an absolute path without symbolic links: when it leads through a mount of
/// this program, the path behind that.
pub(crate) fn origin(path: &Path) -> PathBuf {
    origin_among(&all(), path)
}

fn uppermost(mounts: Vec<Mounted>, target: &Path) -> Option<Mounted> {
    let here: Vec<_> = mounts.into_iter().filter(|mount| mount.target == target).collect();
    let carries = |mount: &Mounted| here.iter().any(|other| other.parent == mount.id);
    here.iter().find(|mount| !carries(mount)).cloned()
}

fn origin_among(mounts: &[Mounted], path: &Path) -> PathBuf {
    let seen = through(mounts, path);
    seen.and_then(|mount| mount.behind(path)).unwrap_or_else(|| path.to_owned())
}

fn through(mounts: &[Mounted], path: &Path) -> Option<Mounted> {
    let seen = path.ancestors().find_map(|above| uppermost(mounts.to_vec(), above));
    seen.filter(|mount| mount.is_ours() && !mount.is_of_a_run())
}

const TYPE: &[u8] = b"fuse.attestfs";

/// Between what is said of the place and what is said of the filesystem.
const SEPARATOR: &[u8] = b" - ";

/// The kernel writes blanks, newlines and backslashes as three octal digits after a backslash.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.first_chunk::<3>().copied().filter(|_| byte == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    bytes
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits.as_slice()).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(ids: &str, part: &str, target: &str, kind: &str, source: &str) -> Mounted {
        let line =
            format!("{ids} 0:52 {part} {target} rw,nosuid master:1 - {kind} {source} rw,user_id=0");
        Mounted::parse(line.as_bytes()).unwrap()
    }

    fn ours(ids: &str, part: &str, target: &str, source: &str) -> Mounted {
        mounted(ids, part, target, "fuse.attestfs", source)
    }

    #[test]
    fn only_the_type_of_a_mount_says_that_it_is_ours_and_its_source_that_it_is_of_a_run() {
        assert!(ours("2 1", "/", "/data", "attestfs").is_of_a_run());
        assert!(!ours("2 1", "/", "/data", "/attestfs").is_of_a_run());
        assert!(!ours("2 1", "/", "/data/attestfs", "/data").is_of_a_run());
        for other in ["fuse", "fuse.sshfs", "ext4", "fuse.attestfs2", ""] {
            let mount = mounted("2 1", "/", "/data/fuse.attestfs", other, "attestfs");
            assert!(!mount.is_ours() && !mount.is_of_a_run(), "{other}");
        }
        for torn in ["", " - ", " - fuse.attestfs", "1 - fuse.attestfs /a", "1 2 0:1 / - x y"] {
            assert_eq!(Mounted::parse(torn.as_bytes()), None, "{torn}");
        }
    }

    #[test]
    fn of_mounts_on_each_other_the_uppermost_is_seen() {
        let lower = ours("30 20", "/", "/data", "/data");
        let upper = mounted("31 30", "/", "/data", "ext4", "/dev/sda");
        for mounts in [[lower.clone(), upper.clone()], [upper.clone(), lower]] {
            assert_eq!(uppermost(mounts.to_vec(), Path::new("/data")), Some(upper.clone()));
            assert_eq!(uppermost(mounts.to_vec(), Path::new("/dat")), None);
        }
    }

    #[test]
    fn a_path_through_a_mount_is_called_by_what_lies_behind() {
        let mounts = vec![
            mounted("1 0", "/", "/", "ext4", "/dev/sda"),
            ours("2 1", "/", "/mnt", "/data"),
            ours("3 2", "/", "/mnt/inner", "/models/one"),
            ours("4 1", "/raw", "/part", "/data"),
            ours("5 1", "/", "/run", "attestfs"),
            mounted("6 2", "/", "/mnt/disk", "ext4", "/dev/sdb"),
        ];
        let origin = |path| origin_among(&mounts, Path::new(path)).to_str().unwrap().to_owned();
        assert_eq!(origin("/mnt"), "/data");
        assert_eq!(origin("/mnt/a/b"), "/data/a/b");
        assert_eq!(origin("/mnt/inner/x"), "/models/one/x");
        assert_eq!(origin("/part/x"), "/data/raw/x");
        assert_eq!(origin("/run/x"), "/run/x");
        assert_eq!(origin("/mntx"), "/mntx");
        assert_eq!(origin("/mnt/disk/x"), "/mnt/disk/x");
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        let mount = ours("2 1", "/", "/a\\040b\\134c", "/with\\011tab");
        assert_eq!(mount.target, Path::new("/a b\\c"));
        assert_eq!(mount.source, Path::new("/with\ttab"));
        for plain in ["", "a\\", "\\04", "\\999", "a"] {
            assert_eq!(unescaped(plain.as_bytes()), plain.as_bytes());
        }
    }
}
