//! This program as `/sbin/mount.attestfs` and `/sbin/umount.attestfs`: how `mount(8)` calls it, in
//! the words of its own command line.
//!
//! ```text
//! mount.attestfs SOURCE TARGET [-sfnv] [-t TYPE] [-o OPTIONS]
//! umount.attestfs TARGET [-flnrv] [-t TYPE]
//! ```

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

/// What `mount(8)` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// This command line, the name of the program first.
    Line(Vec<OsString>),
    /// Nothing: it only tries what would be called (`-f`).
    Nothing,
    /// Something that cannot be done.
    Wrong(String),
}

/// Whether this program was called by one of these names, and what for then.
pub(crate) fn called_as(arguments: &[OsString]) -> Option<Called> {
    let (name, rest) = arguments.split_first()?;
    let name = Path::new(name).file_name()?.to_str()?;
    let (command, translate): (_, fn(&[OsString]) -> _) = match name {
        "mount.attestfs" | "mount.fuse.attestfs" => ("mount", mount),
        "umount.attestfs" | "umount.fuse.attestfs" => ("umount", umount),
        _ => return None,
    };
    if asks_for_help(rest) {
        return Some(Called::Line(vec!["attestfs".into(), command.into(), "--help".into()]));
    }
    let translated = translate(rest);
    Some(translated.unwrap_or_else(Called::Wrong))
}

/// Options of fstab that say who mounts when, or what is so anyway.
const OF_NO_MEANING: [&str; 28] = [
    "rw",
    "defaults",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "nosuid",
    "nodev",
    "exec",
    "async",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "comment",
];

/// Options that have a value and a word of the command line of the same name.
const WITH_VALUE: [&str; 8] = ["stage", "in", "out", "label", "policy", "key", "state", "origin"];

/// Options without a value, and their words.
const FLAGS: [(&str, &str); 3] =
    [("ro", "--read-only"), ("noexec", "--no-exec"), ("idmap", "--idmap")];

/// What stands in the words of a helper's command line.
#[derive(Debug, Default)]
struct Words {
    places: Vec<OsString>,
    options: Vec<u8>,
    /// Single letters without a value.
    flags: Vec<u8>,
}

impl Words {
    fn parse(arguments: &[OsString], flags: &[u8]) -> Result<Self, String> {
        let mut words = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.as_bytes().strip_prefix(b"-") else {
                words.places.push(argument.clone());
                continue;
            };
            match letters {
                b"o" => {
                    let given = arguments.next().ok_or("-o needs options")?;
                    words.options.extend([given.as_bytes(), b","].concat());
                }
                b"t" => drop(arguments.next()),
                _ if !letters.is_empty() && letters.iter().all(|it| flags.contains(it)) => {
                    words.flags.extend(letters);
                }
                _ => return Err(format!("unknown option {}", argument.display())),
            }
        }
        Ok(words)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.contains(&flag)
    }
}

fn mount(arguments: &[OsString]) -> Result<Called, String> {
    let words = Words::parse(arguments, b"sfnv")?;
    let [source, target] = <[OsString; 2]>::try_from(words.places.clone())
        .map_err(|_others| "give what is to be mounted, and where".to_owned())?;
    let mut line: Vec<OsString> = vec!["attestfs".into(), "mount".into()];
    line.extend(fstab_words(&words.options, words.has(b's'))?);
    if words.has(b'f') {
        return Ok(Called::Nothing);
    }
    line.extend(["--".into(), source, target]);
    Ok(Called::Line(line))
}

fn umount(arguments: &[OsString]) -> Result<Called, String> {
    let words = Words::parse(arguments, b"flnrv")?;
    let [target] = <[OsString; 1]>::try_from(words.places.clone())
        .map_err(|_others| "give what is to be unmounted".to_owned())?;
    let mut line: Vec<OsString> = vec!["attestfs".into(), "umount".into()];
    line.extend(words.has(b'l').then(|| "--lazy".into()));
    line.extend(["--".into(), target]);
    Ok(Called::Line(line))
}

/// The words of the command line for the options of `-o`, separated by commas.
///
/// # Errors
/// There is no such option, or it cannot be kept. Unknown ones are passed over when `is_sloppy`.
pub(crate) fn fstab_words(options: &[u8], is_sloppy: bool) -> Result<Vec<OsString>, String> {
    let words = split(options)?.into_iter().map(|option| word(&option, is_sloppy));
    words.filter_map(Result::transpose).collect()
}

/// The word for one of them; none when it means nothing here.
fn word(option: &[u8], sloppy: bool) -> Result<Option<OsString>, String> {
    let separator = option.iter().position(|byte| *byte == b'=').unwrap_or(option.len());
    let (name, value) = (&option[..separator], option.get(separator + 1..));
    let name = String::from_utf8_lossy(name);
    let flag = FLAGS.iter().find(|(flag, _)| *flag == name && value.is_none());
    if let Some((_, word)) = flag {
        return Ok(Some(word.into()));
    }
    let own = || format!("-o {name}: a mount of attestfs is always nosuid and nodev");
    match (name.as_ref(), value) {
        ("suid" | "dev", None) => Err(own()),
        ("remount", _) => Err("-o remount: unmount it, and mount it anew".to_owned()),
        (name, Some(value)) if WITH_VALUE.contains(&name) => {
            let word = [b"--", name.as_bytes(), b"=", value].concat();
            Ok(Some(OsString::from_vec(word)))
        }
        (name, _) if OF_NO_MEANING.contains(&name) => Ok(None),
        (name, _) if name.starts_with("x-") || name.starts_with("X-") => Ok(None),
        _ if sloppy => Ok(None),
        (name, _) => Err(format!("-o {name}: no such option; there are {}", known())),
    }
}

