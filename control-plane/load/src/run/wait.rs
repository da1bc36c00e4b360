//! Waiting for a moment of the run, or for its end.

use std::time::Instant;

use super::Shared;

/// Waits until a moment; false when the run ended before.
pub(super) async fn until(shared: &Shared, moment: Instant) -> bool {
    if moment <= Instant::now() {
        return !shared.ended.is_cancelled();
    }
    tokio::select! {
        biased;
        () = shared.ended.cancelled() => false,
        () = tokio::time::sleep_until(moment.into()) => true,
    }
}
