//! sim-libc
