//! Which mounts are served, and by which connection.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use parking_lot::Mutex;

use super::{MountDescription, visitor::Visitor};

/// The mounts that connections speak for, by their names.
#[derive(Debug, Default)]
pub(super) struct LiveMounts(Mutex<BTreeMap<String, LiveMount>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct LiveMount {
    pub(super) description: MountDescription,
    pub(super) visitor: Arc<Visitor>,
}

impl LiveMounts {
    /// From now on `visitor` speaks for this mount.
    pub(super) fn insert(&self, description: MountDescription, visitor: &Arc<Visitor>) {
        let name = description.id.clone();
        let mount = LiveMount { description, visitor: Arc::clone(visitor) };
        self.0.lock().insert(name, mount);
    }

    /// Forgets the mounts that this visitor spoke for.
    pub(super) fn remove_of(&self, visitor: &Arc<Visitor>) {
        self.0.lock().retain(|_, mount| !Arc::ptr_eq(&mount.visitor, visitor));
    }

    /// Who speaks for this mount.
    pub(super) fn visitor(&self, mount: &str) -> Option<Arc<Visitor>> {
        self.0.lock().get(mount).map(|mount| Arc::clone(&mount.visitor))
    }

    /// What they say of themselves.
    pub(super) fn descriptions(&self) -> Vec<MountDescription> {
        self.0.lock().values().map(|mount| mount.description.clone()).collect()
    }

    /// The mount that is meant by an absolute path: the one whose mount point is nearest above it,
    /// else the one whose backing directory is. Names sort by time: of several at one mount point it is
    /// the newest, which covers the others, and of one directory the newest that can be written to.
    pub(super) fn at(&self, path: &str) -> Option<LiveMount> {
        let mounts = self.0.lock();
        let nearest = |place: fn(&MountDescription) -> Option<&str>, prefers_writable: bool| {
            let distance = |mount: &LiveMount| {
                let place = place(&mount.description)?;
                Path::new(path).starts_with(place).then_some(place.len())
            };
            let found = mounts.iter().filter_map(|(name, mount)| {
                let is_preferred = prefers_writable && !mount.description.read_only;
                Some(((distance(mount)?, is_preferred, name), mount))
            });
            found.max_by_key(|(rank, _)| *rank).map(|(_, mount)| mount.clone())
        };
        nearest(|mount| mount.mount_point.as_deref(), false)
            .or_else(|| nearest(|mount| Some(&mount.origin), true))
    }
}

impl MountDescription {
    /// What statements call a path that is seen through the mount; none when it lies elsewhere.
    pub(crate) fn origin_of(&self, path: &str) -> Option<String> {
        let below = Path::new(path).strip_prefix(self.mount_point.as_deref()?).ok()?;
        Path::new(&self.origin)
            .join(below)
            .to_str()
            .map(|path| path.trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn mount(
        id: &str,
        mount_point: Option<&str>,
        origin: &str,
        read_only: bool,
    ) -> MountDescription {
        MountDescription {
            id: id.to_owned(),
            mount_point: mount_point.map(str::to_owned),
            origin: origin.to_owned(),
            read_only,
            policy: None,
            pid: 1,
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn mounts(descriptions: impl IntoIterator<Item = MountDescription>) -> LiveMounts {
        let mounts = LiveMounts::default();
        let (replies, _) = mpsc::channel(1);
        let visitor = Arc::new(Visitor::new(replies));
        descriptions.into_iter().for_each(|it| mounts.insert(it, &visitor));
        mounts
    }

    #[test]
    fn a_path_means_the_nearest_mount_point_and_else_the_nearest_backing_directory() {
        let mounts = mounts([
            mount("1", Some("/mnt"), "/data", false),
            mount("2", Some("/mnt/model"), "/models/one", false),
            mount("3", None, "/data/raw", false),
        ]);
        let at = |path| mounts.at(path).map(|mount| mount.description.id);
        assert_eq!(at("/mnt/model/step").as_deref(), Some("2"));
        assert_eq!(at("/mnt/model").as_deref(), Some("2"));
        assert_eq!(at("/mnt/models").as_deref(), Some("1"));
        assert_eq!(at("/data/raw/x").as_deref(), Some("3"));
        assert_eq!(at("/data/x").as_deref(), Some("1"));
        assert_eq!(at("/database"), None);
        assert_eq!(at("mnt"), None);
    }

    #[test]
    fn of_several_mounts_of_one_directory_the_writable_one_is_meant() {
        let mounts = mounts([
            mount("1", Some("/a"), "/data", true),
            mount("2", Some("/b"), "/data", false),
            mount("3", Some("/c"), "/data", true),
        ]);
        assert_eq!(mounts.at("/data/x").unwrap().description.id, "2");
        assert_eq!(mounts.at("/c/x").unwrap().description.id, "3");
    }

    #[test]
    fn a_path_below_a_mount_point_has_a_name_in_statements() {
        let mount = mount("1", Some("/mnt"), "/data", false);
        assert_eq!(mount.origin_of("/mnt/a/b").as_deref(), Some("/data/a/b"));
        assert_eq!(mount.origin_of("/mnt").as_deref(), Some("/data"));
        assert_eq!(mount.origin_of("/data/a"), None);
    }
}
