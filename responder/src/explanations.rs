//! Explanations of misses, within bounds: what came near is found off the data plane's threads, for a small share of the node's time.
//!
//! Whoever tests by hand, or with a suite, misses tens of times a second at the most and is always told. A storm of misses, a load test
//! against the wrong recording say, is told at once that nothing answers, and no more: a miss waits only for an explanation that it gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use countersign_engine::near_miss::NearMiss;
use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    serve_request::{guard, now},
    server::read::Received,
    snapshots::Replay,
};

/// Explanations that are worked out at a time.
const AT_A_TIME: usize = 4;

/// Explains misses.
#[derive(Debug)]
pub(crate) struct Explanations {
    budget: Budget,
    turns: Arc<Semaphore>,
    /// What the budget counts its time from.
    begun: Instant,
}

impl Explanations {
    /// Those of a node with so many cores.
    pub(crate) fn of_cores(cores: usize) -> Self {
        Self {
            budget: Budget::of_cores(cores),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            begun: Instant::now(),
        }
    }

    /// Finds what comes near; `None`, at once, when others have used up the time for it.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        replay: &Arc<Replay>,
        received: &Arc<Received>,
        control: &Handle,
    ) -> Option<NearMiss> {
        let taken = self.budget.take(self.elapsed())?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let (own, replay, received) = (Arc::clone(self), Arc::clone(replay), Arc::clone(received));
        let task = control.spawn_blocking(move || {
            // What all explanations of a replay share is made once, whoever comes first.
            let made = guard(|| replay.serving.prepare_near_misses(now()));
            let before = worked();
            let nearest =
                made.and_then(|()| guard(|| replay.serving.near_miss(&received.request(), now())));
            own.budget.settle(taken, worked().saturating_sub(before));
            drop(turn);
            nearest
        });
        task.await.ok().flatten()
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }
}

/// The nanoseconds that this thread has worked.
fn worked() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// How much time explanations may take. All times are in nanoseconds.
///
/// Each explanation puts off the moment at which all before it would be paid for, by what it costs at the pace at which costs are paid. One
/// more is admitted while that moment is near, whatever it costs itself.
#[derive(Debug)]
struct Budget {
    /// So many cores pay for it.
    cores: i64,
    /// When everything is paid for.
    paid: AtomicI64,
    /// What one costs, by those before.
    each: AtomicI64,
}

impl Budget {
    /// The share of each core: one part in so many.
    const SHARE: i64 = 20;
    /// A burst may use up as much at once as comes together in this time.
    const WINDOW: i64 = 1_000_000_000;
    /// What the first ones are thought to cost.
    const FIRST: i64 = 200_000;
    /// None is thought to cost less, so that no more are begun than can be held.
    const LEAST: i64 = 20_000;

    fn of_cores(cores: usize) -> Self {
        let cores = i64::try_from(cores).unwrap_or(1).clamp(1, 1000);
        Self { cores, paid: AtomicI64::new(0), each: AtomicI64::new(Self::FIRST) }
    }

    /// Takes the time for one explanation, and tells how much; `None` when there is none left.
    fn take(&self, now: i64) -> Option<i64> {
        let each = self.each.load(Ordering::Relaxed);
        let taken = |paid: i64| {
            let paid = paid.max(now);
            (paid - now < Self::WINDOW).then(|| paid.saturating_add(self.price(each)))
        };
        self.paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        Some(each)
    }

    /// Puts what one has cost in the place of what was taken for it.
    fn settle(&self, taken: i64, cost: i64) {
        self.paid.fetch_add(self.price(cost.saturating_sub(taken)), Ordering::Relaxed);
        let learn = |each: i64| Some(((each * 7 + cost.max(0)) / 8).max(Self::LEAST));
        let _before = self.each.fetch_update(Ordering::Relaxed, Ordering::Relaxed, learn);
    }

