//! What tests and plans do to disks: faults, capacities, promises, and disks that are wiped or change places.

use crate::device::Disk;
use crate::model::crash::{Profile, Tearing};
use crate::model::faults::DiskFaults;
use crate::model::volume::Volume;
use sim_core::choices::{Law, Stream};
use sim_core::{DeviceCx, NodeId, hash};
use std::task::Waker;

impl Disk {
    /// Replaces the faults of a node's disk. Operations under way keep what was drawn for them; errors that stuck end.
    pub fn set_faults(&mut self, node: NodeId, faults: DiskFaults, cx: &mut DeviceCx<'_>) {
        self.drive(node).set_faults(faults);
        cx.event(node, "disk.faults", || format!("{faults:?}"));
    }

    /// The faults of a node's disk.
    pub fn faults(&mut self, node: NodeId) -> DiskFaults {
        self.drive(node).faults()
    }

    /// Makes a node's disk healthy. What was damaged stays so; capacity and quota stay too.
    pub fn heal(&mut self, node: NodeId, cx: &mut DeviceCx<'_>) {
        self.set_faults(node, DiskFaults::default(), cx);
    }

    /// A budget: of the disks of these nodes, at most so many are damaged from now on. Which ones is one choice, and the
    /// others are struck by no latent error, bit rot, misdirected write or lying fsync, whatever their faults say. A program that
    /// keeps each datum on all of them then has one whole copy at least, if `at_most` is smaller than their number.
    pub fn limit_damage(&mut self, nodes: &[NodeId], at_most: usize, cx: &mut DeviceCx<'_>) {
        let key = hash::key(&[hash::text("damage budget")]);
        cx.choices.name_key(key, || "disks that may be damaged".to_owned());
        let law = Law::Below(nodes.len() as u64);
        let n = self.budgets;
        self.budgets += 1;
        let first = cx.ask(Stream::FAULT, key, n, law, "which disks may be damaged") as usize;
        for i in 0..nodes.len() {
            let node = nodes[(first + i) % nodes.len()];
            self.drive(node).spared = i >= at_most;
            let word = if i >= at_most { "spared" } else { "may be damaged" };
            cx.event(node, "disk.budget", || word.to_owned());
        }
    }

    /// Sets the capacity of a node's disk, in bytes: beyond it is ENOSPC.
    pub fn set_capacity(&mut self, node: NodeId, bytes: u64, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_capacity(bytes);
        cx.event(node, "disk.capacity", || format!("{bytes} bytes"));
    }

    /// Sets what the programs of a node may take of its disk, in bytes: beyond it is EDQUOT.
    pub fn set_quota(&mut self, node: NodeId, bytes: u64, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_quota(bytes);
        cx.event(node, "disk.quota", || format!("{bytes} bytes"));
    }

    /// Sets what the file system of a node promises. What was written before is durable, as after a new mount.
    pub fn set_profile(&mut self, node: NodeId, profile: Profile, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_profile(profile);
        cx.event(node, "disk.profile", || format!("{profile:?}"));
    }

    /// Sets what a power loss does to a page of a node's disk that is being written.
    pub fn set_tearing(&mut self, node: NodeId, tearing: Tearing, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_tearing(tearing);
        cx.event(node, "disk.tearing", || format!("{tearing:?}"));
    }

    /// A new, empty disk for a node. A disk over another tree shows that tree again, as it is there.
    ///
    /// # Panics
    /// If programs of the node have files open: end them first, as nobody takes the disk out of a running machine.
    #[track_caller]
    pub fn wipe(&mut self, node: NodeId, cx: &mut DeviceCx<'_>) {
        self.assert_unused(node);
        self.drive(node).volume.format();
        cx.fired(node, "disk.wipe", String::new);
    }

    /// Two nodes get each other's disks, with all that is on them.
    ///
    /// # Panics
    /// If programs of one of them have files open: end them first.
    #[track_caller]
    pub fn swap(&mut self, a: NodeId, b: NodeId, cx: &mut DeviceCx<'_>) {
        self.assert_unused(a);
        self.assert_unused(b);
        if a == b {
            return;
        }
        let mut taken_out = self.drives[a.0 as usize].take().expect("it was just looked at");
        std::mem::swap(&mut taken_out.volume, &mut self.drive(b).volume);
        self.drives[a.0 as usize] = Some(taken_out);
        for node in [a, b] {
            self.drive(node).volume.belongs_to(node);
            cx.fired(node, "disk.swap", String::new);
        }
    }

    #[track_caller]
    fn assert_unused(&mut self, node: NodeId) {
        self.drive(node);
        let open = self.files.iter().any(|(_, f)| f.node == node);
        assert!(!open, "a disk is taken out while programs of its node have files open: end them first, with a kill");
    }

    /// A node's files, to look at.
    pub fn volume(&mut self, node: NodeId) -> &mut Volume {
        &mut self.drive(node).volume
    }

    /// How many operations the programs of a node have begun on its disk, all incarnations together.
    pub fn operations(&mut self, node: NodeId) -> u64 {
        self.drive(node).operations()
    }

    /// Whether the programs of a node have begun so many operations on its disk, all incarnations together; if not, `waker` is
    /// woken when they have. So a test strikes at every operation in turn: the one that was counted last is under way.
    pub fn await_operation(&mut self, node: NodeId, count: u64, waker: &Waker) -> bool {
        self.drive(node).await_operation(count, waker)
    }
}
