//! The drop-in: a project's own tokio, operated by the simulator, without an edit of the project.

mod hunk;
mod hunks;