/// The options that mean something, for a message.
fn known() -> String {
    let flags = FLAGS.iter().map(|(flag, _)| (*flag).to_owned());
    let with_value = WITH_VALUE.iter().map(|name| format!("{name}=.."));
    flags.chain(with_value).collect::<Vec<_>>().join(", ")
}

/// Whether the user asks for help.
fn asks_for_help(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "-h" || argument == "--help")
}

/// Splits at commas. What stands between double quotes may hold some.
fn split(options: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    let (mut option, mut quoted) = (Vec::new(), false);
    for &byte in options {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => found.push(std::mem::take(&mut option)),
            byte => option.push(byte),
        }
    }
    if quoted {
        let options = OsStr::from_bytes(options).display().to_string();
        return Err(format!("-o {options}: a quote is not closed"));
    }
    found.push(option);
    found.retain(|option| !option.is_empty());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(line: &[&str]) -> Option<Called> {
        called_as(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn words(line: &[&str]) -> Vec<String> {
        match called(line) {
            Some(Called::Line(words)) => {
                words.into_iter().map(|word| word.into_string().unwrap()).collect()
            }
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn wrong(line: &[&str]) -> String {
        match called(line) {
            Some(Called::Wrong(message)) => message,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn a_line_of_fstab_is_a_command_line() {
        let options =
            "rw,stage=train,policy=/etc/p.toml,label=a=b,_netdev,x-systemd.automount,nofail";
        let mount = ["/sbin/mount.attestfs", "/data", "/mnt/data", "-s", "-v", "-o", options];
        let expected = [
            "attestfs",
            "mount",
            "--stage=train",
            "--policy=/etc/p.toml",
            "--label=a=b",
            "--",
            "/data",
            "/mnt/data",
        ];
        assert_eq!(words(&mount), expected);
        assert_eq!(
            words(&["mount.fuse.attestfs", "a", "b", "-o", "ro,noexec", "-t", "attestfs"]),
            ["attestfs", "mount", "--read-only", "--no-exec", "--", "a", "b"]
        );
        assert_eq!(
            words(&["umount.attestfs", "/mnt", "-l"]),
            ["attestfs", "umount", "--lazy", "--", "/mnt"]
        );
    }

    #[test]
    fn what_stands_between_quotes_may_hold_commas() {
        let line = words(&["mount.attestfs", "a", "b", "-o", "key=\"/a,b\",ro", "-o", "stage=x"]);
        assert_eq!(line[2..5], ["--key=/a,b", "--read-only", "--stage=x"]);
        assert!(wrong(&["mount.attestfs", "a", "b", "-o", "key=\"/a"]).contains("not closed"));
    }

    #[test]
    fn an_option_that_would_not_be_kept_is_refused() {
        for option in ["suid", "dev", "remount,ro", "unknown", "stage", "ro=1"] {
            wrong(&["mount.attestfs", "a", "b", "-o", option]);
        }
        assert_eq!(words(&["mount.attestfs", "a", "b", "-s", "-o", "unknown"]).len(), 5);
        assert!(wrong(&["mount.attestfs", "a", "b", "-s", "-o", "suid"]).contains("nosuid"));
    }

    #[test]
    fn an_option_that_there_is_not_is_told_with_those_that_there_are() {
        let message = wrong(&["mount.attestfs", "a", "b", "-o", "polcy=p.toml"]);
        for (name, _) in FLAGS {
            assert!(message.contains(name), "{message}");
        }
        for name in WITH_VALUE {
            assert!(message.contains(&format!("{name}=..")), "{message}");
        }
        assert!(message.contains("-o polcy"), "{message}");
    }

    #[test]
    fn who_asks_for_help_gets_that_of_the_command() {
        for help in ["-h", "--help"] {
            assert_eq!(words(&["mount.attestfs", help]), ["attestfs", "mount", "--help"]);
            assert_eq!(words(&["umount.attestfs", "/m", help]), ["attestfs", "umount", "--help"]);
        }
    }

    #[test]
    fn a_line_without_both_places_is_refused_and_a_trial_does_nothing() {
        for line in
            [&["mount.attestfs"][..], &["mount.attestfs", "a"], &["mount.attestfs", "a", "b", "c"]]
        {
            assert!(wrong(line).contains("what is to be mounted"));
        }
        assert!(wrong(&["umount.attestfs"]).contains("unmounted"));
        assert!(wrong(&["mount.attestfs", "a", "b", "-z"]).contains("-z"));
        assert!(wrong(&["mount.attestfs", "a", "b", "-N", "/proc/1/ns/mnt"]).contains("-N"));
        assert!(wrong(&["mount.attestfs", "a", "b", "-o"]).contains("-o"));
        assert_eq!(called(&["mount.attestfs", "a", "b", "-f"]), Some(Called::Nothing));
    }

    #[test]
    fn only_the_names_of_helpers_are_helpers() {
        for name in ["attestfs", "mount", "/sbin/mount.nfs", ""] {
            assert_eq!(called(&[name, "a", "b"]), None, "{name}");
        }
        assert_eq!(called(&[]), None);
    }
}
