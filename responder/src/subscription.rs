//! The stream from the control plane: says hello, acknowledges each delta once, and reports when what takes longer is done.
//!
//! The stream is read all the time, also while something is fetched. When it ends it is opened again, later each time; what is served
//! goes on meanwhile. Absence never withdraws a replay, only a tombstone does.

pub(crate) mod apply;
mod status;
mod work;

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use countersign_engine::snapshot::wire;
use countersign_proto::discovery::v1::{
    self as proto, AssignmentPhase, Delta, Heartbeat, Hello, SubscribeRequest, Welcome,
    chunk_service_client::ChunkServiceClient, discovery_service_client::DiscoveryServiceClient,
    subscribe_request::Message as Say, subscribe_response::Message as Said,
};
use countersign_tls::bearer::BearerError;
use tokio::{
    sync::mpsc,
    task::JoinError,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    control_plane::Way,
    fetch::{FetchError, Remote, SCHEMA},
    metrics::Metrics,
    readiness::{Readiness, Source},
    sequence::Sequences,
    snapshots::{Assignment, Phase},
};
use apply::{Applier, Position, chain};
use status::Teller;
use work::Work;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to `Hello` may take; the server itself may wait two seconds until it is fresh enough.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pings on an idle connection; more often than every minute annoys middleboxes.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A stream is silent for too long after so many heartbeats.
const MISSED_HEARTBEATS: u32 = 3;
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);
const FETCH_ATTEMPTS: u32 = 3;
/// The most replays that a responder may be told of.
const REPLAYS: usize = 10_000;
/// So many heartbeats in a row may expect another state than there is.
const MISMATCHES: u32 = 2;
const MAX_MESSAGE: usize = 1024 * 1024;
const MIB: u32 = 1024 * 1024;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the control plane cannot be reached")]
    Connect(#[source] tonic::transport::Error),
    #[error("the token cannot be shown to the control plane")]
    Token(#[source] BearerError),
    #[error("the control plane ended the subscription")]
    Status(#[source] Box<Status>),
    #[error("the control plane closed the subscription")]
    Closed,
    #[error("the control plane was silent for {0:?}")]
    Silent(Duration),
    #[error("the control plane does not follow the protocol: {0}")]
    Protocol(&'static str),
    #[error("a bundle could not be fetched")]
    Fetch(#[source] FetchError),
    #[error("a bundle could not be carried out")]
    Task(#[source] JoinError),
    #[error("the control plane asked to come back in {0:?}")]
    GoAway(Duration),
    #[error("the control plane expects another state than there is")]
    Diverged,
}

/// A subscription, kept up for ever.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) control_plane: Way,
    pub(crate) responder: String,
    pub(crate) data_address: String,
    pub(crate) applier: Arc<Applier>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) position: Position,
    pub(crate) sequences: Arc<Sequences>,
    pub(crate) session_id: String,
    /// How often it failed in a row.
    pub(crate) failures: u32,
}

/// An open stream.
struct Session {
    inbound: Streaming<proto::SubscribeResponse>,
    outbound: mpsc::Sender<SubscribeRequest>,
    remote: Remote,
    silence: Duration,
    store_uid: String,
}

impl Subscription {
    /// Keeps the subscription up.
    pub(crate) async fn run(mut self) {
        let mut last = String::new();
        loop {
            let Err(ended) = self.session().await;
            let reason = chain(&ended);
            self.readiness.note(|flags| {
                flags.connected = false;
                flags.problem = Some(reason.clone());
            });
            self.metrics.subscribed.set(0);
            // Retries go on for hours; only what changes is worth a line.
            if reason != last {
                tracing::warn!(control_plane = %self.control_plane, reason, "subscription ended; what is served goes on");
                last = reason;
            }
            sleep(self.pause(&ended)).await;
        }
    }

    /// How long to wait: a random part of a time that doubles, or what the control plane asked for.
    fn pause(&mut self, ended: &Ended) -> Duration {
        let ceiling = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        match ended {
            Ended::GoAway(wait) => wait.saturating_add(jitter(Duration::from_secs(1))),
            _ => jitter(ceiling),
        }
    }

    async fn session(&mut self) -> Result<Infallible, Ended> {
        let session = self.open().await?;
        self.readiness.note(|flags| {
            flags.connected = true;
            flags.problem = None;
        });
        self.metrics.subscribed.set(1);
        tracing::info!(control_plane = %self.control_plane, "subscribed");
        self.follow(session).await
    }

    /// Connects and says hello.
    async fn open(&self) -> Result<Session, Ended> {
        let way = &self.control_plane;
        let reading = tokio::task::spawn_blocking({
            let way = way.clone();
            move || way.bearer()
        });
        let bearer = reading.await.map_err(Ended::Task)?.map_err(Ended::Token)?;
        let endpoint = way
            .endpoint()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_while_idle(true);
        let subscribing = endpoint.clone().initial_connection_window_size(MIB);
        let discovery = way.connect(&subscribing).await.map_err(Ended::Connect)?;
        // Chunks get a connection of their own: bulk that is not read must not hold up the subscription.
        let fetching =
            endpoint.initial_stream_window_size(4 * MIB).initial_connection_window_size(8 * MIB);
        let bulk = way.connect_lazy(&fetching);
        let (outbound, requests) = mpsc::channel(4);
        say(&outbound, Say::Hello(self.hello())).await?;
        let mut client = DiscoveryServiceClient::with_interceptor(discovery, bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE);
        let answer = async {
            let mut inbound = client.subscribe(ReceiverStream::new(requests)).await?.into_inner();
            let first = inbound.message().await?;
            Ok((inbound, first))
        };
        let (inbound, first) = timeout(WELCOME_TIMEOUT, answer)
            .await
            .map_err(|_| Ended::Silent(WELCOME_TIMEOUT))?
            .map_err(ended)?;
        let welcome = match first.ok_or(Ended::Closed)?.message {
            Some(Said::Welcome(welcome)) => welcome,
            Some(Said::GoAway(go_away)) => {
                return Err(Ended::GoAway(duration(go_away.retry_after)));
            }
            _ => return Err(Ended::Protocol("the first message was no `Welcome`")),
        };
        let remote = ChunkServiceClient::with_interceptor(bulk, bearer)
            .max_decoding_message_size(MAX_MESSAGE);
        Ok(Session {
            inbound,
            outbound,
            remote,
            silence: silence(&welcome),
            store_uid: welcome.store_uid,
        })
    }

    fn hello(&self) -> Hello {
        let table = self.applier.snapshots.load();
        let held = |assignment: &Assignment, phase: AssignmentPhase| proto::HeldAssignment {
            name: assignment.name.clone(),
            bundle: Some(wire::encode_digest(&assignment.bundle)),
            generation: assignment.generation,
            phase: phase.into(),
        };
        let active = table.replays.iter().map(|it| held(&it.assignment, AssignmentPhase::Activate));
        let prepared =
            table.prepared.values().map(|it| held(&it.assignment, AssignmentPhase::Prepare));
        Hello {
            responder: self.responder.clone(),
            session_id: self.session_id.clone(),
            store_uid: self.position.store_uid.clone(),
            last_revision: self.position.revision,
            held: active.chain(prepared).collect(),
            selectors: self.applier.selectors.clone(),
            data_address: self.data_address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_schema: SCHEMA,
            project: self.applier.project.clone(),
        }
    }

    /// Reads the stream until it ends.
    async fn follow(&mut self, mut session: Session) -> Result<Infallible, Ended> {
        if session.store_uid != self.position.store_uid {
            // Another store, or one restored from a backup, counts anew.
            self.applier.snapshots.forget_revisions();
            if !self.position.store_uid.is_empty() {
                self.sequences.forget_epochs();
            }
            self.position = Position { store_uid: session.store_uid.clone(), revision: 0 };
        }
        self.applier.snapshots.hear_anew();
        let mut secrets = self.applier.secrets.subscribe();
        secrets.mark_unchanged();
        let mut sharing = self.sequences.subscribe();
        let mut report_at = None;
        let mut reported = Instant::now();
        let mut work = Work::default();
        let mut mismatches = 0;
        let mut deadline = Instant::now() + session.silence;
        loop {
            work.go_on(&self.applier, &session.remote);
            tokio::select! {
                message = timeout_at(deadline, session.inbound.message()) => {
                    let message = message.map_err(|_| Ended::Silent(session.silence))?.map_err(ended)?.ok_or(Ended::Closed)?;
                    deadline = Instant::now() + session.silence;
                    // Only now is the session worth more than a greeting; one that ends right after it has to wait longer each time.
                    self.failures = 0;
                    self.metrics.hear();
                    match message.message {
                        Some(Said::Delta(delta)) => self.take(&session, &mut work, delta).await?,
                        Some(Said::Heartbeat(beat)) => {
                            mismatches = if self.agrees(&beat, &work) { 0 } else { mismatches + 1 };
                            if mismatches >= MISMATCHES {
                                self.metrics.resyncs.inc();
                                return Err(Ended::Diverged);
                            }
                        }
                        Some(Said::Members(members)) => self.sequences.hear(&members),
                        Some(Said::GoAway(go_away)) => return Err(Ended::GoAway(duration(go_away.retry_after))),
                        Some(Said::Welcome(_)) => return Err(Ended::Protocol("a second `Welcome`")),
                        None => tracing::debug!("message of an unknown kind left aside; the control plane may be newer"),
                    }
                }
                done = work.done() => self.done(&session, &work, &done?).await?,
                // The sender lives as long as the applier.
                _ = secrets.changed() => report_at = report_at.or(Some(reported + REPORT_INTERVAL)),
                // It lives as long as this does, too.
                _ = sharing.changed() => self.report_sharing(&session).await?,
                () = due(report_at) => {
                    report_at = None;
                    reported = Instant::now();
                    self.report(&session).await?;
                }
            }
        }
    }

    /// Carries out what takes no time, and acknowledges all of it.
    async fn take(
        &mut self,
        session: &Session,
        work: &mut Work,
        delta: Delta,
    ) -> Result<(), Ended> {
        for tombstone in &delta.removed {
            match tombstone.prepared_generation {
                0 => self.applier.withdraw(&tombstone.name, tombstone.revision).await,
                generation => self.applier.unprepare(&tombstone.name, generation).await,
            }
        }
        for announced in &delta.upserted {
            let Some(assignment) = decode(announced, delta.revision) else { continue };
            let phase = match announced.phase() {
                AssignmentPhase::Prepare => Phase::Prepare,
                AssignmentPhase::Unspecified | AssignmentPhase::Activate => Phase::Activate,
            };
            if self.applier.hear(&assignment, phase).await {
                work.add(assignment);
            }
        }
        self.position.revision = self.position.revision.max(delta.revision);
        let outcomes = {
            let table = self.applier.snapshots.load_full();
            if table.targets.len() > REPLAYS {
                return Err(Ended::Protocol("it announces more replays than a responder may hold"));
            }
            work.revise(&table);
            let teller = self.teller(&table);
            delta.upserted.iter().map(|announced| teller.outcome(announced)).collect()
        };
        say(&session.outbound, Say::Ack(proto::Ack { nonce: delta.nonce, outcomes })).await?;
        if delta.initial_sync_complete {
            self.readiness.known(Source::ControlPlane);
        }
        self.applier.settle(self.position.clone(), work.is_idle()).await;
        Ok(())
    }

    /// Tells that a version is prepared, served or refused.
    async fn done(
        &self,
        session: &Session,
        work: &Work,
        assignment: &Assignment,
    ) -> Result<(), Ended> {
        let outcomes = {
            let table = self.applier.snapshots.load_full();
            vec![self.teller(&table).outcome(&encode(assignment))]
        };
        say(&session.outbound, Say::Status(proto::StatusReport { outcomes })).await?;
        self.applier.settle(self.position.clone(), work.is_idle()).await;
        Ok(())
    }

    /// Whether the control plane believes of this responder what is so; a heartbeat that says nothing of that agrees.
    fn agrees(&self, beat: &Heartbeat, work: &Work) -> bool {
        let table = self.applier.snapshots.load_full();
        let expected = &beat.expected_state_digest[..];
        expected.is_empty() || expected == table.state_digest(|wanted| work.contains(wanted))
    }

    async fn report(&self, session: &Session) -> Result<(), Ended> {
        let outcomes = {
            let table = self.applier.snapshots.load_full();
            self.teller(&table).signing()
        };
        if outcomes.is_empty() {
            return Ok(());
        }
        say(&session.outbound, Say::Status(proto::StatusReport { outcomes })).await
    }

    /// Tells that this responder shares turns no more.
    async fn report_sharing(&self, session: &Session) -> Result<(), Ended> {
        let outcomes: Vec<_> = {
            let table = self.applier.snapshots.load_full();
            self.teller(&table).sharing()
        };
        if outcomes.is_empty() {
            return Ok(());
        }
        say(&session.outbound, Say::Status(proto::StatusReport { outcomes })).await
    }

    fn teller<'a>(&'a self, table: &'a crate::snapshots::Table) -> Teller<'a> {
        let (responder, sequences) = (&*self.responder, &*self.sequences);
        Teller { responder, table, secrets: &self.applier.secrets, sequences }
    }
}

async fn say(outbound: &mpsc::Sender<SubscribeRequest>, message: Say) -> Result<(), Ended> {
    let sent =
        timeout(SEND_TIMEOUT, outbound.send(SubscribeRequest { message: Some(message) })).await;
    sent.map_err(|_| Ended::Silent(SEND_TIMEOUT))?.map_err(|_| Ended::Closed)
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// An assignment in our own terms; `None` when it has no readable digest.
fn decode(announced: &proto::Assignment, revision: u64) -> Option<Assignment> {
    Some(Assignment {
        name: announced.name.clone(),
        bundle: wire::decode_digest(announced.bundle.as_ref()?).ok()?,
        generation: announced.generation,
        start_time: announced
            .start_time
            .and_then(|time| wire::nanos(time).ok())
            .unwrap_or_default(),
        revision,
    })
}

fn encode(assignment: &Assignment) -> proto::Assignment {
    proto::Assignment {
        name: assignment.name.clone(),
        bundle: Some(wire::encode_digest(&assignment.bundle)),
        generation: assignment.generation,
        ..proto::Assignment::default()
    }
}

fn ended(status: Status) -> Ended {
    Ended::Status(Box::new(status))
}

fn silence(welcome: &Welcome) -> Duration {
    duration(welcome.heartbeat_interval).saturating_mul(MISSED_HEARTBEATS).max(SHORTEST_SILENCE)
}

fn duration(of: Option<prost_types::Duration>) -> Duration {
    of.and_then(|of| Duration::try_from(of).ok()).unwrap_or_default()
}

/// A random time up to this one.
fn jitter(ceiling: Duration) -> Duration {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(high.checked_rem(nanos.saturating_add(1)).unwrap_or_default())
}
