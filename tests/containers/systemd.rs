//! The units of `contrib/systemd`, as systemd reads them, and what they rely on: that the program
//! says when it is ready.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    lab::{ATTESTFS, Finish, Lab, Running, USER, eventually},
    needs,
};

/// The units by the names under which they are used.
const UNITS: [(&str, &str); 3] = [
    ("attestfs-daemon.service", "attestfs-daemon.service"),
    ("attestfs@.service", "attestfs@models.service"),
    ("srv-models.mount", "srv-models.mount"),
];

const FSTAB_GENERATOR: &str = "/lib/systemd/system-generators/systemd-fstab-generator";

/// A machine on which the units are installed, as far as `systemd-analyze` looks.
struct Machine(TempDir);

impl Machine {
    fn new() -> Option<Self> {
        if !needs::programs(&["systemd-analyze"]) {
            return None;
        }
        let machine = Self(tempfile::tempdir().unwrap());
        let units = machine.path("lib/systemd");
        fs::create_dir_all(&units).unwrap();
        Command::new("cp").arg("-r").arg("/lib/systemd/system").arg(units).succeed();
        let program = machine.path("usr/bin/attestfs");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        for (file, _) in UNITS {
            machine.install(file, &read(file));
        }
        Some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn install(&self, file: &str, text: &str) {
        let units = self.path("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join(file), text).unwrap();
    }

    /// What systemd finds fault with.
    fn faults(&self, unit: &str) -> String {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["verify", "--man=no", "--recursive-errors=yes"]);
        let ended = analyze.arg("--root").arg(self.path("")).arg(unit).finish();
        match (ended.code, ended.stderr.as_str()) {
            (Some(0), said) => said.to_owned(),
            (code, said) => format!("ended with {code:?}: {said}"),
        }
    }
}

#[test]
fn systemd_finds_no_fault_in_any_unit() {
    let Some(machine) = Machine::new() else { return };
    for (_, unit) in UNITS {
        assert_eq!(machine.faults(unit), "", "{unit}");
    }
}

#[test]
fn systemd_finds_fault_in_broken_units() {
    let Some(machine) = Machine::new() else { return };
    for (file, unit) in UNITS {
        let good = read(file);
        let mistakes = [
            good.replace("After=", "Aftre="),
            good.replace("=/usr/bin/attestfs", "=/usr/bin/attest"),
            good.replace("Type=notify", "Type=notified"),
            // A local file system that waits for a service which waits for local file systems.
            good.replace("Options=_netdev,", "Options="),
        ];
        for broken in mistakes.into_iter().filter(|broken| *broken != good) {
            machine.install(file, &broken);
            assert_ne!(machine.faults(unit), "", "{unit}:\n{broken}");
        }
        machine.install(file, &good);
    }
}

#[test]
fn the_line_for_fstab_is_a_mount_unit_without_fault() {
    let Some(machine) = Machine::new() else { return };
    let generated = machine.path("generated");
    fs::create_dir(&generated).unwrap();
    Command::new(FSTAB_GENERATOR)
        .args([&generated, &generated, &generated])
        .env("SYSTEMD_FSTAB", directory().join("fstab.example"))
        .succeed();
    let unit = fs::read_to_string(generated.join("srv-models.mount")).unwrap();
    for line in ["Type=attestfs", "What=/srv/models-store", "After=attestfs-daemon.service"] {
        assert!(unit.lines().any(|it| it == line), "{line} is missing in\n{unit}");
    }
    assert!(generated.join("remote-fs.target.wants/srv-models.mount").is_symlink());
    machine.install("srv-models.mount", &unit);
    assert_eq!(machine.faults("srv-models.mount"), "");
}

#[test]
fn the_commands_of_the_units_are_commands_of_the_program() {
    let example = read("attestfs.conf.example");
    let value = |name: &str| {
        let line = example.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("the example does not set {name}"))
    };
    let mut commands = 0;
    for (file, _) in UNITS {
        for line in read(file).lines().filter(|line| line.starts_with("Exec")) {
            let line = line.replace("${BACKING}", value("BACKING"));
            let line = line.replace("${MOUNTPOINT}", value("MOUNTPOINT"));
            let line = line.replace("$OPTIONS", value("OPTIONS"));
            let (_, command) = line.split_once('=').unwrap();
            let mut words = command.split_whitespace();
            assert_eq!(words.next(), Some("/usr/bin/attestfs"), "{line}");
            // What comes before it has to be right; it keeps the rest from happening.
            Command::new(ATTESTFS).args(words).arg("--help").succeed();
            commands += 1;
        }
    }
    assert_eq!(commands, 3);
}

