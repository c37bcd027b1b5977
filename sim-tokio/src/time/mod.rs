//! Virtual time in tokio's shape: sleeps, timeouts, intervals, instants.
//!
//! # Simulation
//! Time stands still while any task is ready and jumps to the next event when none is, whether or not it was
//! [`pause`]d. A day of sleeping takes no time.

pub mod error;
mod frozen;
mod instant;
mod interval;
mod sleep;
mod timeout;

pub use frozen::{advance, pause, resume};
pub use instant::Instant;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use std::time::Duration;
pub use timeout::{Timeout, timeout, timeout_at};

/// "Never" to a program: what tokio takes for a delay that overflows, thirty years.
pub(crate) const FAR_FUTURE: Duration = Duration::from_secs(86_400 * 365 * 30);
