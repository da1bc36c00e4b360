//! What is counted and timed. Each thread has a shard of its own; they are merged when somebody looks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    compare::Difference,
    number::{float, micros, percent},
};

/// The longest time that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// So many different findings are told apart.
const MAX_FINDINGS: usize = 200;
/// So many seconds are kept one by one.
const MAX_SECONDS: usize = 24 * 3600;

/// A histogram of microseconds with so many significant digits, three of which are the most.
#[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, digits.min(3)).expect("bounds that fit")
}

/// Adds what another histogram holds. All have the same bounds, so that nothing is lost.
fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).ok();
}

/// Counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were sent, or were to be.
    pub requests: u64,
    /// Answers.
    pub answered: u64,
    /// Requests without an answer, and answers of 400 and above where the recorded one was below.
    pub errors: u64,
    /// Requests of which something was asserted.
    pub asserted: u64,
    /// Of these, those of which something did not hold.
    pub failed: u64,
    /// Answers that were held against the recorded one.
    pub compared: u64,
    /// Of these, those that are it.
    pub own: u64,
    /// Requests with a token that the recorded service did not refuse.
    pub presented: u64,
    /// Of these, those that were not refused.
    pub accepted: u64,
    /// Answers of a responder that nothing recorded was found for.
    pub missed: u64,
    /// Bytes of answers' bodies.
    pub bytes: u64,
    /// Generator chains that failed.
    pub chains_failed: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.answered, other.answered),
            (&mut self.errors, other.errors),
            (&mut self.asserted, other.asserted),
            (&mut self.failed, other.failed),
            (&mut self.compared, other.compared),
            (&mut self.own, other.own),
            (&mut self.presented, other.presented),
            (&mut self.accepted, other.accepted),
            (&mut self.missed, other.missed),
            (&mut self.bytes, other.bytes),
            (&mut self.chains_failed, other.chains_failed),
        ];
        for (own, more) in pairs {
            *own = own.saturating_add(more);
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) endpoint: usize,
    /// From sending to the end of the answer.
    pub(crate) service: Duration,
    /// From when it was to begin to the end of the answer.
    pub(crate) response: Duration,
    pub(crate) counts: Counts,
    pub(crate) status: Option<u16>,
    /// Why there was no answer.
    pub(crate) error: Option<&'static str>,
    pub(crate) differences: Vec<Difference>,
}

/// The figures of an endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its counts.
    pub counts: Counts,
    /// Response times in microseconds.
    pub response: Histogram<u64>,
}

/// A second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    /// Requests that ended in it.
    pub requests: u64,
    /// Errors.
    pub errors: u64,
    /// Percentiles of the response times, in milliseconds: 50, 95, 99.
    pub quantiles: [f64; 3],
}

/// What a thread has seen.
#[derive(Debug)]
pub(crate) struct Shard(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    counts: Counts,
    service: Histogram<u64>,
    response: Histogram<u64>,
    endpoints: Vec<Option<Box<Endpoint>>>,
    errors: BTreeMap<&'static str, u64>,
    statuses: BTreeMap<u16, u64>,
    findings: BTreeMap<(usize, Difference), u64>,
    /// Since somebody looked last.
    recent: Histogram<u64>,
    recent_counts: Counts,
}

