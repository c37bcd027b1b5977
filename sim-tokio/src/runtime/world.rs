//! The World of a plain `#[test]`.

use sim_core::choices::Choices;
use sim_core::{Entered, Settings};

/// The node that plain tests run on.
pub(crate) const LOCALHOST: &str = "localhost";

/// Enters a World with everything plugged in. `None` if this thread runs one already.
pub(super) fn enter() -> Option<Entered> {
    let entered = sim::enter(Settings::default(), Choices::seeded(seed())).ok()?;
    entered.world().node(LOCALHOST);
    Some(entered)
}

/// `SIM_SEED`, decimal or hexadecimal.
fn seed() -> u64 {
    let Some(text) = std::env::var_os("SIM_SEED") else { return 0 };
    let parsed = text.to_str().and_then(|text| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    });
    parsed.unwrap_or_else(|| panic!("SIM_SEED is {text:?}: expected a number such as 7 or 0x2a"))
}