#[test]
fn the_options_of_mount_units_and_fstab_are_options_of_the_mount_helper() {
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("mount.attestfs");
    symlink(ATTESTFS, &helper).unwrap();
    let fstab = read("fstab.example");
    let line = fstab.lines().find(|line| !line.starts_with('#')).unwrap();
    let unit = read("srv-models.mount");
    let of_unit = unit.lines().find_map(|line| line.strip_prefix("Options=")).unwrap();
    for options in [line.split_whitespace().nth(3).unwrap(), of_unit] {
        // `-f` only tries.
        let mut mount = Command::new(&helper);
        mount.args(["/srv/models-store", "/srv/models", "-f", "-o", options]).succeed();
        let wrong = format!("{options},polciy=/etc/attestfs/models.toml");
        let ended = Command::new(&helper).args(["/a", "/b", "-f", "-o", &wrong]).finish();
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn mount_8_and_umount_8_find_the_program_by_the_links_of_the_page() {
    if !needs::programs(&["mount", "umount", "unshare"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let page = read("README.md");
    let links = page.lines().filter_map(|line| line.strip_prefix("ln -s /usr/bin/attestfs /sbin/"));
    let links: Vec<_> = links.collect();
    assert_eq!(links.len(), 2);
    for name in links {
        symlink(ATTESTFS, lab.directory("sbin").join(name)).unwrap();
    }
    lab.directory("store");
    lab.directory("tree");
    // The directory in which they look for helpers, as an installation would fill it.
    let script = r#"
        mount --bind sbin "$(readlink -f /sbin)"
        mount -t attestfs store tree -o "stage=train,out=model,key=$PWD/keys/attestfs.key"
        mkdir tree/model && echo weights > tree/model/weights
        umount tree"#;
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-ec", script]).current_dir(lab.path(""));
    shell.env("ATTESTFS_STATE", lab.path("state")).env("ATTESTFS_IDLE_SECONDS", "1").succeed();
    lab.attestfs(["verify", "--key", "keys/attestfs.pub", "store/model"]).succeed();
}

/// The socket of a service manager that waits to hear of a service.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(lab: &Lab) -> Self {
        let path = lab.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { path, socket }
    }

    /// Whether a line like this comes within that time.
    fn hears(&self, line: &str, within: Duration) -> bool {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]);
                    if text.lines().any(|it| it == line) {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_mount_is_ready_when_it_answers_and_unmounts_when_it_is_told_to_end() {
    let Some(lab) = Lab::new() else { return };
    lab.write("store/file", "content");
    let tree = lab.directory("tree");
    let manager = Manager::new(&lab);
    let mut serve = lab.attestfs(["mount", "--foreground", "store", "tree"]);
    let mut server = Running::start(serve.env("NOTIFY_SOCKET", &manager.path));
    assert!(manager.hears("READY=1", LONG));
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "content");
    let twice = manager.hears("READY=1", Duration::from_millis(500));
    assert!(!twice, "the daemon that it started is another service");
    server.terminate();
    assert!(manager.hears("STOPPING=1", LONG));
    assert_eq!(server.code(), Some(0));
    assert!(!tree.join("file").exists(), "it is still mounted");
}

#[test]
fn a_mount_that_is_not_served_yet_is_not_ready() {
    let Some(lab) = Lab::new() else { return };
    lab.write("store/file", "content");
    let tree = lab.directory("tree");
    let manager = Manager::new(&lab);
    let mut serve = lab.attestfs(["mount", "--foreground", "--receive", "hand-over.sock"]);
    let _server = Running::start(serve.env("NOTIFY_SOCKET", &manager.path));
    eventually("it listens", || lab.path("hand-over.sock").exists());
    assert!(!manager.hears("READY=1", Duration::from_millis(500)));
    lab.attestfs(["mount", "--hand-over", "hand-over.sock", "store", "tree"]).succeed();
    assert!(manager.hears("READY=1", LONG));
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "content");
}

#[test]
fn a_mount_that_cannot_be_served_is_never_ready() {
    let Some(lab) = Lab::new() else { return };
    lab.directory("tree");
    let manager = Manager::new(&lab);
    let mut serve = lab.attestfs(["mount", "--foreground", "missing", "tree"]);
    let ended = serve.env("NOTIFY_SOCKET", &manager.path).finish();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(!manager.hears("READY=1", Duration::from_millis(1)));
}

#[test]
fn the_daemon_is_ready_when_it_answers_and_stays_until_it_is_told_to_end() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::new(&lab);
    let mut serve = lab.attestfs(["daemon", "--foreground"]);
    serve.env_remove("ATTESTFS_IDLE_SECONDS").env("NOTIFY_SOCKET", &manager.path);
    let mut daemon = Running::start(&mut serve);
    assert!(manager.hears("READY=1", LONG));
    assert!(lab.path("state/control.sock").exists());
    let status = lab.attestfs(["daemon", "--json"]).succeed();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["pid"], daemon.pid().as_raw_nonzero().get());
    daemon.terminate();
    assert!(manager.hears("STOPPING=1", LONG));
    assert_eq!(daemon.code(), Some(0));
}

#[test]
fn the_daemon_of_the_unit_has_the_rights_to_publish_in_directories_of_users() {
    if !needs::programs(&["setpriv"]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let unit = read("attestfs-daemon.service");
    let rights = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let rights = rights.to_lowercase().replace("cap_", "+").replace(' ', ",");
    let manager = Manager::new(&lab);
    let mut serve = Command::new("setpriv");
    serve.arg(format!("--bounding-set=-all,{rights}")).args(["--no-new-privs", ATTESTFS]);
    serve.args(["daemon", "--foreground", "--state"]).arg(lab.path("state"));
    serve.env("NOTIFY_SOCKET", &manager.path).env("ATTESTFS_LOG", "error");
    let _daemon = Running::start(&mut serve);
    assert!(manager.hears("READY=1", LONG));

    // A directory of a user that nobody else may enter.
    let store = lab.directory_of_user("store");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    let script = "mkdir model && chmod 700 model && echo x > model/weights && chown -R 1000 model";
    lab.attestfs(["run", "--stage", "train", "--key", "keys/attestfs.key", "--dir", "store"])
        .args(["--out", "model", "--", "sh", "-ec", &format!("cd store && {script}")])
        .succeed();
    for file in ["claims.jsonl", "model.sig"] {
        assert_eq!(fs::metadata(store.join("model").join(file)).unwrap().uid(), USER, "{file}");
    }
    lab.attestfs(["verify", "--key", "keys/attestfs.pub", "store/model"]).succeed();
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd")
}

fn read(file: &str) -> String {
    fs::read_to_string(directory().join(file)).unwrap()
}
