//! Signals to the program of a node: who listens, and what happens when nobody does.
//!
//! A listener or handler once registered switches the default action off for the rest of the incarnation, as installing a handler
//! does (tokio's `signal` modules say the same of theirs). A signal that comes while nobody waits is remembered as one,
//! however often it came, as the kernel's pending set does (signal(7)).

use crate::device::Death;
use crate::node::{NodeId, State};
use crate::task::Spawn;
use crate::world::World;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

/// Number of a signal, as Linux numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGHUP.
    pub const HANGUP: Signal = Signal(1);
    /// SIGINT, which ctrl-c sends.
    pub const INTERRUPT: Signal = Signal(2);
    /// SIGTERM.
    pub const TERMINATE: Signal = Signal(15);

    /// Whether the default action is to ignore it: SIGCHLD, SIGCONT, SIGURG and SIGWINCH (signal(7)).
    pub fn ignored_by_default(self) -> bool {
        matches!(self.0, 17 | 18 | 23 | 28)
    }
}

/// A listener's wish for signals. Dropping it does not bring the default action back.
#[derive(Debug)]
pub struct Listener {
    node: NodeId,
    incarnation: u32,
    signal: Signal,
    /// How many arrivals it has seen.
    seen: u64,
}

#[derive(Default)]
struct Signals {
    slots: RefCell<Vec<Slot>>,
}

/// What was registered for one signal of one incarnation.
struct Slot {
    node: NodeId,
    incarnation: u32,
    signal: Signal,
    arrived: u64,
    waiting: Vec<Waker>,
    handlers: Vec<Rc<dyn Fn()>>,
}

impl Signals {
    fn with<R>(&self, node: NodeId, incarnation: u32, signal: Signal, f: impl FnOnce(Option<&mut Slot>) -> R) -> R {
        let mut slots = self.slots.borrow_mut();
        f(slots.iter_mut().find(|s| s.node == node && s.incarnation == incarnation && s.signal == signal))
    }
}

impl World {
    /// Sends what ctrl-c sends to the program of `node`. Without a listener the program ends.
    pub fn send_ctrl_c(&'static self, node: NodeId) {
        self.send_signal(node, Signal::INTERRUPT);
    }

    /// Sends a signal to the program of `node`: to its listeners and handlers, or, without one, its default action, which ends
    /// the program unless it is to ignore it. A dead node gets none.
    pub fn send_signal(&'static self, node: NodeId, signal: Signal) {
        if matches!(self.node_state(node), State::Dead(_)) {
            return;
        }
        match self.arrive(node, signal) {
            Some(handlers) => {
                for handler in handlers {
                    let handling = async move { handler() };
                    let _detached =
                        self.spawn_in(self.node_group(node), None, handling, Spawn::named("signal handler"));
                }
            }
            None if signal.ignored_by_default() => {}
            None => self.end_node(node, Death::Exit),
        }
    }

    /// The acting node's program sends a signal to itself: its listeners are woken, and its handlers have run when this returns,
    /// as with raise(3). False if there are none, and nothing was done.
    pub fn raise_signal(&self, signal: Signal) -> bool {
        let node = self.acting_node();
        let known = self.extension::<Signals>().with(node, self.incarnation(node), signal, |slot| slot.is_some());
        if known {
            self.arrive(node, signal).into_iter().flatten().for_each(|handler| handler());
        }
        known
    }

    /// Wakes who listens, and says what else handles it; `None` without listeners and handlers.
    fn arrive(&self, node: NodeId, signal: Signal) -> Option<Vec<Rc<dyn Fn()>>> {
        self.event(node, "node.signal", || signal.0.to_string());
        let (wakers, handlers) = self.extension::<Signals>().with(node, self.incarnation(node), signal, |slot| {
            slot.map(|slot| {
                slot.arrived += 1;
                (std::mem::take(&mut slot.waiting), slot.handlers.clone())
            })
        })?;
        wakers.into_iter().for_each(Waker::wake);
        Some(handlers)
    }

    /// Registers the acting node's program for `signal`.
    pub fn listen(&self, signal: Signal) -> Listener {
        let (node, incarnation, seen) = self.register(signal, |slot| slot.arrived);
        Listener { node, incarnation, signal, seen }
    }

    /// Lets `handler` be called for each `signal` to the acting node's program, by a task of its own where others send it.
    pub fn handle_signal(&self, signal: Signal, handler: impl Fn() + 'static) {
        self.register(signal, |slot| slot.handlers.push(Rc::new(handler)));
    }

    fn register<R>(&self, signal: Signal, f: impl FnOnce(&mut Slot) -> R) -> (NodeId, u32, R) {
        let (node, signals) = (self.acting_node(), self.extension::<Signals>());
        let incarnation = self.incarnation(node);
        let known = signals.with(node, incarnation, signal, |slot| slot.is_some());
        if !known {
            let mut slots = signals.slots.borrow_mut();
            slots.retain(|s| s.node != node || s.incarnation == incarnation);
            let (waiting, handlers) = (Vec::new(), Vec::new());
            slots.push(Slot { node, incarnation, signal, arrived: 0, waiting, handlers });
        }
        let result = signals.with(node, incarnation, signal, |slot| slot.map(f));
        (node, incarnation, result.expect("it is there by now"))
    }
}

impl Listener {
    /// Whether the signal arrived since the last time this said so; if not, `waker` is woken when it does.
    pub fn poll_arrived(&mut self, world: &World, waker: &Waker) -> bool {
        let seen = &mut self.seen;
        world.extension::<Signals>().with(self.node, self.incarnation, self.signal, |slot| {
            let Some(slot) = slot else { return false };
            if slot.arrived > *seen {
                *seen = slot.arrived;
                return true;
            }
            if !slot.waiting.iter().any(|w| w.will_wake(waker)) {
                slot.waiting.push(waker.clone());
            }
            crate::waiting_for("a signal");
            false
        })
    }
}
