//! What the data plane counts. Numbers alone: which files they are about is for the journal to say.
//!
//! Whoever looks at metrics looks at a process, so there is one [`meter`] in each. Counting is a few
//! atomic operations, and is done whether anybody looks or not.

use std::{array, sync::LazyLock, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::error::Error;

/// The meter of this process.
pub fn meter() -> &'static Meter {
    static METER: LazyLock<Meter> = LazyLock::new(Meter::default);
    &METER
}

/// The counters of a data plane, to be [registered](Meter::register) with whoever shows them.
#[derive(Debug)]
pub struct Meter {
    lanes: [Lane; Operation::NAMES.len()],
    requests: Family<RequestLabels, Counter>,
    durations: Family<OperationLabel, Histogram, fn() -> Histogram>,
    under_way: Family<OperationLabel, Gauge>,
    stuck: Gauge,
    read: Counter,
    written: Counter,
    passed: Counter,
    hashed: Family<HashedFor, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    refused: Counter,
    tolerated: Counter,
    postponed: Family<Room, Counter>,
    waiting: Family<Room, Gauge>,
    seal_queue: Gauge,
    material_queue: Gauge,
    materials_left: Gauge,
    inodes: Gauge,
    handles: Gauge,
}

/// What is counted of one operation, found without looking for it.
#[derive(Debug)]
struct Lane {
    succeeded: Counter,
    duration: Histogram,
    under_way: Gauge,
}

macro_rules! operations {
    ($($operation:ident = $name:literal,)*) => {
        /// A kind of request, as the protocol of FUSE calls it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation { $($operation),* }

        impl Operation {
            const NAMES: [&'static str; [$($name),*].len()] = [$($name),*];

            pub(crate) fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }
    };
}

operations! {
    Lookup = "lookup",
    Forget = "forget",
    GetAttributes = "getattr",
    SetAttributes = "setattr",
    ReadLink = "readlink",
    MakeNode = "mknod",
    MakeDirectory = "mkdir",
    Unlink = "unlink",
    RemoveDirectory = "rmdir",
    Symlink = "symlink",
    Rename = "rename",
    Link = "link",
    Open = "open",
    Create = "create",
    Read = "read",
    Write = "write",
    Flush = "flush",
    Release = "release",
    Sync = "fsync",
    OpenDirectory = "opendir",
    ReadDirectory = "readdir",
    ReadDirectoryPlus = "readdirplus",
    ReleaseDirectory = "releasedir",
    SyncDirectory = "fsyncdir",
    StatFilesystem = "statfs",
    SetXattr = "setxattr",
    GetXattr = "getxattr",
    ListXattr = "listxattr",
    RemoveXattr = "removexattr",
    Access = "access",
    Control = "ioctl",
    Allocate = "fallocate",
    Seek = "lseek",
    CopyRange = "copy_file_range",
}

/// For what a content was read to be hashed, besides what was hashed while it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HashedFor {
    r#for: &'static str,
}

