//! tokio, or the simulator in tokio's shape: the feature `sim` decides.
//!
//! Off, this crate is the real tokio and nothing else. On, it is tokio's API over one simulated [`World`](sim_core::World):
//! tasks are polled in an order that the seed perturbs, time is virtual, and nothing here calls the operating system. What
//! needs no runtime (`sync` but for its `watch` and `Barrier`, the traits and adapters of `io`, `join!`, `task_local!`) is
//! the real tokio's own code in both cases. What cannot be simulated is left out, so that it fails to compile rather than at
//! night.
#![cfg_attr(not(feature = "sim"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(not(feature = "sim"))]
pub use real::*;

#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod __private;
#[cfg(feature = "sim")]
pub mod fs;
#[cfg(feature = "sim")]
pub mod io;
#[cfg(feature = "sim")]
mod macros;
#[cfg(feature = "sim")]
pub mod net;
#[cfg(feature = "sim")]
pub mod runtime;
#[cfg(feature = "sim")]
pub mod signal;
#[cfg(feature = "sim")]
pub mod sync;
#[cfg(feature = "sim")]
pub mod task;
#[cfg(feature = "sim")]
pub mod time;

#[cfg(feature = "sim")]
pub use macros::*;
#[cfg(feature = "sim")]
pub use task::spawn;
