use std::fs;

use super::{
    tests::{Desk, tenure},
    *,
};
use crate::{
    sync::{in_each_schedule, join_all, thread},
    vfs::ways::tests::Kernel,
};

const OPENERS: [Opener; 6] = [
    Opener::Reader { passes: true },
    Opener::Reader { passes: false },
    Opener::VerifiedReader,
    Opener::Writer { past: Some(0) },
    Opener::Maker,
    Opener::Changer,
];

/// One file, as we and the kernel know it.
#[derive(Clone)]
struct File {
    inode: Arc<Inode>,
    kernel: Arc<std::sync::Mutex<Kernel>>,
    shortcuts: Arc<std::sync::atomic::AtomicU32>,
}

impl File {
    fn new() -> Self {
        let desk = Desk::new();
        fs::write(desk.directory.path().join("a"), "").unwrap();
        Self { inode: desk.look_up("a"), kernel: Arc::default(), shortcuts: Arc::default() }
    }

    /// Opens and closes it. The kernel has it open from our answer on, and closes it before we hear of that.
    fn pass(&self, opener: Opener) {
        let changes = matches!(opener, Opener::Maker | Opener::Changer);
        if changes && self.inode.is_passed() {
            self.inode.wait_until_not_passed(Grace::Ahead);
        }
        let shortcut = || Some(Shortcut(Arc::new(self.shortcuts.fetch_add(1, Relaxed))));
        let Ok((on_way, way)) = self.inode.enter_way(opener, shortcut) else {
            assert!(changes || opener == Opener::VerifiedReader, "{opener:?} is let in");
            return;
        };
        thread::yield_now();
        let way = as_numbers(&way);
        assert!(self.kernel.lock().unwrap().open(way).is_some(), "{opener:?}: {way:?}");
        thread::yield_now();
        self.kernel.lock().unwrap().close(way, false);
        drop(on_way);
    }
}

fn as_numbers(way: &Way<Shortcut>) -> Way<u32> {
    let number = |shortcut: &Shortcut| *shortcut.0.downcast_ref().unwrap();
    match way {
        Way::Cached => Way::Cached,
        Way::Direct => Way::Direct,
        Way::Passthrough(shortcut) => Way::Passthrough(number(shortcut)),
        Way::PassthroughDirect(shortcut) => Way::PassthroughDirect(number(shortcut)),
    }
}

#[test]
fn whoever_opens_it_at_once_the_kernel_refuses_nobody_and_who_waits_goes_on() {
    in_each_schedule(|| {
        let file = File::new();
        let threads = OPENERS.map(|opener| {
            let file = file.clone();
            thread::spawn(move || file.pass(opener))
        });
        join_all(threads);
        assert!(!file.inode.is_passed());
    });
}

#[test]
fn a_file_belongs_to_one_stage_whoever_looks_it_up_or_forgets_it_meanwhile() {
    in_each_schedule(|| {
        let desk = Arc::new(Desk::new());
        fs::write(desk.directory.path().join("a"), "").unwrap();
        let threads = [(); 2].map(|()| {
            let desk = Arc::clone(&desk);
            thread::spawn(move || {
                let before = desk.inodes.tenure();
                let inode = desk.look_up("a");
                let Regular { tenure, tracked } = inode.regular().unwrap();
                let turns = [before, desk.inodes.tenure()];
                assert!(turns.iter().any(|turn| Arc::ptr_eq(turn, &tenure)));
                let known = tenure.run.known(tracked.key()).unwrap();
                assert!(Arc::ptr_eq(&known, &tracked));
                assert_eq!(tracked.names().paths().count(), 1);
                assert!(desk.inodes.find(inode.id).is_ok(), "the kernel still knows it");
                desk.inodes.forget(inode.id, 1, |_, _| false);
            })
        });
        desk.inodes.begin(tenure());
        join_all(threads);
        let tables = desk.inodes.tables.lock();
        assert!(tables.referenced.is_empty() && tables.linked.is_empty());
    });
}
