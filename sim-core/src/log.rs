//! A `tracing` layer that turns events of the program into records of the run, stamped with virtual time, node and task.

use crate::world::World;
use std::fmt::Write;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The layer. Outside a run, and when nobody reads the trace, it does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimLayer;

impl<S: Subscriber> Layer<S> for SimLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(world) = World::current() else { return };
        // A device at work holds the record; what it does is in there already.
        if !world.core.try_borrow().is_ok_and(|core| core.trace.is_read()) {
            return;
        }
        // Written before the record is borrowed: the program's own `Debug` may do anything.
        let metadata = event.metadata();
        let mut line = format!("{:>5} {}:", metadata.level(), metadata.target());
        event.record(&mut Fields(&mut line));
        if let Some(task) = world.acting_task() {
            let _infallible = write!(line, "  [{}]", task.name.replace("::{{closure}}", ""));
        }
        world.event(world.acting_node(), "log", || line);
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _infallible = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
