//! Tests run as tests: what `#[sim::test]` makes of an async function.

use sim::Sim;

#[sim::test(seeds = 100)]
async fn an_empty_test_passes_for_every_seed(_sim: Sim) {}
