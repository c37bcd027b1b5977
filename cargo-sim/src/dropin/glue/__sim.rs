//! What tokio and the simulator have to do with each other: who is told of this tokio, and the runtime of a machine.

#![allow(missing_docs, unreachable_pub, unused_imports, missing_debug_implementations)]

pub use ::sim::drop_in::of_incarnation;
pub use ::sim::drop_in::{Acting, Preemptible, Queue, Tag, breathe, draw, generator_seed, on, preemption_point};
pub use ::sim::drop_in::{Event, Moment, Rest, Timers, events, is_drained, nothing_is_drained, work_begins, work_ends};
pub use ::sim::drop_in::{is_stepped, parks, unparks};

/// Before `main`: the simulator learns that this process's tokio is one that it can drive.
#[used]
#[link_section = ".init_array"]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    #[cfg(feature = "rt")]
    ::sim::drop_in::install(&machine::Generated);
}

/// In a run, the machine's; else the process's.
///
/// # Safety
/// As `signal_hook_registry::register`.
#[cfg(all(unix, feature = "signal"))]
pub(crate) unsafe fn handle_signal(signal: i32, handler: impl Fn() + Send + Sync + 'static) -> std::io::Result<()> {
    if ::sim::drop_in::on() {
        ::sim::drop_in::handle_signal(signal, handler);
        return Ok(());
    }
    unsafe { signal_hook_registry::register(signal, handler).map(|_| ()) }
}

#[cfg(feature = "rt")]
mod machine {
    use crate::runtime::scheduler::SimKept;
    use crate::runtime::{Builder, Handle, Runtime};
    use ::sim::drop_in::{Ahead, Idle, Steps, step};
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::task::{Context, Poll};

    pub(super) struct Generated;

    impl ::sim::drop_in::Tokio for Generated {
        fn runtime(&self) -> Rc<dyn ::sim::drop_in::Runtime> {
            let mut builder = Builder::new_current_thread();
            // Events are mostly told without the buffer for them, which is more than half of the memory of a machine.
            #[cfg(any(feature = "net", feature = "process", feature = "signal"))]
            builder.max_io_events_per_tick(32);
            let runtime = builder.enable_all().build().expect("a simulated machine has what it needs");
            let handle = runtime.handle().clone();
            Rc::new(Machine {
                runtime: RefCell::new(Some(runtime)),
                handle,
                steps: Steps::default(),
                kept: RefCell::default(),
            })
        }
    }

    struct Machine {
        runtime: RefCell<Option<Runtime>>,
        handle: Handle,
        steps: Steps,
        kept: RefCell<Option<SimKept>>,
    }

    impl ::sim::drop_in::Runtime for Machine {
        fn within(&self, f: &mut dyn FnMut()) {
            let _current = self.handle.enter();
            f()
        }

        fn turn(&self, residents: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Option<Idle> {
            let runtime = self.runtime.borrow();
            let runtime = runtime.as_ref().expect("a machine that was shut down is not turned");
            let (idle, over) = (Cell::new(false), Cell::new(false));
            // Polled first of all, when a resident is woken, and when the driver has nothing more to do. What a resident
            // did is seen to before the turn ends.
            let mut until_idle = std::pin::pin!(std::future::poll_fn(|cx| {
                if residents(cx) {
                    idle.set(false);
                }
                if idle.get() || over.get() { Poll::Ready(()) } else { Poll::Pending }
            }));
            let mut kept = self.kept.borrow_mut();
            let handle = self.handle.inner.as_current_thread();
            let run = || {
                let kept = kept.get_or_insert_with(|| {
                    // By the usual way, on which tokio notes which thread its worker is.
                    runtime.block_on(std::future::ready(()));
                    runtime.sim_scheduler().sim_keep(&self.handle.inner)
                });
                kept.turn(handle, until_idle.as_mut())
            };
            step(&self.steps, run, |more| {
                idle.set(true);
                over.set(more);
                handle.sim_wake_root();
            })
        }

        fn lies(&self, ahead: &mut Ahead) {
            ahead.add(self);
            ahead.add_shared(self.handle.inner.as_current_thread());
            if let Some(kept) = &*self.kept.borrow() {
                kept.lies(ahead);
            }
        }

        fn shut_down(&self) {
            if let Some(runtime) = self.runtime.borrow_mut().take() {
                if let Some(kept) = self.kept.take() {
                    runtime.sim_scheduler().sim_keep_no_more(kept);
                }
                runtime.shutdown_background();
            }
        }
    }
}
