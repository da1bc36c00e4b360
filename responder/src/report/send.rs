//! Tells the control plane what was counted: every two seconds, where something is new. Everything is cumulative, so that a message that is lost or
//! comes twice does no harm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_engine::{
    endpoints::{Endpoint, MOST},
    histogram::Histogram,
    snapshot::wire::encode_digest,
};
use countersign_proto::discovery::v1::{
    self as proto, RunTally, SendTallyRequest, SendTallyResponse,
    tally_service_client::TallyServiceClient,
};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status, transport::Channel};

use super::{
    Detail, Reports, check,
    gather::Step,
    groups::Group,
    tally::{Beside, Sums, Tally},
};
use crate::{
    config::Config, control_plane::Way, journal::Journal, secrets::Secrets, serve_request::now,
    snapshots::Snapshots,
};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// At every so many looks something is told.
const TELL: u32 = 2;
/// How long a message may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// So many runs go into a message.
const RUNS: usize = 20;
/// A control plane that takes no counts is asked again after so many looks.
const AGAIN: u32 = 60;

/// Tells the control plane.
#[derive(Debug)]
pub(crate) struct Reporter {
    responder: String,
    project: String,
    /// New for each process.
    session_id: String,
    snapshots: Arc<Snapshots>,
    secrets: Arc<Secrets>,
    journal: Option<Arc<Journal>>,
    /// One message is on its way at a time.
    client: Mutex<Sender>,
}

#[derive(Debug)]
struct Sender {
    client: TallyServiceClient<Channel>,
    /// The last message did not arrive.
    failed: bool,
    /// Looks that pass before it is tried again.
    pause: u32,
}

impl Reporter {
    /// One that tells this control plane; `None` when there is none, or nothing is to be told.
    pub(crate) fn new(
        config: &Config,
        way: Option<&Way>,
        session_id: &str,
        (snapshots, secrets): (&Arc<Snapshots>, &Arc<Secrets>),
        journal: Option<&Arc<Journal>>,
    ) -> Option<Arc<Self>> {
        if config.report != Detail::Full {
            snapshots.reports().only_totals();
        }
        let way = way.filter(|_| config.report != Detail::Off)?;
        let endpoint = way.endpoint().connect_timeout(DEADLINE).tcp_nodelay(true);
        let client = TallyServiceClient::new(way.connect_lazy(&endpoint));
        let client = Mutex::new(Sender { client, failed: false, pause: 0 });
        Some(Arc::new(Self {
            responder: config.name.clone(),
            project: config.project_name(),
            session_id: session_id.to_owned(),
            snapshots: Arc::clone(snapshots),
            secrets: Arc::clone(secrets),
            journal: journal.cloned(),
            client,
        }))
    }

