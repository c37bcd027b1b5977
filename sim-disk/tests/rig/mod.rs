//! A disk driven by hand, for tests of the device.

use sim_core::device::Bench;
use sim_core::{Death, Device, NodeId};
use sim_disk::{Disk, DiskFaults, Errno, FileId, Op, OpId, OpenHow, Reply};
use std::task::{Poll, Waker};

pub const NODE: NodeId = NodeId(1);
pub const CREATE: OpenHow = OpenHow {
    read: true,
    write: true,
    append: false,
    truncate: false,
    create: true,
    exclusive: false,
    directory: false,
    no_follow: false,
    path_only: false,
    unnamed: false,
    syncs: sim_disk::WriteSync::Nothing,
    mode: 0o644,
};

/// A disk, and a bench that stands for the World.
pub struct Rig {
    pub disk: Disk,
    pub bench: Bench,
}

impl Rig {
    pub fn new(bench: Bench) -> Rig {
        let mut rig = Rig { disk: Disk::new(), bench };
        rig.disk.node_added(NODE, "a", &mut rig.bench.cx(NodeId::OUTSIDE));
        rig
    }

    pub fn seeded(seed: u64) -> Rig {
        Rig::new(Bench::seeded(seed))
    }

    pub fn submit(&mut self, op: Op) -> OpId {
        self.disk.submit(NODE, op, &mut self.bench.cx(NODE)).expect("its file is open")
    }

    /// Lets everything that is due happen.
    pub fn settle(&mut self) {
        while let Some(token) = self.bench.step() {
            self.disk.on_event(token, &mut self.bench.cx(NodeId::OUTSIDE));
        }
    }

    pub fn call(&mut self, op: Op) -> Result<Reply, Errno> {
        let id = self.submit(op);
        assert_eq!(self.disk.poll(id, Waker::noop()), Poll::Pending, "every call takes time");
        self.settle();
        let Poll::Ready(answer) = self.disk.poll(id, Waker::noop()) else { panic!("it completed") };
        answer
    }

    pub fn open(&mut self, path: &str, how: OpenHow) -> FileId {
        match self.call(Op::Open(path.into(), how)) {
            Ok(Reply::Opened(file)) => file,
            other => panic!("{path}: {other:?}"),
        }
    }

    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let how = OpenHow { read: true, ..OpenHow::default() };
        let Reply::Opened(file) = self.call(Op::Open(path.into(), how))? else { panic!("not a file") };
        let answer = self.call(Op::ReadAt(file, 0, 1 << 20));
        self.disk.close(file, &mut self.bench.cx(NODE));
        match answer? {
            Reply::Bytes(bytes) => Ok(bytes),
            other => panic!("{other:?}"),
        }
    }

    pub fn die(&mut self, how: Death) {
        self.disk.node_died(NODE, how, &mut self.bench.cx(NodeId::OUTSIDE));
    }

    pub fn faults(&mut self, faults: DiskFaults) {
        self.disk.set_faults(NODE, faults, &mut self.bench.cx(NodeId::OUTSIDE));
    }

    pub fn fired(&self, kind: &str) -> u64 {
        self.bench.trace.fired_counts().get(kind).copied().unwrap_or(0)
    }
}
