//! Packages that are known to reach past the simulator, and what to use instead.
//!
//! Those that can be handled are, and are not listed: rustix is built on libc (`tokio::Extra`), and who reads the time
//! stamp counter (quanta, minstant) is shown the virtual clock.

use crate::metadata::Metadata;

/// Name, what it does, remedy.
const TROUBLEMAKERS: &[(&str, &str, &str)] = &[
    ("aws-lc-sys", "draws entropy from the processor, which no seed decides", "let rustls use its `ring` provider"),
    ("rdrand", "draws entropy from the processor, which no seed decides", "use getrandom or rand"),
    ("io-uring", "makes system calls of its own for I/O, which end a run as escaped", "use tokio's own net and fs"),
    ("tokio-uring", "runs its own reactor on io_uring, which ends a run as escaped", "use tokio's own net and fs"),
    ("monoio", "is a runtime of its own on io_uring, which ends a run as escaped", "use tokio"),
    ("glommio", "is a runtime of its own on io_uring, which ends a run as escaped", "use tokio"),
];

/// A line for each that is in a graph.
pub fn in_graph(graph: &Metadata) -> Vec<String> {
    let here = TROUBLEMAKERS.iter().filter(|(name, ..)| graph.named(name).next().is_some());
    here.map(|(name, does, remedy)| {
        let through = graph.through(&|p| p.name == *name);
        format!("{name} {does} ({through}): {remedy}")
    })
    .collect()
}
