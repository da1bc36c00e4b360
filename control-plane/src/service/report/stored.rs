//! What one responder has counted of one run, as it is stored: the counts of each of its processes beside each other, so that a message that comes
//! late, twice or to another control plane changes nothing; and those of long gone processes added up.

use countersign_engine::histogram::Histogram;
use countersign_proto::discovery::v1::{
    self as proto, EndpointTally, NearMissTally, RunTally, StepTally, Tally, TokenTally,
};
use prost::Message;

/// So many processes of a responder are kept apart; the counts of those before are added up.
const PROCESSES: usize = 4;
/// So many processes are remembered whose counts were added up.
const SETTLED: usize = 64;
/// So many endpoints are kept.
pub(super) const ENDPOINTS: usize = 256;
/// So many near-miss groups are kept.
pub(super) const GROUPS: usize = 50;
/// So many steps of five seconds are kept: ten minutes.
pub(super) const STEPS: usize = 120;
/// What is kept of a text.
const TEXT: usize = 512;
/// What is kept of lists that nobody makes long.
const LIST: usize = 40;

/// The names of the records of a run.
pub(super) struct RunName<'n> {
    pub(super) replay: &'n str,
    pub(super) run: u64,
}

impl RunName<'_> {
    /// What the names of all runs of a replay begin with.
    pub(super) fn all(replay: &str) -> String {
        format!("{replay}/runs/")
    }

    /// What the names of all responders' records begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}{:020}/", Self::all(self.replay), self.run)
    }

    /// A name behind all of them, and before those of the next run.
    pub(super) fn after(&self) -> String {
        format!("{}{:020}0", Self::all(self.replay), self.run)
    }

    /// The run of a record's name.
    pub(super) fn parse(all: &str, name: &str) -> Option<u64> {
        name.strip_prefix(all)?.split('/').next()?.parse().ok()
    }
}

/// The record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Contribution {
    /// The processes, the one that was heard last at last.
    #[prost(message, repeated, tag = "1")]
    processes: Vec<Process>,
    /// What processes before them have counted.
    #[prost(message, optional, tag = "2")]
    before: Option<RunTally>,
    /// Which these were.
    #[prost(string, repeated, tag = "3")]
    settled: Vec<String>,
    /// How many there were.
    #[prost(uint32, tag = "4")]
    gone: u32,
}

/// One process of a responder.
#[derive(Clone, PartialEq, Message)]
struct Process {
    #[prost(string, tag = "1")]
    session_id: String,
    #[prost(message, optional, tag = "2")]
    counted: Option<RunTally>,
}

impl Contribution {
    /// As it was stored; `None` where it cannot be read.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        <Self as Message>::decode(body).ok()
    }

    /// Takes in a message of a process; tells whether it says anything new.
    pub(super) fn take(&mut self, session_id: &str, mut counted: RunTally) -> bool {
        bound(&mut counted);
        if self.settled.iter().any(|settled| settled == session_id) {
            return false;
        }
        let at = self.processes.iter().position(|process| process.session_id == session_id);
        let mut process = match at {
            Some(at) => self.processes.remove(at),
            None => Process { session_id: session_id.to_owned(), counted: None },
        };
        let known = process.counted.take();
        let is_old = known.as_ref().is_some_and(|known| known.sequence >= counted.sequence);
        if let Some(known) = known {
            // Only the newest steps are told each time.
            let (newest, older) =
                if is_old { (known, counted.steps) } else { (counted, known.steps) };
            counted = newest;
            keep_steps(&mut counted.steps, older);
        }
        process.counted = Some(counted);
        self.processes.push(process);
        while self.processes.len() > PROCESSES {
            let oldest = self.processes.remove(0);
            if let Some(counted) = oldest.counted {
                add_run(self.before.get_or_insert_with(RunTally::default), counted);
            }
            self.settled.push(oldest.session_id);
            self.gone = self.gone.saturating_add(1);
        }
        let beyond = self.settled.len().saturating_sub(SETTLED);
        self.settled.drain(..beyond);
        !is_old
    }

    /// Everything together, and how many processes have counted it.
    pub(super) fn sum(self) -> (RunTally, u32) {
        let processes = u32::try_from(self.processes.len()).unwrap_or(u32::MAX);
        let mut sum = self.before.unwrap_or_default();
        let last = self.processes.last().and_then(|process| process.counted.as_ref());
        // Why keys cannot sign is so now, and does not add up.
        let reasons = last.and_then(|last| last.tokens.as_ref());
        let reasons = reasons.map(|tokens| tokens.unsigned_reasons.clone()).unwrap_or_default();
        for counted in self.processes.into_iter().filter_map(|process| process.counted) {
            add_run(&mut sum, counted);
        }
        if let Some(tokens) = &mut sum.tokens {
            tokens.unsigned_reasons = reasons;
        }
        (sum, processes.saturating_add(self.gone))
    }
}