    /// How long it takes until some work is paid for.
    fn price(&self, work: i64) -> i64 {
        work.saturating_mul(Self::SHARE).checked_div(self.cores).unwrap_or(work)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use countersign_engine::{
        compile::compile,
        jwt::key::KeyRing,
        serving::Serving,
        snapshot::{HttpRequest, HttpResponse, RrPair, Serve, digest::Digest},
        test_config::TestConfig,
        transform::Template,
    };

    use super::*;
    use crate::{report::Reports, snapshots::Assignment};

    const SECOND: i64 = 1_000_000_000;
    const MILLI: i64 = 1_000_000;

    /// How many of a second's misses are explained when they come at an even pace and each costs so much.
    fn explained(budget: &Budget, second: i64, misses: i64, cost: i64) -> usize {
        let moments = (0..misses).map(|nth| second * SECOND + nth * SECOND / misses);
        let explained = |moment: i64| match budget.take(moment) {
            Some(taken) => {
                budget.settle(taken, cost);
                true
            }
            None => false,
        };
        moments.filter(|moment| explained(*moment)).count()
    }

    fn replay() -> Arc<Replay> {
        let request = HttpRequest {
            method: "GET".into(),
            host: "api.example".into(),
            path: "/orders/17".into(),
            ..HttpRequest::default()
        };
        let response = HttpResponse { status: 200, ..HttpResponse::default() };
        let pair = RrPair { request: Some(request), response, ..RrPair::default() };
        let template = Template::parse(br#"{"id":"t"}"#).0;
        let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        let compiled = compile(vec![pair], &template, &config, Serve::All).0;
        let assignment = Assignment {
            name: "projects/p/replays/r".into(),
            bundle: Digest::of(b""),
            generation: 1,
            start_time: 0,
            revision: 1,
        };
        let serving = Serving::new(Arc::new(compiled), &KeyRing::default());
        Arc::new(Replay {
            tally: Reports::new(1).open(&assignment, &serving),
            assignment,
            serving: Arc::new(serving),
            secrets: Vec::new(),
            pairs: 1,
            blobs: Arc::new([]),
            serial: 1,
        })
    }

    #[tokio::test]
    async fn a_miss_is_told_what_came_near_or_waits_for_nothing() {
        let request = http::Request::get("http://api.example/orders/18").body(()).unwrap();
        let parts = request.into_parts().0;
        let received = Arc::new(Received::new(parts, Bytes::new(), None, None));
        let (replay, explanations) = (replay(), Arc::new(Explanations::of_cores(1)));
        let control = Handle::current();
        let told = explanations.explain(&replay, &received, &control).await.unwrap();
        assert_eq!(told.nearest[0].differing[0].recorded.as_deref(), Some("/orders/17"));

        explanations.budget.settle(0, 3600 * SECOND);
        let turns = Arc::clone(&explanations.turns).acquire_many_owned(4).await.unwrap();
        let waited = explanations.explain(&replay, &received, &control);
        assert_eq!(futures_util::FutureExt::now_or_never(waited), Some(None), "at once");
        drop(turns);
    }

    #[test]
    fn ordinary_rates_are_always_explained() {
        let budget = Budget::of_cores(1);
        for second in 0..60 {
            assert_eq!(explained(&budget, second, 90, MILLI / 2), 90, "second {second}");
        }
    }

    #[test]
    fn a_storm_gets_a_twentieth_of_the_cores() {
        for (cores, each) in [(1, 500), (2, 1000), (64, 32_000)] {
            let budget = Budget::of_cores(cores);
            let all: usize =
                (0..20).map(|second| explained(&budget, second, 40_000, MILLI / 10)).sum();
            // And what a burst may use up at once.
            assert!((20 * each..=21 * each + 2).contains(&all), "{cores} cores: {all}");
        }
    }

    #[test]
    fn what_was_dear_is_paid_for_later() {
        let budget = Budget::of_cores(1);
        let taken = budget.take(0).unwrap();
        budget.settle(taken, SECOND / 5);
        assert_eq!(budget.take(SECOND), None);
        assert_eq!(budget.take(3 * SECOND - 1), None);
        assert!(budget.take(3 * SECOND + 1).is_some());
    }

    #[test]
    fn those_that_are_not_done_count_by_what_others_have_cost() {
        let budget = Budget::of_cores(2);
        let begun = (0..10_000).filter(|_| budget.take(7).is_some()).count();
        assert_eq!(begun, 500, "200 µs each");
        for _ in 0..begun {
            budget.settle(Budget::FIRST, 10 * MILLI);
        }
        assert_eq!(budget.take(SECOND), None);
        let begun = (0..10_000).filter(|_| budget.take(60 * SECOND * 2).is_some()).count();
        assert!((10..=11).contains(&begun), "10 ms each: {begun}");
    }
}
