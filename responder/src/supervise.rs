//! Work in the background that nobody waits for: after a panic it begins again, a little later each time, instead of being missed in silence.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// How long the first pause is, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Does this until it comes to an end, or until it is dropped. What it shares has to be whole after a panic.
pub(crate) fn spawn<W>(
    what: &'static str,
    work: impl Fn() -> W + Send + 'static,
) -> AbortOnDropHandle<()>
where
    W: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            if AssertUnwindSafe(work()).catch_unwind().await.is_ok() {
                return;
            }
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE;
            }
            tracing::error!(what, ?pause, "work in the background panicked; it begins again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn what_panics_begins_again_until_it_comes_to_an_end() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let work = spawn("a test", move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                assert!(nth >= 2, "a planted panic");
            }
        });
        tokio::time::timeout(Duration::from_secs(20), work).await.unwrap().unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
