//! The one door for chance.
//!
//! Every decision a run takes is a *choice*: an [`Address`] (what is asked), a [`Law`] (how a seed answers) and the
//! value it got. **Zero is always the benign answer**: base latency, no loss, no fault, the back of the ready queue.
//! So the empty tape is the calm run, and any run is the calm run plus its [`Deviation`]s, the choices that were not 0.
//!
//! A seeded answer depends on `(seed, stream, key, n)` alone: one more question somewhere never shifts another. Who owns
//! a key (a link, a connection, a task) owns the ordinal `n` too and keeps it as a `u32` beside its other state.
//!
//! What this module does not know: tasks, nodes, the clock's meaning, what a stream is about beyond its name. It reads
//! the time only to stamp deviations.

mod branch;
mod law;
mod masked;
mod seeded;
mod tape;
mod walk;

pub use branch::Branch;
pub use law::{Law, Ratio};
pub use masked::Masked;
pub use seeded::{Entropy, Seeded, mix};
pub use tape::Tape;
pub use walk::Walk;

use crate::hash::Map;
use crate::{Instant, NodeId};

/// What a choice is about. The core brings the first few; a device brings its own code and name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Stream(pub u8);

impl Stream {
    /// Order of ready tasks: holds, slow tasks, the first branch of a `select!`.
    pub const SCHEDULE: Stream = Stream(0);
    /// Clocks: the wall clock's epoch.
    pub const CLOCK: Stream = Stream(1);
    /// Faults that a plan draws.
    pub const FAULT: Stream = Stream(2);
    /// How a run is set up: intensities, leanings, sizes.
    pub const CONFIG: Stream = Stream(3);
    /// Choices that a test or a model of the user asks for.
    pub const APP: Stream = Stream(4);
    /// The network's.
    pub const NET: Stream = Stream(5);
    /// The disk's.
    pub const DISK: Stream = Stream(6);
    /// How many streams exist.
    pub const COUNT: usize = 8;

    /// The name that tapes and reports use.
    pub fn name(self) -> &'static str {
        ["schedule", "clock", "fault", "config", "app", "net", "disk", "other"][self.0 as usize % Stream::COUNT]
    }

    /// The stream with this name.
    pub fn from_name(name: &str) -> Option<Stream> {
        (0..Stream::COUNT as u8).map(Stream).find(|s| s.name() == name)
    }
}

/// Where a choice stands: the stream, the stable identity concerned, and the how-manieth question about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Address {
    /// What the choice is about.
    pub stream: Stream,
    /// The identity concerned: a link, a connection, a file, a task. Never a global counter.
    pub key: u64,
    /// The ordinal within stream and key.
    pub n: u32,
}

/// Answers questions. Sources are stacked: a mask over a seed, a branch over a tape.
pub trait Source {
    /// The value for `at`. Must be 0 or a value that `law` allows.
    fn answer(&mut self, at: Address, law: &Law) -> u64;

    /// True when a law that never deviates is always answered with 0, so that asking can be skipped.
    fn skips_never(&self) -> bool {
        false
    }
}

/// A choice that was not answered with 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deviation {
    /// Where it stands.
    pub at: Address,
    /// What was answered; never 0.
    pub value: u64,
    /// When it was asked.
    pub when: Instant,
    /// The node that was acting, [`NodeId::OUTSIDE`] if none.
    pub node: NodeId,
    /// The question in a word or two, such as `hold` or `packet`.
    pub what: &'static str,
    /// The subject, in words.
    pub subject: String,
}

/// Who answers. A seed mostly does, without a detour.
enum Oracle {
    Seed(Seeded),
    Source(Box<dyn Source>),
}

/// The choices of one run: the source that answers, and what was answered.
pub struct Choices {
    oracle: Oracle,
    skips_never: bool,
    seed: u64,
    digest: u64,
    asked: u64,
    asked_about: [u64; Stream::COUNT],
    deviated: u64,
    recorder: Option<Recorder>,
}

/// Deviations with words for their subjects; only kept when somebody asked for a tape.
#[derive(Default)]
struct Recorder {
    deviations: Vec<Deviation>,
    names: Map<u64, String>,
}

impl Choices {
    /// Choices that a seed answers.
    pub fn seeded(seed: u64) -> Self {
        let source = Seeded::new(seed);
        Choices::answered_by(seed, source.skips_never(), Oracle::Seed(source))
    }

    /// Choices that `source` answers. The seed still gives the program's own randomness, which is never zeroed.
    pub fn from_source(seed: u64, source: Box<dyn Source>) -> Self {
        Choices::answered_by(seed, source.skips_never(), Oracle::Source(source))
    }

