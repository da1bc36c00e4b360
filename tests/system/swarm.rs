//! The swarm of the bench, small: many subscriptions at once, published to, leaving and coming back, restarted and cut off.

use harness::process;

#[test]
fn a_small_swarm_hears_everything() {
    for more in [&[][..], &["--plain"]] {
        let told = process::run("bench", ["swarm", "--quick"].iter().chain(more)).ok().stdout();
        for row in ["P9 restart with 50", "churn of 300 % a minute", "50 cut off for 1 s"] {
            assert!(told.contains(row), "{row}: {told}");
        }
        assert!(told.contains(", 0 fetched"), "{told}");
    }
}