impl Shard {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self(Mutex::new(Seen {
            counts: Counts::default(),
            service: histogram(3),
            response: histogram(3),
            endpoints: vec![None; endpoints],
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            findings: BTreeMap::new(),
            recent: histogram(2),
            recent_counts: Counts::default(),
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, outcome: Outcome) {
        let mut guard = self.lock();
        let seen = &mut *guard;
        seen.counts.add(&outcome.counts);
        seen.recent_counts.add(&outcome.counts);
        if let Some(status) = outcome.status {
            *seen.statuses.entry(status).or_default() += 1;
        }
        if let Some(error) = outcome.error {
            *seen.errors.entry(error).or_default() += 1;
        }
        let (service, response) = (micros(outcome.service), micros(outcome.response));
        // What got no answer counts with the time that it was waited for, or a server that drops requests would look fast.
        seen.service.saturating_record(service);
        seen.response.saturating_record(response);
        seen.recent.saturating_record(response);
        if let Some(place) = seen.endpoints.get_mut(outcome.endpoint) {
            let endpoint = place.get_or_insert_with(|| {
                Box::new(Endpoint { counts: Counts::default(), response: histogram(2) })
            });
            endpoint.counts.add(&outcome.counts);
            endpoint.response.saturating_record(response);
        }
        for difference in outcome.differences {
            let name = (outcome.endpoint, difference);
            if seen.findings.len() < MAX_FINDINGS || seen.findings.contains_key(&name) {
                *seen.findings.entry(name).or_default() += 1;
            }
        }
    }
}

/// What all threads have seen.
#[derive(Debug, Clone)]
pub struct Totals {
    /// All requests.
    pub counts: Counts,
    /// From sending to the end of the answer, in microseconds.
    pub service: Histogram<u64>,
    /// From when a request was to begin to the end of the answer, in microseconds.
    pub response: Histogram<u64>,
    /// By endpoint, as the recording numbers them; those that were asked.
    pub endpoints: BTreeMap<usize, Endpoint>,
    /// Requests without an answer by why.
    pub errors: BTreeMap<&'static str, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// What differed, by endpoint, and how often.
    pub findings: BTreeMap<(usize, Difference), u64>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Totals {
    pub(crate) fn of(shards: &[&Shard], seconds: Vec<Second>, elapsed: Duration) -> Self {
        let mut totals = Self {
            counts: Counts::default(),
            service: histogram(3),
            response: histogram(3),
            endpoints: BTreeMap::new(),
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            findings: BTreeMap::new(),
            seconds,
            elapsed,
        };
        for shard in shards {
            totals.merge(&shard.lock());
        }
        totals
    }

    fn merge(&mut self, seen: &Seen) {
        self.counts.add(&seen.counts);
        // All histograms have the same bounds.
        merge(&mut self.service, &seen.service);
        merge(&mut self.response, &seen.response);
        for (nth, endpoint) in seen.endpoints.iter().enumerate() {
            let Some(endpoint) = endpoint else { continue };
            match self.endpoints.entry(nth) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert((**endpoint).clone());
                }
                std::collections::btree_map::Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.counts.add(&endpoint.counts);
                    merge(&mut known.response, &endpoint.response);
                }
            }
        }
        for (status, count) in &seen.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (error, count) in &seen.errors {
            *self.errors.entry(error).or_default() += count;
        }
        for (finding, count) in &seen.findings {
            if self.findings.len() < MAX_FINDINGS || self.findings.contains_key(finding) {
                *self.findings.entry(finding.clone()).or_default() += count;
            }
        }
    }
}

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Since it began.
    pub elapsed: Duration,
    /// All requests so far.
    pub counts: Counts,
    /// The last second.
    pub last: Second,
    /// Which part is done, from 0 to 1, as far as that is known.
    pub done: Option<f64>,
}

impl Progress {
    /// Accepted tokens in percent.
    #[must_use]
    pub fn token_acceptance(&self) -> Option<f64> {
        percent(self.counts.accepted, self.counts.presented)
    }

    /// Own answers in percent.
    #[must_use]
    pub fn own_answers(&self) -> Option<f64> {
        percent(self.counts.own, self.counts.compared)
    }
}

/// The second that has just gone by; what is recent begins anew.
pub(crate) fn second(shards: &[&Shard], seconds: &mut Vec<Second>) -> (Second, Counts) {
    let (mut recent, mut counts, mut all) = (histogram(2), Counts::default(), Counts::default());
    for shard in shards {
        let mut seen = shard.lock();
        merge(&mut recent, &seen.recent);
        seen.recent.reset();
        counts.add(&std::mem::take(&mut seen.recent_counts));
        all.add(&seen.counts);
    }
    let ms = |at: f64| float(recent.value_at_quantile(at)) / 1000.0;
    let second = Second {
        requests: counts.requests,
        errors: counts.errors,
        quantiles: if recent.is_empty() { [0.0; 3] } else { [ms(0.5), ms(0.95), ms(0.99)] },
    };
    if seconds.len() < MAX_SECONDS {
        seconds.push(second);
    }
    (second, all)
}
