//! What a power loss leaves: which questions are asked, and what an answer means.
//!
//! The durable image always survives. Of what was not synced, every page, every file's size and every change of a name is
//! one choice. 0 is benign: it survived, as if the kernel had written it back early. So a power loss on the empty tape
//! loses nothing, and what a failing run had to lose stands on its tape by name.
//!
//! * A **page** (4 KiB) survives as one of the versions it had since it was last durable, never as a mix of them, since
//!   the kernel writes whole pages; or it is torn: each of its eight sectors (512 bytes) is either of an older version
//!   or of the newest.
//! * A **size** survives as one of the values it had, or between two of them at a page boundary while it grew. Size
//!   and bytes are separate: pages below a surviving size that were lost read as zeros (ext4 with `data=writeback`, and
//!   holes anywhere). A truncation that survived has cut its pages; one that was lost has cut none.
//! * A **name** is there or not. A rename is one change of two names: both or neither.
//!
//! Flipping a fair coin for each page finds little: with 25 unsynced pages "only the header survived" never happens. So each
//! power loss first draws how it leans ([`Survivors`]), for data, sizes and names apart; a leaning only sets the
//! probability, every question is asked under each of them.

use sim_core::choices::Ratio;

/// What the file system promises beyond POSIX.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// What ext4 and XFS agree on: changes of names are journaled in order, so a power loss keeps the first so many of
    /// them; fsync and fdatasync of a file make its creation durable, fsync also its renames, each with all changes
    /// before it; so does fsync of a directory for the changes in it ("Documenting the crash-recovery guarantees of
    /// Linux file systems", Mohan et al., linux-fsdevel 2019).
    #[default]
    Linux,
    /// What POSIX alone promises: a name is durable only when its directory was synced, and any subset of the
    /// others may survive, in any order ("All File Systems Are Not Created Equal", OSDI 2014).
    Strict,
}

/// How much of what was unsynced survives one power loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivors {
    /// All but one in 32.
    NearlyAll,
    /// Every second.
    Half,
    /// One in 32.
    NearlyNone,
    /// None at all.
    None,
}

impl Survivors {
    /// From the answer to "how a power loss leans".
    pub(crate) fn from_answer(answer: u64) -> Survivors {
        match answer {
            0 => Survivors::NearlyAll,
            1 => Survivors::Half,
            2 => Survivors::NearlyNone,
            _ => Survivors::None,
        }
    }

    /// How many are lost.
    pub(crate) fn lost(self) -> Ratio {
        match self {
            Survivors::NearlyAll => Ratio::new(1, 32),
            Survivors::Half => Ratio::new(1, 2),
            Survivors::NearlyNone => Ratio::new(31, 32),
            Survivors::None => Ratio::ALWAYS,
        }
    }
}

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The newest version there is.
    Newest,
    /// An earlier one: the so-many-th of those allowed, oldest first.
    Older(usize),
    /// Sectors of the newest where the bit is set, the others of an earlier version.
    Torn { older: usize, newest_sectors: u8 },
}

impl Fate {
    /// Reads the answer for a page of which `allowed` versions could survive. Of eight answers that are not 0, five mean
    /// the oldest version, two any but the newest, one a torn page.
    pub(crate) fn of_answer(word: u64, allowed: usize) -> Fate {
        if word == 0 || allowed <= 1 {
            return Fate::Newest;
        }
        let any = (word >> 3) as usize % (allowed - 1);
        match word & 7 {
            0..=4 => Fate::Older(0),
            5 | 6 => Fate::Older(any),
            // All bits or none would be no tear.
            _ => Fate::Torn { older: any, newest_sectors: ((word >> 20) as u8).clamp(1, 254) },
        }
    }
}
