use std::fs;

use super::*;
use crate::{
    backing::Directory,
    fact::{Process, TreePath},
    gate::{Gate, Permit},
    run::{Grace, Holder, Opened, Usage},
    sync::{in_each_schedule, join_all, thread},
    vfs::{
        inode::{
            Inode, Shortcut,
            tests::{Desk, tenure},
        },
        ways::Opener,
    },
};

/// A table of open files, and a file that is opened past us.
#[derive(Clone)]
struct Mount {
    handles: Arc<Handles>,
    inode: Arc<Inode>,
}

impl Mount {
    fn new() -> Self {
        let desk = Desk::new();
        fs::write(desk.directory.path().join("a"), "").unwrap();
        Self { handles: Arc::default(), inode: desk.look_up("a") }
    }

    fn open(&self) -> HandleId {
        let shortcut = || Some(Shortcut(Arc::new(())));
        let entered = self.inode.enter_way(Opener::Reader { passes: true }, shortcut);
        let (on_way, _) = entered.unwrap();
        let file = File::open("/dev/null").unwrap();
        let handle = DirectoryHandle::new(Arc::clone(&self.inode), file);
        self.handles.insert_on_way(Handle::Directory(Arc::new(handle)), Some(on_way))
    }

    /// Opens it for somebody who writes past us.
    fn write_past(&self) {
        let (run, tracked) = (tenure().run, self.inode.tracked().unwrap());
        let file = Arc::new(tempfile::tempfile().unwrap());
        let backing = Arc::new(Directory::new(File::open("/").unwrap().into()));
        let (by, nowhere): (_, Arc<[TreePath]>) = (Process::default(), Arc::new([]));
        let holder = Holder { owner: run.owner(), by: by.clone() };
        let hold = tracked.hold_anyway(Usage::Writes, holder);
        let leave = (Permit::new(Gate::open(), &nowhere), hold);
        let writer = WriteHandle::new(run, tracked, Opened { backing, file }, by, leave, None);
        writer.write_past();
        self.handles.insert(Handle::Writer(Arc::new(writer)));
    }

    fn begin(&self, work: fn(&Self)) -> thread::JoinHandle<()> {
        let mount = self.clone();
        thread::spawn(move || work(&mount))
    }

    fn holds_nothing(&self) {
        assert!(self.handles.open.lock().handles.is_empty());
        assert!(!self.inode.is_passed(), "nobody has it open");
    }
}

#[test]
fn who_opens_while_others_close_leaves_neither_a_handle_nor_a_way() {
    in_each_schedule(|| {
        let mount = Mount::new();
        let threads = [(); 3].map(|()| {
            mount.begin(|mount| {
                let id = mount.open();
                let handle = mount.handles.find(id).unwrap();
                mount.handles.remove(id);
                assert!(mount.handles.find(id).is_err());
                drop(handle);
            })
        });
        // Who waits until nobody passes us hears of the last one.
        mount.inode.wait_until_not_passed(Grace::Ahead);
        join_all(threads);
        mount.holds_nothing();
    });
}

#[test]
fn what_is_opened_while_the_mount_ends_is_closed() {
    in_each_schedule(|| {
        let mount = Mount::new();
        let threads = [(); 2].map(|()| mount.begin(|mount| _ = mount.open()));
        mount.handles.close_all(|_| true);
        join_all(threads);
        mount.holds_nothing();
    });
}

#[test]
fn who_writes_past_us_is_told_of_while_the_mount_ends_until_he_has_closed_the_file() {
    in_each_schedule(|| {
        let mount = Mount::new();
        mount.write_past();
        let end = mount.begin(|mount| mount.handles.close_all(|_| false));
        assert_eq!(mount.handles.writers_past().len(), 1);
        end.join().unwrap();
        assert_eq!(mount.handles.writers_past().len(), 1);
        mount.handles.close_all(|_| true);
        mount.holds_nothing();
    });
}
