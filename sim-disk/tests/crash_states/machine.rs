//! The same programs on the model.

use crate::program::{Call, Given, runs_of, state_of};
use sim_core::device::Bench;
use sim_core::{Instant, NodeId};
use sim_disk::{Errno, InodeId, OpenHow, Profile, Taken, Volume};
use std::collections::BTreeSet;

const NOW: Instant = Instant::ZERO;

/// A volume and the calls of a program on it.
#[derive(Clone)]
pub struct Machine(pub Volume);

impl Machine {
    pub fn new(profile: Profile, given: &[Given]) -> Machine {
        let mut machine = Machine(Volume::new(NodeId(1), "a", profile));
        machine.0.remove_dir(b"/tmp", NOW).expect("a new disk has it");
        for g in given {
            match &g.bytes {
                None => machine.run(&Call::Mkdir(g.path.clone())),
                Some(bytes) => machine
                    .run(&Call::Create(g.path.clone()))
                    .and_then(|()| machine.run(&Call::Write(g.path.clone(), 0, bytes.clone()))),
            }
            .expect("it is possible");
        }
        machine.0.sync_all();
        machine
    }

    fn with<R>(
        &mut self,
        path: &str,
        (write, create): (bool, bool),
        f: impl FnOnce(&mut Volume, InodeId) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let how = OpenHow { read: true, write, create, ..OpenHow::default() };
        let inode = self.0.open(full(path).as_bytes(), how, NOW)?;
        let result = f(&mut self.0, inode);
        self.0.close(inode);
        result
    }

    pub fn run(&mut self, call: &Call) -> Result<(), Errno> {
        let bytes = |path: &str| full(path).into_bytes();
        match call {
            Call::Create(path) => self.with(path, (true, true), |_, _| Ok(())),
            Call::Write(path, at, bytes) => self.with(path, (true, false), |v, i| {
                assert_eq!(v.write(i, *at, bytes, NOW), Ok(bytes.len()));
                Ok(())
            }),
            Call::SetLen(path, len) => self.with(path, (true, false), |v, i| v.set_len(i, *len, NOW)),
            Call::Sync(path) => self.with(path, (false, false), |v, i| {
                v.sync(i, false);
                Ok(())
            }),
            Call::DataSync(path) => self.with(path, (false, false), |v, i| {
                v.sync(i, true);
                Ok(())
            }),
            Call::Rename(from, to) => self.0.rename(&bytes(from), &bytes(to), Taken::Replace, NOW),
            Call::Exchange(a, b) => self.0.rename(&bytes(a), &bytes(b), Taken::Exchange, NOW),
            Call::Link(from, to) => self.0.link(&bytes(from), &bytes(to), false, NOW),
            Call::Unlink(path) => self.0.remove_file(&bytes(path), NOW),
            Call::Mkdir(path) => self.0.create_dir(&bytes(path), 0o755, NOW),
            Call::Rmdir(path) => self.0.remove_dir(&bytes(path), NOW),
        }
    }

    /// All that is there.
    pub fn state(&mut self) -> String {
        let mut found = Vec::new();
        let mut dirs = vec![String::from("/")];
        while let Some(dir) = dirs.pop() {
            let inode = self.0.lookup(dir.as_bytes(), true).expect("it was listed");
            for entry in self.0.read_dir(inode).expect("a directory") {
                let path = format!("{dir}{}", String::from_utf8(entry.name.clone()).expect("text"));
                if entry.is_dir() {
                    found.push(format!("{}/", &path[1..]));
                    dirs.push(path + "/");
                } else {
                    let mut bytes = Vec::new();
                    self.with(&path, (false, false), |v, i| v.read(i, 0, 1 << 20, &mut bytes)).expect("a file");
                    found.push(format!("{}={}", &path[1..], runs_of(&bytes)));
                }
            }
        }
        state_of(found)
    }

    /// The states that the enumerator visits, the calm one first.
    pub fn each_crash(&self) -> impl Iterator<Item = Machine> + use<> {
        self.0.crash_states().map(|state| Machine(state.volume))
    }

    pub fn crash_states(&self) -> BTreeSet<String> {
        self.each_crash().map(|mut left| left.state()).collect()
    }

    /// The state that a seed leaves.
    pub fn crashed(&self, seed: u64) -> String {
        let mut left = self.clone();
        left.0.power_off(&mut Bench::seeded(seed).cx(NodeId::OUTSIDE));
        left.state()
    }
}

fn full(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