/// Keeps a message within its bounds, whoever sent it.
pub(super) fn bound(run: &mut RunTally) {
    run.endpoints.truncate(ENDPOINTS);
    run.near_misses.truncate(GROUPS);
    run.steps.truncate(STEPS);
    for endpoint in &mut run.endpoints {
        [&mut endpoint.method, &mut endpoint.host, &mut endpoint.path]
            .into_iter()
            .for_each(shorten);
        endpoint.statuses.truncate(LIST);
        endpoint.status_counts.truncate(LIST);
    }
    for group in &mut run.near_misses {
        [&mut group.method, &mut group.path].into_iter().for_each(shorten);
        group.differing.truncate(LIST);
        for difference in &mut group.differing {
            shorten(&mut difference.key);
            difference.recorded.iter_mut().chain(&mut difference.presented).for_each(shorten);
        }
    }
    if let Some(tokens) = &mut run.tokens {
        for counts in [&mut tokens.refused, &mut tokens.unsigned_reasons] {
            while counts.len() > LIST {
                counts.pop_last();
            }
        }
    }
    let histograms = run.endpoints.iter_mut().filter_map(|it| it.tally.as_mut());
    let tallies = histograms.chain(&mut run.totals).chain(&mut run.other);
    let steps = run.steps.iter_mut().filter_map(|step| step.latency.as_mut());
    for histogram in tallies.filter_map(|tally| tally.latency.as_mut()).chain(steps) {
        *histogram = encode(&decode(Some(histogram)));
    }
}

