//! What tokio keeps once in a process and a run once on each machine, that its programs hear of signals each on their own.

use sim_core::signal::Signal;
use sim_core::{GroupId, World};
use std::any::Any;
use std::cell::RefCell;

/// By incarnation and kind. They live as long as the process, as tokio's own do.
#[derive(Default)]
struct Statics(RefCell<Vec<(GroupId, &'static (dyn Any + Send + Sync))>>);

/// The value of this type that belongs to the acting incarnation, made by `new` when it is first asked for; `None` outside a run.
pub fn of_incarnation<T: Send + Sync + 'static>(new: impl FnOnce() -> T) -> Option<&'static T> {
    let world = World::current()?;
    let (statics, group) = (world.extension::<Statics>(), world.acting_group());
    let known = statics.0.borrow().iter().filter(|(g, _)| *g == group).find_map(|(_, s)| s.downcast_ref());
    Some(known.unwrap_or_else(|| {
        let made: &'static T = Box::leak(Box::new(new()));
        statics.0.borrow_mut().push((group, made));
        made
    }))
}

/// Lets `handler` hear of a signal to the acting machine. Outside a run there is none.
pub fn handle_signal(signal: i32, handler: impl Fn() + 'static) {
    if let Some(world) = World::current() {
        world.handle_signal(Signal(signal), handler);
    }
}
