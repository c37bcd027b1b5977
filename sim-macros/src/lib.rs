//! sim-macros