fn shorten(text: &mut String) {
    if text.len() > TEXT {
        let end = (0..=TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
}

/// A histogram of a message.
pub(super) fn decode(histogram: Option<&proto::Histogram>) -> Histogram {
    let Some(histogram) = histogram else { return Histogram::default() };
    let steps = histogram.steps.iter().map(|step| usize::try_from(*step).unwrap_or(usize::MAX));
    Histogram::new(steps.zip(histogram.counts.iter().copied()), histogram.sum, histogram.max)
}

fn encode(histogram: &Histogram) -> proto::Histogram {
    let steps = histogram.steps().iter();
    let (steps, counts) =
        steps.map(|(step, count)| (u32::try_from(*step).unwrap_or(u32::MAX), *count)).unzip();
    proto::Histogram { steps, counts, sum: histogram.sum(), max: histogram.max() }
}

/// Adds what another process or responder has counted.
pub(super) fn add_run(sum: &mut RunTally, more: RunTally) {
    if sum.bundle.is_none() {
        sum.bundle = more.bundle;
    }
    if sum.start_nanos == 0 || (more.start_nanos != 0 && more.start_nanos < sum.start_nanos) {
        sum.start_nanos = more.start_nanos;
    }
    sum.time_nanos = sum.time_nanos.max(more.time_nanos);
    add_optional(&mut sum.totals, more.totals);
    add_optional(&mut sum.other, more.other);
    more.endpoints.into_iter().for_each(|endpoint| add_endpoint(sum, endpoint));
    if let Some(tokens) = more.tokens {
        add_tokens(sum.tokens.get_or_insert_with(TokenTally::default), tokens);
    }
    more.near_misses.into_iter().for_each(|group| add_group(sum, group));
    add(&mut sum.ungrouped_misses, more.ungrouped_misses);
    add(&mut sum.unexplained_misses, more.unexplained_misses);
    more.steps.into_iter().for_each(|step| add_step(&mut sum.steps, step));
    sum.totals_only |= more.totals_only;
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn add_optional(sum: &mut Option<Tally>, more: Option<Tally>) {
    if let Some(more) = more {
        add_tally(sum.get_or_insert_with(Tally::default), &more);
    }
}

/// Adds requests.
pub(super) fn add_tally(sum: &mut Tally, more: &Tally) {
    add(&mut sum.hits, more.hits);
    add(&mut sum.misses, more.misses);
    add(&mut sum.passthrough, more.passthrough);
    add(&mut sum.errors, more.errors);
    add(&mut sum.borrowed, more.borrowed);
    add(&mut sum.request_bytes, more.request_bytes);
    add(&mut sum.response_bytes, more.response_bytes);
    let mut latency = decode(sum.latency.as_ref());
    latency.add(&decode(more.latency.as_ref()));
    sum.latency = Some(encode(&latency));
}

fn add_endpoint(sum: &mut RunTally, more: EndpointTally) {
    let same = |it: &&mut EndpointTally| it.method == more.method && it.path == more.path;
    let Some(known) = sum.endpoints.iter_mut().find(same) else {
        if sum.endpoints.len() < ENDPOINTS {
            sum.endpoints.push(more);
        } else {
            add_optional(&mut sum.other, more.tally);
        }
        return;
    };
    if known.host != more.host {
        known.host.clear();
    }
    known.recorded_pairs = known.recorded_pairs.max(more.recorded_pairs);
    add_optional(&mut known.tally, more.tally);
    for (status, count) in more.statuses.into_iter().zip(more.status_counts) {
        match known.statuses.iter().position(|it| *it == status) {
            Some(at) => {
                if let Some(sum) = known.status_counts.get_mut(at) {
                    add(sum, count);
                }
            }
            None => {
                known.statuses.push(status);
                known.status_counts.push(count);
            }
        }
    }
}

fn add_tokens(sum: &mut TokenTally, more: TokenTally) {
    add(&mut sum.signed, more.signed);
    add(&mut sum.made, more.made);
    add(&mut sum.unsigned, more.unsigned);
    add(&mut sum.checked, more.checked);
    add(&mut sum.accepted, more.accepted);
    for (code, count) in more.refused {
        add(sum.refused.entry(code).or_default(), count);
    }
    for (code, count) in more.unsigned_reasons {
        add(sum.unsigned_reasons.entry(code).or_default(), count);
    }
}

/// What groups are told apart by.
pub(super) fn group_key(group: &NearMissTally) -> (&str, &str, Vec<&str>) {
    let mut keys: Vec<&str> = group.differing.iter().map(|it| &*it.key).collect();
    keys.sort_unstable();
    (&group.method, &group.path, keys)
}

fn add_group(sum: &mut RunTally, more: NearMissTally) {
    let known = sum.near_misses.iter_mut().find(|known| group_key(known) == group_key(&more));
    let Some(known) = known else {
        if sum.near_misses.len() < GROUPS {
            sum.near_misses.push(more);
        } else {
            add(&mut sum.ungrouped_misses, more.count);
        }
        return;
    };
    add(&mut known.count, more.count);
    known.first_nanos = known.first_nanos.min(more.first_nanos);
    if more.last_nanos >= known.last_nanos {
        known.last_nanos = more.last_nanos;
        known.differing = more.differing;
    }
}

fn add_step(steps: &mut Vec<StepTally>, more: StepTally) {
    match steps.binary_search_by_key(&more.start_seconds, |step| step.start_seconds) {
        Err(at) => steps.insert(at, more),
        Ok(at) => {
            let Some(known) = steps.get_mut(at) else { return };
            add(&mut known.hits, more.hits);
            add(&mut known.misses, more.misses);
            add(&mut known.passthrough, more.passthrough);
            let mut latency = decode(known.latency.as_ref());
            latency.add(&decode(more.latency.as_ref()));
            known.latency = Some(encode(&latency));
        }
    }
    let beyond = steps.len().saturating_sub(STEPS);
    steps.drain(..beyond);
}

/// Keeps steps of the same process that the newest message does not tell again.
fn keep_steps(steps: &mut Vec<StepTally>, older: Vec<StepTally>) {
    steps.sort_by_key(|step| step.start_seconds);
    for step in older {
        if let Err(at) = steps.binary_search_by_key(&step.start_seconds, |it| it.start_seconds) {
            steps.insert(at, step);
        }
    }
    let beyond = steps.len().saturating_sub(STEPS);
    steps.drain(..beyond);
}

#[cfg(test)]
mod tests;
