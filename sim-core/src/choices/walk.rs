//! All answers there are, one run after the other: exhaustive search over the questions of one stream.

use super::{Address, Law, Source, Stream};
use std::cell::RefCell;
use std::rc::Rc;

/// A walk over the tree of answers. Each run is given [`source`](Self::source) and asks what it asks; [`step`](Self::step)
/// then moves on to the next run. The first is the calm one.
///
/// The questions must follow from the answers alone. Other streams are answered with 0.
///
/// ```
/// use sim_core::choices::{Choices, Law, Stream, Walk};
/// use sim_core::{NodeId, device::Bench};
///
/// let (mut walk, mut found) = (Walk::over(Stream::APP), Vec::new());
/// loop {
///     let mut bench = Bench { choices: Some(Choices::from_source(0, walk.source())), ..Bench::default() };
///     let mut cx = bench.cx(NodeId::OUTSIDE);
///     let mut ask = |n, bound| cx.ask(Stream::APP, 1, n, Law::Below(bound), "which");
///     found.push((ask(0, 2), ask(1, 3)));
///     if !walk.step() {
///         break;
///     }
/// }
/// assert_eq!(found, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug)]
pub struct Walk {
    stream: Stream,
    path: Rc<RefCell<Path>>,
}

#[derive(Clone, Debug, Default)]
struct Path {
    turns: Vec<Turn>,
    /// How many of them this run has passed.
    passed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    value: u64,
    values: u64,
}

impl Walk {
    /// A walk over the questions of `stream`.
    pub fn over(stream: Stream) -> Walk {
        Walk { stream, path: Rc::default() }
    }

    /// The answers of the present run.
    pub fn source(&self) -> Box<dyn Source> {
        self.path.borrow_mut().passed = 0;
        Box::new(self.clone())
    }

    /// Moves on to the next run; false if there is none.
    pub fn step(&mut self) -> bool {
        let turns = &mut self.path.borrow_mut().turns;
        while let Some(last) = turns.last_mut() {
            last.value += 1;
            if last.value < last.values {
                return true;
            }
            turns.pop();
        }
        false
    }
}

impl Source for Walk {
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        let values = law.values();
        if at.stream != self.stream || values == 1 {
            return 0;
        }
        let path = &mut *self.path.borrow_mut();
        if path.passed == path.turns.len() {
            path.turns.push(Turn { value: 0, values });
        }
        let turn = path.turns[path.passed];
        assert!(turn.values == values, "the questions of a walk follow from its answers alone");
        path.passed += 1;
        turn.value
    }
}
