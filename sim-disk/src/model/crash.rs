//! What a power loss leaves: which questions are asked, and what an answer means.
//!
//! The durable image always survives. Of what was not synced, every page, every file's size and every change of a name is
//! one choice. 0 is benign: it survived, as if the kernel had written it back early. So a power loss on the empty tape
//! loses nothing, and what a failing run had to lose stands on its tape by name.
//!
//! * A **page** (4 KiB) survives as one of the versions it had since it was last durable, never as a mix of them, since
//!   the kernel writes whole pages; or it is torn: of its eight sectors (512 bytes) some are of a later version and the
//!   others of an earlier one. Of a page that was written whole many times, a few of them stand for all: the durable one, the
//!   newest, and the rarer the older in between.
//! * A **size** survives as one of the values it had, or between two of them at a page boundary while it grew. Size
//!   and bytes are separate: pages below a surviving size that were lost read as zeros. A truncation that survived has cut
//!   its pages; one that was lost has freed none, but may have zeroed the page that it cut in the middle.
//! * A **name** is there or not. A rename is one change of two names: both or neither. No change survives that takes away a
//!   name which is not there.
//!
//! The rules with their sources, and the allowed states of sixty programs, stand in `tests/crash_states/allowed.txt`.
//!
//! Flipping a fair coin for each page finds little: with 25 unsynced pages "only the header survived" never happens. So each
//! power loss first draws how it leans ([`Survivors`]), for data, sizes and names apart; a leaning only sets the
//! probability, every question is asked under each of them. And each value of an answer is another state: so the states
//! can be drawn by a seed, and can all be visited ([`Volume::crash_states`](super::volume::Volume::crash_states)).

use sim_core::choices::{Law, Ratio};

/// What the file system promises beyond POSIX.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// What ext4 and XFS agree on: changes of names and truncations are journaled in order, so a power loss keeps the
    /// first so many of them, and a size that grew by writing is logged no earlier than what came before the write. fsync
    /// and fdatasync of a file make its creation, its truncations and what its size needs durable, fsync also its other names,
    /// each with all of the journal before it; so does fsync of a directory for the changes in it ("Documenting the
    /// crash-recovery guarantees of Linux file systems", Mohan et al., linux-fsdevel 2019).
    #[default]
    Linux,
    /// What POSIX alone promises: a name is durable only when its directory was synced, any subset of the others may
    /// survive, and sizes change in pieces ("All File Systems Are Not Created Equal", OSDI 2014).
    Strict,
}

/// What a power loss does to a page that is being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tearing {
    /// Each sector of 512 bytes is the old or the new one.
    #[default]
    Sectors,
    /// The device writes 4 KiB atomically (NVMe: AWUPF), or the file system does.
    Never,
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

/// The versions of a page that a power loss may leave.
pub(crate) struct Versions {
    /// Their ordinals, oldest first; at least one.
    pub allowed: Vec<usize>,
    /// Between each and the next the sectors that may differ.
    pub changed: Vec<u8>,
}

impl Versions {
    /// The question for the page: of eight answers that are not 0, five are the oldest version, two any other but the newest,
    /// one a torn page.
    pub fn law(&self, lost: Ratio, tearing: Tearing) -> Law {
        let older = self.allowed.len() as u32 - 1;
        let tears = match tearing {
            Tearing::Sectors => self.tears().map(|(_, _, mixes)| mixes.ways()).sum(),
            Tearing::Never => 0,
        };
        Law::Grouped { p: lost, weights: [5, 2, 1], sizes: [older.min(1), older.saturating_sub(1), tears] }
    }

    /// What an answer to it means.
    pub fn fate(&self, answer: u64) -> Fate {
        let older = self.allowed.len() - 1;
        match answer as usize {
            0 => Fate::Newest,
            answer if answer <= older => Fate::Older(answer - 1),
            answer => {
                let mut index = (answer - 1 - older) as u32;
                for (older, newer, mixes) in self.tears() {
                    if index < mixes.ways() {
                        return Fate::Torn { older, newer, sectors: mixes.nth(index) };
                    }
                    index -= mixes.ways();
                }
                unreachable!("the law allows no more answers")
            }
        }
    }

    /// Each two versions, and the sectors in which they differ.
    fn tears(&self) -> impl Iterator<Item = (usize, usize, Mixes)> {
        (0..self.changed.len()).flat_map(move |older| {
            let mut differ = 0;
            self.changed[older..].iter().enumerate().map(move |(i, changed)| {
                differ |= changed;
                (older, older + i + 1, Mixes(differ))
            })
        })
    }
}

/// The mixtures of two versions that differ in these sectors: some are of the one, some of the other.
struct Mixes(u8);

impl Mixes {
    fn ways(&self) -> u32 {
        (1u32 << self.0.count_ones()).saturating_sub(2)
    }

    /// The sectors of the newer version in the so-many-th mixture: the bits of `index + 1`, spread over the sectors.
    fn nth(&self, index: u32) -> u8 {
        let (mut left, mut sectors) = (index + 1, 0);
        for sector in (0..8).filter(|s| self.0 >> s & 1 == 1) {
            sectors |= ((left & 1) as u8) << sector;
            left >>= 1;
        }
        sectors
    }
}

/// What became of a page. Versions are counted among those allowed, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Newest,
    Older(usize),
    /// These sectors of `newer`, the others of `older`.
    Torn {
        older: usize,
        newer: usize,
        sectors: u8,
    },
}
