//! What the macros of this crate emit calls of. Not for programs.

use crate::runtime::Runtime;
use std::future::Future;

pub use sim_macros::select;

/// Which test it is.
#[derive(Clone, Copy, Debug)]
pub struct TestInfo {
    /// Its path.
    pub name: &'static str,
    /// Its source file.
    pub file: &'static str,
    /// The package it is in.
    pub package: &'static str,
    /// Where that package is.
    pub manifest_dir: &'static str,
    /// Whether the test harness wants a panic.
    pub should_panic: bool,
}

/// Runs the body of a `#[tokio::test]` on the node `localhost`, in the runtime that `build` builds.
#[track_caller]
pub fn test<Fut: Future>(_info: TestInfo, build: impl Fn() -> Runtime, body: impl Fn() -> Fut) -> Fut::Output {
    build().block_on(body())
}

/// Which branch of a `select!` is looked at first.
pub fn select_start(branches: u32) -> u32 {
    sim_core::World::current().map_or(0, |world| world.select_start(branches))
}
