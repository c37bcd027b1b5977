//! `join!`, `try_join!`, `pin!` and `task_local!` are the real tokio's; `select!`, `main` and `test` are ours.

pub use real::{join, pin, task_local, try_join};
