//! Ways to a directory: as it is, or through a file system.

use std::path::PathBuf;

use crate::{
    mounted::{Mounted, Outputs},
    peers::{BINDFS, MERGERFS, Peer, PeerMount},
    place::Place,
};

pub(crate) const NATIVE: &str = "native";

/// A directory, and how to get to it. Each has a directory of its own behind it.
#[derive(Debug)]
pub(crate) struct View<'p> {
    pub(crate) name: &'static str,
    way: Way<'p>,
}

#[derive(Debug)]
enum Way<'p> {
    Native(PathBuf),
    Attestfs(Mounted<'p>),
    Peer(PeerMount),
}

impl<'p> View<'p> {
    pub(crate) fn native(place: &'p Place) -> Self {
        Self { name: NATIVE, way: Way::Native(place.directory("behind-native")) }
    }

    /// Through attestfs, with a stage open, so that what is written is hashed and recorded.
    pub(crate) fn attestfs(place: &'p Place, options: &[&str]) -> Self {
        let mounted = Mounted::new(place, &place.directory("behind-attestfs"), options);
        mounted.open_stage(Outputs::All);
        Self { name: "attestfs", way: Way::Attestfs(mounted) }
    }

    /// None where it is not installed.
    pub(crate) fn peer(place: &'p Place, peer: Peer) -> Option<Self> {
        let mounted = peer.mount(place, &place.directory(&format!("behind-{}", peer.name)))?;
        Some(Self { name: peer.name, way: Way::Peer(mounted) })
    }

    /// Ours with these options, the plain directory, and all others that are installed.
    pub(crate) fn all(place: &'p Place, options: &[&str]) -> Vec<Self> {
        let peers = [MERGERFS, BINDFS].into_iter().filter_map(|peer| Self::peer(place, peer));
        [Self::attestfs(place, options), Self::native(place)].into_iter().chain(peers).collect()
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let root = match &self.way {
            Way::Native(path) => path,
            Way::Attestfs(mounted) => &mounted.path,
            Way::Peer(mounted) => &mounted.path,
        };
        root.join(name)
    }

    /// The process of ours that serves it.
    pub(crate) fn server(&self) -> Option<u32> {
        match &self.way {
            Way::Attestfs(mounted) => Some(mounted.server),
            Way::Native(_) | Way::Peer(_) => None,
        }
    }
}
