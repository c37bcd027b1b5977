//! Changes of names that are not durable yet, and which of them an fsync or a power loss makes so.

use super::inode::InodeId;
use std::rc::Rc;

/// The name of an entry: any bytes but `/` and 0.
pub type Name = Rc<[u8]>;

/// One name of one directory means something else now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rebind {
    pub dir: InodeId,
    pub name: Name,
    pub to: Option<InodeId>,
}

/// A system call that changed names: all of its changes become durable, or none.
pub struct NameChange {
    /// One change, or two for a rename: the old name, then the new one.
    pub rebinds: Vec<Rebind>,
    /// What was created, moved or removed.
    pub subject: InodeId,
    pub subject_is_dir: bool,
    pub creates: bool,
    /// The address of its question.
    pub key: u64,
    pub n: u32,
    /// For reports: `create /a`, `rename /a /b`.
    pub call: &'static str,
}

impl NameChange {
    fn touches(&self, dir: InodeId) -> bool {
        self.rebinds.iter().any(|r| r.dir == dir)
    }

    /// Whether it gives a directory its place, and whether it depends on the places of others: a directory that moves
    /// below one whose own move was lost could end up below itself.
    fn places(&self) -> Option<InodeId> {
        (self.subject_is_dir && self.rebinds.iter().any(|r| r.to.is_some())).then_some(self.subject)
    }

    fn depends_on_place_of(&self, dir: InodeId) -> bool {
        self.places().is_some() && (self.subject == dir || self.touches(dir))
    }
}

/// The changes of names of one disk that are not durable, in order.
#[derive(Default)]
pub struct Journal {
    pub changes: Vec<NameChange>,
}

impl Journal {
    /// Takes out, in order, the changes up to the last one that `which` names: what a journal in order writes.
    pub fn take_through(&mut self, which: impl Fn(&NameChange) -> bool) -> Vec<NameChange> {
        let count = self.changes.iter().rposition(which).map_or(0, |i| i + 1);
        self.changes.drain(..count).collect()
    }

    /// Takes out, in order, the changes of `dir`, and earlier ones without which they would be undone or make no sense:
    /// those of the same names elsewhere (the other side of a rename), those of the same files, and the places of directories
    /// that others move into.
    pub fn take_of_directory(&mut self, dir: InodeId) -> Vec<NameChange> {
        let mut names: Vec<(InodeId, Name)> = Vec::new();
        let mut places: Vec<InodeId> = Vec::new();
        let mut wanted = vec![false; self.changes.len()];
        for (i, change) in self.changes.iter().enumerate().rev() {
            let shared = change.rebinds.iter().any(|r| names.iter().any(|(d, n)| *d == r.dir && *n == r.name));
            let placed = places.contains(&change.subject);
            if !(change.touches(dir) || shared || placed) {
                continue;
            }
            wanted[i] = true;
            names.extend(change.rebinds.iter().map(|r| (r.dir, r.name.clone())));
            places.push(change.subject);
            if change.places().is_some() {
                places.extend(change.rebinds.iter().map(|r| r.dir));
            }
        }
        let mut wanted = wanted.into_iter();
        self.changes.extract_if(.., |_| wanted.next().expect("one flag for each")).collect()
    }

    /// Takes all out and says which survive, given for each whether its own question says "lost".
    pub fn survivors(&mut self, lost: &[bool], in_order: bool) -> Vec<(NameChange, bool)> {
        let mut cut = false;
        let mut misplaced: Vec<InodeId> = Vec::new();
        let mut behind: Vec<InodeId> = Vec::new();
        let changes = std::mem::take(&mut self.changes).into_iter().zip(lost);
        changes
            .map(|(change, lost)| {
                // What was not created cannot move, and what did not move from a to b cannot move from b to c.
                let astray =
                    misplaced.iter().any(|d| change.depends_on_place_of(*d)) || behind.contains(&change.subject);
                let lost = *lost || cut || astray;
                cut |= lost && in_order;
                if lost {
                    misplaced.extend(change.places());
                    behind.push(change.subject);
                }
                (change, !lost)
            })
            .collect()
    }
}
