//! What goes wrong with a fleet under load, briefly; `bench faults` does the same for long.

use harness::{
    faults::{Outcome, away, kills, random, restarts, swaps},
    notice,
};

fn assert_passed(outcome: &Outcome) {
    notice(&format!("{}: {}", outcome.row, outcome.told()));
    let failed = &outcome.tally.failed;
    assert!(failed.is_empty() && outcome.tally.answered > 0, "{:?}", failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn responders_go_on_and_start_from_disk_while_the_control_plane_is_away() {
    let plan = away::Plan { minutes: 0.05, every: 1.0, clients: 4 };
    assert_passed(&away::run(&plan).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_and_none_is_mixed_or_old_while_versions_are_swapped() {
    let plan = swaps::Plan { count: 20, every: 1, responders: 2, clients: 8, steady: 0.2 };
    let outcome = swaps::run(&plan).await.unwrap();
    assert_passed(&outcome);
    assert!(outcome.tally.versions.len() > 10, "{:?}", outcome.tally.versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_whenever_the_control_plane_is_killed() {
    let outcome = kills::run(&kills::Plan { count: 20, within: 400, seed: 3 }).await.unwrap();
    assert_passed(&outcome);
    assert!(outcome.holds);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_all_responders_are_started_anew() {
    let plan = restarts::Plan { rounds: 1, responders: 3, clients: 8 };
    let outcome = restarts::run(&plan).await.unwrap();
    assert_passed(&outcome);
    assert!(outcome.holds, "{}", outcome.also);
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_may_die_and_any_link_may_break() {
    let plan = random::Plan { minutes: 0.3, seed: 5, clients: 4 };
    if let Some(outcome) = random::run(&plan).await.unwrap() {
        assert_passed(&outcome);
    }
}
