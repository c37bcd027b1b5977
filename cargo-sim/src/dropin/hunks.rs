//! The changes to tokio's source, and the files added to it. Which versions they were tried with stands in [`TESTED`].

use super::hunk::{Hunk, Versions};

/// Every change, applied in this order.
pub const HUNKS: &[Hunk] = &[Hunk {
    name: "the module __sim",
    file: "lib.rs",
    anchor: "mod loom;",
    replace: "#[doc(hidden)]\npub mod __sim;\nmod loom;",
    versions: Versions::ALL,
}];

/// Files that are added: path in `src`, text.
pub const ADDED: &[(&str, &str)] = &[("__sim.rs", include_str!("glue/__sim.rs"))];

/// The versions of tokio whose own tests were run with these changes. Another one whose anchors all fit gets a warning.
pub const TESTED: &[&str] = &["1.32.0", "1.44.2", "1.54.1"];
