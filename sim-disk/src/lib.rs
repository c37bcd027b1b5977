//! sim-disk
