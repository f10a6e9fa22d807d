//! Whether the kernel can read and write files of the store by itself.

use std::fs;

use attestfs_fs::Capture;

use crate::config::Environment;

/// What `--capture` asks for cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--capture reread has the kernel write by itself, which {lacking}")]
pub(crate) struct NoPassthrough {
    lacking: String,
}

impl NoPassthrough {
    /// What to do about it.
    pub(crate) const NEXT_STEP: &str = "leave --capture out: then all writes go through attestfs";
}

/// # Errors
/// What is asked for cannot be had here. Of the store nothing is known yet: one that lies on another filesystem itself may
/// still refuse.
pub(crate) fn check(capture: Capture, environment: &Environment) -> Result<(), NoPassthrough> {
    let lacking = match capture {
        Capture::Inline => return Ok(()),
        Capture::Reread if environment.no_passthrough => {
            Some("ATTESTFS_PASSTHROUGH=off forbids".to_owned())
        }
        Capture::Reread => lacking(),
    };
    lacking.map_or(Ok(()), |lacking| Err(NoPassthrough { lacking }))
}

/// What it needs and is not there, as the end of a sentence.
pub(crate) fn lacking() -> Option<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_none_or(|version| version < SINCE) {
        Some(format!("needs Linux {}.{}", SINCE.0, SINCE.1))
    } else if !is_admin() {
        Some("needs CAP_SYS_ADMIN outside of a user namespace".to_owned())
    } else {
        None
    }
}

/// Whether this process may do what only an administrator of the whole machine may.
fn is_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all_users: Vec<_> = users.split_whitespace().collect();
    effective.is_some_and(|set| set & SYS_ADMIN != 0) && all_users == ["0", "0", "4294967295"]
}

/// Major and minor version of a kernel.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The first kernel that lets files be read and written past the serving process.
const SINCE: (u32, u32) = (6, 9);

/// `CAP_SYS_ADMIN`, in `CapEff`.
const SYS_ADMIN: u64 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_kernel_is_its_first_two_numbers() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("6.9-rc1"), Some((6, 9)));
        for unknown in ["", "6", "x.y"] {
            assert_eq!(version(unknown), None, "{unknown}");
        }
    }
}