impl HashedFor {
    /// The gate wants to know what somebody opens.
    pub(crate) const GATE: Self = Self { r#for: "gate" };
    /// A run has read it.
    pub(crate) const MATERIAL: Self = Self { r#for: "material" };
    /// A run has written it in another order than from front to back.
    pub(crate) const SEAL: Self = Self { r#for: "seal" };
}

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Room {
    r#for: &'static str,
}

impl Room {
    /// For signatures to be checked.
    pub(crate) const JUDGING: Self = Self { r#for: "judging" };
    /// For files to be hashed.
    pub(crate) const HASHING: Self = Self { r#for: "hashing" };
    /// For others to close a file.
    pub(crate) const CLOSING: Self = Self { r#for: "closing" };
    /// For a write past us to end.
    pub(crate) const WRITING: Self = Self { r#for: "writing" };
    /// For attestations to be looked through: who may see which.
    pub(crate) const LISTING: Self = Self { r#for: "listing" };
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    op: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
    reason: String,
}

impl Default for Meter {
    fn default() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let durations = Family::new_with_constructor(duration as fn() -> Histogram);
        let under_way = Family::<OperationLabel, Gauge>::default();
        let lanes = array::from_fn(|index| {
            let op = Operation::NAMES[index];
            Lane {
                succeeded: requests.get_or_create_owned(&RequestLabels { op, status: SUCCESS }),
                duration: durations.get_or_create_owned(&OperationLabel { op }),
                under_way: under_way.get_or_create_owned(&OperationLabel { op }),
            }
        });
        Self {
            lanes,
            requests,
            durations,
            under_way,
            stuck: Gauge::default(),
            read: Counter::default(),
            written: Counter::default(),
            passed: Counter::default(),
            hashed: Family::default(),
            verdicts: Family::default(),
            refused: Counter::default(),
            tolerated: Counter::default(),
            postponed: Family::default(),
            waiting: Family::default(),
            seal_queue: Gauge::default(),
            material_queue: Gauge::default(),
            materials_left: Gauge::default(),
            inodes: Gauge::default(),
            handles: Gauge::default(),
        }
    }
}

impl Meter {
    /// Shows everything that is counted here, under names without a prefix.
    pub fn register(&self, registry: &mut Registry) {
        self.register_requests(registry);
        self.register_hashing(registry);
        registry.register("inodes", "Files that the kernel knows", self.inodes.clone());
        registry.register("open_handles", "Open files and directories", self.handles.clone());
    }

    /// What the gate has refused so far, for whatever reason.
    pub fn refused_so_far(&self) -> u64 {
        self.refused.get()
    }

    /// What a policy in audit mode would have refused so far.
    pub fn tolerated_so_far(&self) -> u64 {
        self.tolerated.get()
    }

    /// Files that were read and whose digest is still missing.
    pub fn files_to_hash(&self) -> u64 {
        u64::try_from(self.materials_left.get()).unwrap_or_default()
    }

    /// Requests that hang in the store now.
    pub fn stuck_requests(&self) -> u64 {
        u64::try_from(self.stuck.get()).unwrap_or_default()
    }

    fn register_requests(&self, registry: &mut Registry) {
        let help = "Requests of the kernel that were answered, by the errno of the answer";
        registry.register("fuse_requests", help, self.requests.clone());
        let help = "From a request to its answer";
        let durations = self.durations.clone();
        registry.register_with_unit("fuse_request_duration", help, Unit::Seconds, durations);
        let help = "Requests that are not answered yet";
        registry.register("fuse_requests_under_way", help, self.under_way.clone());
        let help = "Requests that have hung in the store for more than ten seconds";
        registry.register("fuse_requests_stuck", help, self.stuck.clone());
        let help = "What was read through the mounts";
        registry.register_with_unit("fuse_read", help, Unit::Bytes, self.read.clone());
        let help =
            "Times that the kernel was shown a file of the store to read or write it by itself";
        registry.register("passthrough_files", help, self.passed.clone());
        let help = "What was written through the mounts, copies inside the store included";
        registry.register_with_unit("fuse_written", help, Unit::Bytes, self.written.clone());
        let help = "Answers of the gate: admitted, tolerated (refused, in audit mode), refused";
        registry.register("gate_verdicts", help, self.verdicts.clone());
        let help = "Requests that waited for checks of signatures, for hashing or for a listing";
        registry.register("gate_postponed", help, self.postponed.clone());
        let help = "Requests that wait for a thread to do that";
        registry.register("gate_waiting", help, self.waiting.clone());
    }

    fn register_hashing(&self, registry: &mut Registry) {
        let help = "What was read to be hashed, besides what was hashed while it was written";
        registry.register_with_unit("hashed", help, Unit::Bytes, self.hashed.clone());
        let help = "Files whose last writer has left and whose digest nobody completes yet";
        registry.register("seal_queue_files", help, self.seal_queue.clone());
        let help = "Files that were read and that nobody hashes yet";
        registry.register("material_queue_files", help, self.material_queue.clone());
        let help = "Files that were read and whose digest is still missing";
        registry.register("materials_left_files", help, self.materials_left.clone());
    }

    /// A request has come.
    #[expect(clippy::disallowed_methods, reason = "it measures how long, and says nothing of when")]
    pub(crate) fn start(&self, operation: Operation) -> Watch<'_> {
        let lane = &self.lanes[operation as usize];
        Watch {
            meter: self,
            operation,
            since: Instant::now(),
            _under_way: Counted::one(&lane.under_way),
        }
    }

    /// One more request hangs.
    pub(crate) fn stuck(&self) -> Counted {
        Counted::one(&self.stuck)
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.read.inc_by(bytes as u64);
    }

    /// The kernel may read one more file of the store past us.
    pub(crate) fn passed(&self) {
        self.passed.inc();
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.written.inc_by(bytes as u64);
    }

    pub(crate) fn hashed(&self, purpose: HashedFor, bytes: u64) {
        self.hashed.get_or_create(&purpose).inc_by(bytes);
    }

    pub(crate) fn admitted(&self, reason: impl ToString) {
        self.verdict("admitted", reason);
    }

    /// `reason` is the title of the check that failed.
    pub(crate) fn refused(&self, reason: impl ToString, enforced: bool) {
        let (verdict, all) =
            if enforced { ("refused", &self.refused) } else { ("tolerated", &self.tolerated) };
        self.verdict(verdict, reason);
        all.inc();
    }

    fn verdict(&self, verdict: &'static str, reason: impl ToString) {
        let labels = VerdictLabels { verdict, reason: reason.to_string() };
        self.verdicts.get_or_create(&labels).inc();
    }

    pub(crate) fn postponed(&self, room: Room) {
        self.postponed.get_or_create(&room).inc();
    }

    /// How many wait in this room.
    pub(crate) fn waiting(&self, room: Room) -> Gauge {
        self.waiting.get_or_create_owned(&room)
    }

    pub(crate) fn seal_queue(&self) -> Gauge {
        self.seal_queue.clone()
    }

    pub(crate) fn material_queue(&self) -> Gauge {
        self.material_queue.clone()
    }

    pub(crate) fn materials_left(&self) -> &Gauge {
        &self.materials_left
    }

    pub(crate) fn inode(&self) -> Counted {
        Counted::one(&self.inodes)
    }

    pub(crate) fn handle(&self) -> Counted {
        Counted::one(&self.handles)
    }
}

/// One of those that there are now, as long as it is kept.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn one(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Runs from a request to its answer. One that is dropped was not answered by us.
#[derive(Debug)]
pub(crate) struct Watch<'m> {
    meter: &'m Meter,
    operation: Operation,
    since: Instant,
    _under_way: Counted,
}

impl Watch<'_> {
    /// Runs as long as this does what the request asks for.
    pub(crate) fn over<T>(self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let result = work();
        self.stop(&result);
        result
    }

    /// The request is about to be answered.
    pub(crate) fn stop<T>(self, result: &Result<T, Error>) {
        let lane = &self.meter.lanes[self.operation as usize];
        lane.duration.observe(self.since.elapsed().as_secs_f64());
        match result {
            Ok(_) => lane.succeeded.inc(),
            Err(error) => {
                let op = self.operation.name();
                let status = errno_name(error.errno());
                self.meter.requests.get_or_create(&RequestLabels { op, status }).inc()
            }
        };
    }
}

/// From 10 microseconds, less than which no answer takes, to more than a read of a slow disk.
fn duration() -> Histogram {
    Histogram::new(exponential_buckets(10e-6, 4.0, 12))
}

const SUCCESS: &str = "ok";

/// The names of errnos that filesystems answer with; `other` for the rest, so that there is an end
/// of them.
fn errno_name(errno: i32) -> &'static str {
    let found = ERRNOS.iter().find(|(number, _)| *number == errno);
    found.map_or("other", |(_, name)| name)
}

macro_rules! errnos {
    ($($name:ident)*) => { [$((libc::$name, stringify!($name))),*] };
}

const ERRNOS: [(i32, &str); 35] = errnos![
    EPERM ENOENT EINTR EIO ENXIO EBADF EAGAIN ENOMEM EACCES EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR
    EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC EROFS EMLINK ERANGE ENAMETOOLONG ENOSYS
    ENOTEMPTY ELOOP ENODATA EOVERFLOW EOPNOTSUPP ETIMEDOUT ESTALE EDQUOT
];

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use rustix::io::Errno;

    use super::*;

    fn page(meter: &Meter) -> String {
        let mut registry = Registry::with_prefix("attestfs");
        meter.register(&mut registry);
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        page
    }

    #[track_caller]
    fn shows(meter: &Meter, line: &str) {
        let page = page(meter);
        assert!(page.lines().any(|shown| shown == line), "{line}\nnot in\n{page}");
    }

    #[test]
    fn requests_are_counted_by_what_they_were_answered_with() {
        let meter = Meter::default();
        meter.start(Operation::Open).stop(&Err::<(), _>(Error::Refused));
        meter
            .start(Operation::Open)
            .stop(&Err::<(), _>(Error::from(Errno::from_raw_os_error(999))));
        meter.start(Operation::Open).stop(&Ok(()));
        meter.start(Operation::Open).stop(&Ok(()));
        drop(meter.start(Operation::Open));
        shows(&meter, r#"attestfs_fuse_requests_total{op="open",status="ok"} 2"#);
        shows(&meter, r#"attestfs_fuse_requests_total{op="open",status="EACCES"} 1"#);
        shows(&meter, r#"attestfs_fuse_requests_total{op="open",status="other"} 1"#);
        shows(&meter, r#"attestfs_fuse_request_duration_seconds_count{op="open"} 4"#);
        shows(&meter, r#"attestfs_fuse_request_duration_seconds_count{op="read"} 0"#);
    }

    #[test]
    fn what_is_there_is_counted_as_long_as_it_is() {
        let meter = Meter::default();
        let (inode, _handle) = (meter.inode(), meter.handle());
        let watch = meter.start(Operation::Read);
        let _stuck = meter.stuck();
        shows(&meter, "attestfs_fuse_requests_stuck 1");
        shows(&meter, "attestfs_inodes 1");
        shows(&meter, r#"attestfs_fuse_requests_under_way{op="read"} 1"#);
        drop((inode, watch));
        shows(&meter, "attestfs_inodes 0");
        shows(&meter, "attestfs_open_handles 1");
        shows(&meter, r#"attestfs_fuse_requests_under_way{op="read"} 0"#);
    }

    #[test]
    fn verdicts_are_counted_by_their_reasons() {
        let meter = Meter::default();
        meter.refused("the policy accepts it", true);
        meter.refused("the policy accepts it", false);
        meter.admitted("rehash");
        for (verdict, reason) in [
            ("refused", "the policy accepts it"),
            ("tolerated", "the policy accepts it"),
            ("admitted", "rehash"),
        ] {
            let labels = format!(r#"{{verdict="{verdict}",reason="{reason}"}}"#);
            shows(&meter, &format!("attestfs_gate_verdicts_total{labels} 1"));
        }
        assert_eq!((meter.refused_so_far(), meter.tolerated_so_far()), (1, 1));
    }

    #[test]
    fn bytes_are_counted_in_bytes() {
        let meter = Meter::default();
        meter.read(3);
        meter.written(4);
        meter.hashed(HashedFor::SEAL, 5);
        shows(&meter, "attestfs_fuse_read_bytes_total 3");
        shows(&meter, "attestfs_fuse_written_bytes_total 4");
        shows(&meter, r#"attestfs_hashed_bytes_total{for="seal"} 5"#);
    }
}
