//! The attributes of the simulator. They parse and emit one call; what a test does stands in the crate `sim`.

mod select;
mod test;
mod tokio_attr;

use proc_macro::TokenStream;

/// Makes a simulated test of an `async fn` that takes a `sim::Sim`, or nothing.
///
/// A plain `#[test]` comes out of it, so `cargo test`, `cargo nextest` and `cargo sim` all run it. It passes when the body
/// passes for every seed.
///
/// | option | means | unless given |
/// |---|---|---|
/// | `seeds = 1000` | how many seeds a sweep tries, from 0 | 100 |
/// | `time_limit = "60s"` | most virtual time of a run (`ns`, `us`, `ms`, `s`, `m`, `h`; a bare integer is seconds) | one hour |
/// | `step_limit = 1000000` | most polls and events of a run | a thousand million |
/// | `memory = "512M"` | most memory that a run touches (`K`, `M`, `G`; a bare integer is bytes) | 1 GiB |
/// | `perturb = false` | keeps the order of ready tasks first in, first out | `true` |
///
/// Other attributes of the function (`#[should_panic]` excepted, which cannot be told from a failing run) stay on the
/// test.
#[proc_macro_attribute]
pub fn test(options: TokenStream, function: TokenStream) -> TokenStream {
    test::expand(options.into(), function.into()).into()
}

/// `#[tokio::test]` of the simulator; `sim-tokio` re-exports it as `test`.
#[proc_macro_attribute]
pub fn tokio_test(options: TokenStream, function: TokenStream) -> TokenStream {
    tokio_attr::test(options.into(), function.into()).into()
}

/// `#[tokio::main]` of the simulator; `sim-tokio` re-exports it as `main`.
#[proc_macro_attribute]
pub fn tokio_main(options: TokenStream, function: TokenStream) -> TokenStream {
    tokio_attr::main(options.into(), function.into()).into()
}

/// `select!` of the simulator, after `(path of the crate)`; `sim-tokio` wraps it.
#[proc_macro]
pub fn select(branches: TokenStream) -> TokenStream {
    select::expand(branches.into()).into()
}
