//! Where it happens: a store and a state, on one disk or on two.

use std::{fs, path::PathBuf};

use crate::{
    disk::{self, Disk, Kind, kill_who_uses},
    lab::Lab,
    mounted::unmount_all_at,
    needs,
    require::require,
};

/// Which disks there are, and of which the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Store and state lie on one.
    One,
    /// On one each, and both are cut.
    Both,
    /// On one each: only that of the store is cut.
    Store,
    /// On one each: only that of the state is cut.
    State,
}

/// A lab whose store and state lie on disks.
pub(crate) struct Place {
    // In this order they go.
    disks: Vec<(Disk, bool)>,
    pub(crate) lab: Lab,
}

impl Place {
    /// None, said in one line, where there can be no such disks.
    pub(crate) fn new(kind: Kind, cut: Cut) -> Option<Self> {
        if !has_programs() {
            return None;
        }
        let lab = Lab::new()?;
        if !has_devices(&lab) {
            return None;
        }
        let (store, state) = (("store", lab.directory("store")), ("state", lab.state()));
        let disk = |name: &str, binds: &[_]| Disk::new(kind, lab.path(name), binds);
        let disks = match cut {
            Cut::One => vec![(disk("disk", &[store, state]), true)],
            Cut::Both | Cut::Store | Cut::State => vec![
                (disk("disk-of-store", &[store]), cut != Cut::State),
                (disk("disk-of-state", &[state]), cut != Cut::Store),
            ],
        };
        Some(Self { disks, lab })
    }

    /// What of the state is only in memory is written down, by the way.
    pub(crate) fn sync_state(&self) {
        self.disks.last().unwrap().0.sync();
    }

    /// What was put into the store by now stays there.
    pub(crate) fn sync_store(&self) {
        self.disks[0].0.sync();
    }

    /// As a database beside us does it: the journal of the store's filesystem is written, the bytes of files are not.
    pub(crate) fn sync_directory(&self) {
        let mark = self.lab.path("store/mark");
        fs::write(&mark, "").and_then(|()| fs::File::open(&mark)?.sync_all()).unwrap_or_default();
    }

    /// The power goes.
    pub(crate) fn cut(&self) {
        self.cut_ones().for_each(Disk::cut);
    }

    /// Nobody is left, and the power is there again.
    pub(crate) fn come_back(&self) {
        kill_who_uses(&self.lab.path("."));
        unmount_all_at(&self.mount_point());
        for (disk, _) in &self.disks {
            disk.take_away();
            disk.come_back();
        }
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.lab.path("mnt")
    }

    fn cut_ones(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().filter(|(_, is_cut)| *is_cut).map(|(disk, _)| disk)
    }
}

/// Whether there is all that makes disks and cuts them.
pub(crate) fn has_programs() -> bool {
    needs::programs(&["mkfs.ext4", "mkfs.xfs", "losetup", "python3"])
}

/// Whether a file in this lab can be a disk.
pub(crate) fn has_devices(lab: &Lab) -> bool {
    require(disk::are_possible(&lab.path("probe.img")), "loop devices")
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount_all_at(&self.mount_point());
        // Whoever is left would keep the disks.
        kill_who_uses(&self.lab.path("."));
        self.lab.end_daemon();
    }
}