    fn answered_by(seed: u64, skips_never: bool, oracle: Oracle) -> Self {
        Choices {
            oracle,
            skips_never,
            seed,
            digest: 0,
            asked: 0,
            asked_about: [0; Stream::COUNT],
            deviated: 0,
            recorder: None,
        }
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Keeps every deviation from now on, with words for its subject. Changes no answer.
    pub fn record(&mut self) {
        self.recorder.get_or_insert_default();
    }

    /// Whether deviations are kept.
    pub fn recording(&self) -> bool {
        self.recorder.is_some()
    }

    /// Puts a name to a key for the record. The text is only made when deviations are kept.
    #[inline]
    pub fn name_key(&mut self, key: u64, name: impl FnOnce() -> String) {
        if let Some(r) = &mut self.recorder {
            r.names.entry(key).or_insert_with(name);
        }
    }

    /// Asks the question at `at`; `what` names it in a word or two. `now` and `node` only stamp the record.
    #[inline]
    pub fn ask(&mut self, at: Address, law: Law, what: &'static str, now: Instant, node: NodeId) -> u64 {
        self.asked_about[at.stream.0 as usize % Stream::COUNT] += 1;
        if self.skips_never && law.never() {
            return 0;
        }
        let value = match &mut self.oracle {
            Oracle::Seed(seeded) => seeded.answer(at, &law),
            Oracle::Source(source) => source.answer(at, &law),
        };
        self.asked += 1;
        if value != 0 {
            self.deviate(at, value, what, now, node);
        }
        value
    }

    /// Counts a question that this run can only answer with 0, without its address; false if it has to be asked.
    #[inline]
    pub fn skips(&mut self, stream: Stream, law: &Law) -> bool {
        let skips = self.skips_never && law.never();
        self.asked_about[stream.0 as usize % Stream::COUNT] += skips as u64;
        skips
    }

    fn deviate(&mut self, at: Address, value: u64, what: &'static str, now: Instant, node: NodeId) {
        self.deviated += 1;
        let word = at.key ^ value.rotate_left(32) ^ ((at.stream.0 as u64) << 56) ^ ((at.n as u64) << 8);
        self.digest = crate::hash::fold(self.digest, word);
        if let Some(r) = &mut self.recorder {
            let subject = r.names.get(&at.key).cloned().unwrap_or_default();
            r.deviations.push(Deviation { at, value, when: now, node, what, subject });
        }
    }

    /// Puts better words to the subject of the deviation that was recorded last, once the answer is known.
    pub fn annotate(&mut self, subject: impl FnOnce() -> String) {
        if let Some(last) = self.recorder.as_mut().and_then(|r| r.deviations.last_mut()) {
            last.subject = subject();
        }
    }

    /// Running hash over all deviations.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many questions were asked about `stream`, those too that this run never answers with anything but 0.
    pub fn asked_about(&self, stream: Stream) -> u64 {
        self.asked_about[stream.0 as usize % Stream::COUNT]
    }

    /// How many questions were asked (skipped ones not counted), and how many answers were not 0.
    pub fn counts(&self) -> (u64, u64) {
        (self.asked, self.deviated)
    }

    /// The deviations kept since [`record`](Self::record), in the order they were asked.
    pub fn take_deviations(&mut self) -> Vec<Deviation> {
        self.recorder.as_mut().map(|r| std::mem::take(&mut r.deviations)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(key: u64, n: u32) -> Address {
        Address { stream: Stream::NET, key, n }
    }

    fn ask(c: &mut Choices, at: Address, law: Law) -> u64 {
        c.ask(at, law, "test", Instant::ZERO, NodeId::OUTSIDE)
    }

    #[test]
    fn an_extra_question_shifts_no_other() {
        let law = Law::Below(1 << 40);
        let mut plain = Choices::seeded(7);
        let mut more = Choices::seeded(7);
        let a: Vec<u64> = (0..64).map(|n| ask(&mut plain, at(9, n), law)).collect();
        let b: Vec<u64> = (0..64)
            .map(|n| {
                ask(&mut more, at(n as u64 + 100, 0), law);
                ask(&mut more, at(9, n), law)
            })
            .collect();
        assert_eq!(a, b);
    }

    #[test]
    fn different_seeds_and_streams_answer_differently() {
        let law = Law::Below(u64::MAX);
        let of = |seed, stream| {
            let mut c = Choices::seeded(seed);
            c.ask(Address { stream, key: 1, n: 0 }, law, "test", Instant::ZERO, NodeId::OUTSIDE)
        };
        assert_ne!(of(1, Stream::NET), of(2, Stream::NET));
        assert_ne!(of(1, Stream::NET), of(1, Stream::DISK));
    }

    #[test]
    fn the_recorded_deviations_replayed_as_a_tape_give_the_same_digest() {
        let law = Law::Rare { p: Ratio::new(1, 3), max: 2047 };
        let mut seeded = Choices::seeded(3);
        seeded.record();
        let a: Vec<u64> = (0..1000).map(|n| ask(&mut seeded, at(5, n), law)).collect();
        let tape = Tape::new(seeded.take_deviations().iter().map(|d| (d.at, d.value)));
        let mut replayed = Choices::from_source(3, Box::new(tape));
        let b: Vec<u64> = (0..1000).map(|n| ask(&mut replayed, at(5, n), law)).collect();
        assert_eq!(a, b);
        assert_eq!(seeded.digest(), replayed.digest());
        assert!(seeded.counts().1 > 200);
    }

    #[test]
    fn the_empty_tape_answers_zero() {
        let mut c = Choices::from_source(3, Box::new(Tape::new([])));
        assert!((0..100).all(|n| ask(&mut c, at(5, n), Law::Below(100)) == 0));
        assert_eq!(c.digest(), 0);
    }

    #[test]
    fn entropy_depends_on_seed_key_and_ordinal() {
        let of = |seed, key, n| {
            let mut out = [0u8; 16];
            Entropy::new(seed).fill(key, n, &mut out);
            out
        };
        let all = [of(1, 1, 0), of(2, 1, 0), of(1, 2, 0), of(1, 1, 1)];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
        assert_eq!(of(1, 1, 0), of(1, 1, 0));
    }
}
