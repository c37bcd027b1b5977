//! Locks of one file: those of flock(2), which belong to an open file description, and those of fcntl(2), which belong to a
//! process (POSIX) or to an open file description (OFD).
//!
//! They are advisory, cost no time, end with their owner, and never survive their machine. The two families do not see each
//! other, as on Linux.

/// Who holds a lock of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The process; a machine has one.
    Process,
    /// An open file description.
    Description(u64),
}

/// A lock of the bytes `start..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeLock {
    /// Whose it is.
    pub holder: Holder,
    /// Whether nobody else may have one; else others may share.
    pub exclusive: bool,
    /// The first byte.
    pub start: u64,
    /// The last byte; `i64::MAX` means to the end however far that moves.
    pub last: u64,
}

impl RangeLock {
    fn meets(&self, other: &RangeLock) -> bool {
        self.start <= other.last && other.start <= self.last
    }
}

/// The locks of one file.
#[derive(Clone, Default)]
pub struct Locks {
    /// Descriptions that hold it whole, and whether alone.
    whole: Vec<(u64, bool)>,
    /// Those of one holder never overlap.
    ranges: Vec<RangeLock>,
}

impl Locks {
    /// flock(2): whether `description` holds it now. A lock that is converted is lost first, as the manual page says.
    pub fn lock(&mut self, description: u64, exclusive: bool) -> bool {
        if self.whole.contains(&(description, exclusive)) {
            return true;
        }
        self.whole.retain(|(d, _)| *d != description);
        let free = self.whole.iter().all(|(_, alone)| !exclusive && !alone);
        if free {
            self.whole.push((description, exclusive));
        }
        free
    }

    /// Gives up what `description` holds unless it is of this kind. True if it did.
    pub fn unlock_unless(&mut self, description: u64, exclusive: bool) -> bool {
        !self.whole.contains(&(description, exclusive)) && self.unlock(description)
    }

    /// flock(2) with LOCK_UN. True if there was one.
    pub fn unlock(&mut self, description: u64) -> bool {
        let before = self.whole.len();
        self.whole.retain(|(d, _)| *d != description);
        self.whole.len() < before
    }

    /// The first lock that `wanted` would have to wait for.
    pub fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        let against =
            |l: &&RangeLock| l.holder != wanted.holder && l.meets(wanted) && (l.exclusive || wanted.exclusive);
        self.ranges.iter().filter(against).min_by_key(|l| l.start).copied()
    }

    /// Takes `wanted`, which replaces what its holder has of those bytes. False if another's lock is in the way.
    pub fn lock_range(&mut self, wanted: RangeLock) -> bool {
        if self.conflict(&wanted).is_some() {
            return false;
        }
        self.cut(wanted.holder, wanted.start, wanted.last);
        self.ranges.push(wanted);
        true
    }

    /// Gives up what `holder` has of `start..=last`. True if there was something.
    pub fn unlock_range(&mut self, holder: Holder, start: u64, last: u64) -> bool {
        self.cut(holder, start, last)
    }

    fn cut(&mut self, holder: Holder, start: u64, last: u64) -> bool {
        let mut kept = Vec::with_capacity(self.ranges.len() + 1);
        let mut found = false;
        for lock in self.ranges.drain(..) {
            if lock.holder != holder || lock.last < start || last < lock.start {
                kept.push(lock);
                continue;
            }
            found = true;
            if lock.start < start {
                kept.push(RangeLock { last: start - 1, ..lock });
            }
            if lock.last > last {
                kept.push(RangeLock { start: last + 1, ..lock });
            }
        }
        self.ranges = kept;
        found
    }

    /// The last descriptor of an open file description is closed. True if it held something.
    pub fn description_closed(&mut self, description: u64) -> bool {
        let range = self.unlock_range(Holder::Description(description), 0, u64::MAX);
        self.unlock(description) || range
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Holder = Holder::Description(1);
    const B: Holder = Holder::Description(2);

    fn lock(holder: Holder, exclusive: bool, start: u64, last: u64) -> RangeLock {
        RangeLock { holder, exclusive, start, last }
    }

    #[test]
    fn an_exclusive_range_keeps_others_out_of_its_bytes_only() {
        let mut locks = Locks::default();
        assert!(locks.lock_range(lock(A, true, 10, 19)));
        assert!(!locks.lock_range(lock(B, false, 19, 30)));
        assert_eq!(locks.conflict(&lock(B, false, 0, u64::MAX)), Some(lock(A, true, 10, 19)));
        assert!(locks.lock_range(lock(B, true, 20, 30)));
        assert!(locks.lock_range(lock(A, true, 0, 15)), "one's own locks are in nobody's way");
    }

    #[test]
    fn unlocking_the_middle_leaves_two_locks() {
        let mut locks = Locks::default();
        assert!(locks.lock_range(lock(A, true, 0, 99)));
        assert!(locks.unlock_range(A, 40, 59));
        assert!(locks.lock_range(lock(B, true, 40, 59)));
        assert_eq!(locks.conflict(&lock(B, false, 0, 39)), Some(lock(A, true, 0, 39)));
        assert_eq!(locks.conflict(&lock(B, false, 60, 99)), Some(lock(A, true, 60, 99)));
        assert!(!locks.unlock_range(A, 40, 59), "there is nothing of A's");
    }

    #[test]
    fn a_shared_lock_upgrades_only_when_alone_and_is_lost_by_trying() {
        let mut locks = Locks::default();
        assert!(locks.lock(1, false) && locks.lock(2, false));
        assert!(!locks.lock(1, true));
        assert!(locks.lock(2, true), "the first gave its own up when it tried");
        assert!(!locks.lock(3, false));
        assert!(locks.description_closed(2));
        assert!(locks.lock(3, false));
    }

    #[test]
    fn processes_and_descriptions_exclude_each_other() {
        let mut locks = Locks::default();
        assert!(locks.lock_range(lock(Holder::Process, true, 0, 0)));
        assert!(!locks.lock_range(lock(A, false, 0, 0)));
        assert!(locks.lock(9, true), "the other family does not see it");
    }
}
