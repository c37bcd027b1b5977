//! tokio, or the simulator in tokio's shape: the feature `sim` decides.

#[cfg(not(feature = "sim"))]
pub use real::*;
