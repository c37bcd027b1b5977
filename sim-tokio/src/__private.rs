//! What the macros of this crate emit calls of. Not for programs.
