//! What tokio and the simulator have to do with each other.

#![allow(missing_docs, unreachable_pub, unused_imports)]

// Without a path to the crate its interposed symbols would not be linked.
pub use ::sim;