    fn reports(&self) -> &Arc<Reports> {
        self.snapshots.reports()
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut nth, mut since) = (0_u32, now());
        loop {
            ticks.tick().await;
            nth = nth.wrapping_add(1);
            since = self.look(since).await;
            if nth.is_multiple_of(TELL) {
                self.tell().await;
            }
        }
    }

    /// Tells what is left, within this time.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.look(i64::MAX).await;
        if timeout(limit, self.tell()).await.is_err() {
            tracing::debug!("the last counts were not taken in time");
        }
    }

    /// Sums up what was counted, and looks at tokens of requests since then; tells until when.
    async fn look(&self, since: i64) -> i64 {
        let reports = Arc::clone(self.reports());
        let (journal, table) = (self.journal.clone(), self.snapshots.load_full());
        let looked = spawn_blocking(move || {
            let last = journal.map(|journal| check::look(&journal, &table, &reports, since));
            let tallies = reports.all();
            for replay in table.versions() {
                let made = replay.serving.signatures();
                if let Some(tally) = tallies.iter().find(|it| it.is_of(&replay.assignment)) {
                    tally.told().made = made.saturating_sub(tally.signatures);
                }
            }
            let now = now();
            for tally in tallies {
                let (all, checked) = (tally.all(), tally.checked().checked);
                tally.told().look(&all, checked, now);
            }
            last
        });
        looked.await.ok().flatten().unwrap_or(since)
    }

    /// Tells what the control plane has not taken.
    async fn tell(&self) {
        let mut sender = self.client.lock().await;
        if sender.pause > 0 {
            sender.pause -= 1;
            return;
        }
        let owed: Vec<Arc<Tally>> =
            self.reports().all().into_iter().filter(|tally| !tally.is_told()).collect();
        for some in owed.chunks(RUNS) {
            let runs: Vec<RunTally> = some.iter().map(|tally| self.encode(tally)).collect();
            let sent: Vec<u64> = runs.iter().map(|run| run.sequence).collect();
            let request = SendTallyRequest {
                responder: self.responder.clone(),
                project: self.project.clone(),
                session_id: self.session_id.clone(),
                runs,
            };
            let answered = timeout(DEADLINE, sender.client.send_tally(request)).await;
            match answered.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
                Ok(answer) => {
                    sender.failed = false;
                    taken(some, &sent, &answer.into_inner());
                }
                Err(status) => {
                    if !sender.failed {
                        tracing::info!(%status, "the control plane did not take the counts; they are told again");
                    }
                    sender.failed = true;
                    if matches!(status.code(), Code::Unimplemented | Code::PermissionDenied) {
                        sender.pause = AGAIN / TELL;
                    }
                    return;
                }
            }
        }
    }

    fn encode(&self, tally: &Tally) -> RunTally {
        let (rows, mut other) = tally.rows();
        let (mut own, beside, checked) = (rows, tally.beside(), tally.checked());
        let mut all = other.clone();
        own.iter().for_each(|(_, sums)| all.add(sums));
        // The busiest stay, should there be too many.
        own.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.requests()));
        let kept = if own.len() > MOST { own.split_off(MOST) } else { Vec::new() };
        kept.iter().for_each(|(_, sums)| other.add(sums));
        let ((groups, ungrouped_misses), totals_only) = (tally.groups(), tally.totals_only());
        let mut told = tally.told();
        told.sequence += 1;
        RunTally {
            replay: tally.replay.clone(),
            run: tally.run,
            bundle: Some(encode_digest(&tally.bundle)),
            start_nanos: tally.start,
            sequence: told.sequence,
            time_nanos: now(),
            totals: Some(encode_sums(&all, beside)),
            endpoints: own.into_iter().map(encode_endpoint).collect(),
            other: Some(encode_sums(&other, Beside::default())),
            tokens: Some(proto::TokenTally {
                signed: beside.signed,
                made: told.made,
                unsigned: beside.unsigned,
                checked: checked.checked,
                accepted: checked.accepted,
                refused: named(checked.refused),
                unsigned_reasons: self.reasons(tally),
            }),
            near_misses: groups.into_iter().map(encode_group).collect(),
            ungrouped_misses,
            unexplained_misses: tally.unexplained(),
            steps: told.steps().map(encode_step).collect(),
            totals_only,
        }
    }

    /// Why keys of this replay cannot sign now.
    fn reasons(&self, tally: &Tally) -> BTreeMap<String, u64> {
        let table = self.snapshots.load_full();
        let Some(replay) = table.versions().find(|replay| tally.is_of(&replay.assignment)) else {
            return BTreeMap::new();
        };
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        let reports = self.secrets.reports();
        let unresolved =
            reports.iter().filter(|(of, it)| !it.resolved && replay.secrets.contains(of));
        for (_, report) in unresolved {
            let code = report.problem.as_ref().map_or("key_missing", |(code, _)| code);
            *reasons.entry(code.to_owned()).or_default() += 1;
        }
        reasons
    }
}

fn taken(tallies: &[Arc<Tally>], sent: &[u64], answer: &SendTallyResponse) {
    for (tally, sequence) in tallies.iter().zip(sent) {
        let mut told = tally.told();
        told.take(*sequence);
        told.unknown = answer.unknown.contains(&tally.replay);
    }
}

impl Sums {
    fn requests(&self) -> u64 {
        self.latency.count() + self.misses + self.passed
    }
}

fn named(counts: BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(code, count)| (code.to_owned(), count)).collect()
}

fn encode_sums(sums: &Sums, beside: Beside) -> proto::Tally {
    proto::Tally {
        hits: sums.latency.count(),
        misses: sums.misses,
        passthrough: sums.passed,
        errors: beside.errors,
        borrowed: beside.borrowed,
        latency: Some(encode_histogram(&sums.latency)),
        request_bytes: beside.heard,
        response_bytes: beside.sent,
    }
}

fn encode_histogram(histogram: &Histogram) -> proto::Histogram {
    let steps = histogram.steps().iter();
    let (steps, counts) =
        steps.map(|(step, count)| (u32::try_from(*step).unwrap_or(u32::MAX), *count)).unzip();
    proto::Histogram { steps, counts, sum: histogram.sum(), max: histogram.max() }
}

fn encode_endpoint((endpoint, sums): (Endpoint, Sums)) -> proto::EndpointTally {
    let (statuses, status_counts) = sums.statuses.iter().unzip();
    proto::EndpointTally {
        tally: Some(encode_sums(&sums, Beside::default())),
        method: endpoint.method,
        host: endpoint.host,
        path: endpoint.path,
        recorded_pairs: endpoint.pairs,
        statuses,
        status_counts,
    }
}

fn encode_group(group: Group) -> proto::NearMissTally {
    let differing = group.differing.into_iter().map(|it| proto::Difference {
        key: it.key,
        recorded: it.recorded,
        presented: it.presented,
    });
    proto::NearMissTally {
        method: group.method,
        path: group.path,
        differing: differing.collect(),
        count: group.count,
        first_nanos: group.first,
        last_nanos: group.last,
    }
}

fn encode_step(step: &Step) -> proto::StepTally {
    proto::StepTally {
        start_seconds: step.start,
        hits: step.latency.count(),
        misses: step.misses,
        passthrough: step.passed,
        latency: Some(encode_histogram(&step.latency)),
    }
}
