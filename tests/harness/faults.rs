//! What goes wrong, under load: every response is compared with what its version says, whole.
//!
//! These runs tell whether, not how fast, so that they may share the machine with others; times that they print are of the machine as it was. The bench runs them at
//! full length, the system tests briefly.

pub mod away;
pub mod kills;
pub mod random;
pub mod restarts;
pub mod swaps;

use std::time::Duration;

use crate::versions::Tally;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it was.
    pub row: String,
    /// What is expected.
    pub goal: &'static str,
    /// What clients saw.
    pub tally: Tally,
    /// What else was seen, in words.
    pub also: String,
    /// Whether that is as expected.
    pub holds: bool,
}

impl Outcome {
    /// Whether no request failed, and all else is as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.tally.failed.is_empty() && self.tally.answered > 0 && self.holds
    }

    /// What was seen, in words.
    #[must_use]
    pub fn told(&self) -> String {
        let Tally { answered, retried, failed, versions, .. } = &self.tally;
        format!(
            "{} of {} requests failed, {retried} were asked again; {} versions; {}",
            failed.len(),
            answered + u64::try_from(failed.len()).unwrap_or_default(),
            versions.len(),
            self.also
        )
    }
}

/// Waits, without a doubt that it is for this long.
pub async fn pause(time: Duration) {
    let mut ticks = tokio::time::interval(time.max(Duration::from_millis(1)));
    ticks.tick().await;
    ticks.tick().await;
}

/// Runs what blocks, as starting processes does.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}
