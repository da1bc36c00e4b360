//! A simulated responder: subscribes on a connection of its own, acknowledges, answers for its bundles, and comes back when the session ends,
//! as late as a real one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use countersign_proto::{
    control::v1::{ResponderPhase, ResponderStatus},
    discovery::v1::{
        Ack, Assignment, AssignmentPhase, Delta, HeldAssignment, Hello, Outcome, SubscribeRequest,
        SubscribeResponse, subscribe_request::Message as Say, subscribe_response::Message as Said,
    },
    r#type::v1::Digest,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::{board::Board, stream::Call};

/// The project of all.
pub(crate) const PROJECT: &str = "projects/default";
const SUBSCRIBE: &str = "/countersign.discovery.v1.DiscoveryService/Subscribe";
/// As responders have them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const MISSED_HEARTBEATS: u32 = 3;
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);
/// Connections from one address; a port is taken for a while after its connection has gone.
const PER_ADDRESS: usize = 2_000;

/// What all of a swarm have in common.
pub(crate) struct Common {
    /// Where the control plane is.
    pub(crate) server: SocketAddr,
    /// The certificate that is shown, where TLS is spoken.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// How long it takes to make a bundle ready.
    pub(crate) prepare: Duration,
    pub(crate) board: Arc<Board>,
}

/// A simulated responder.
pub(crate) struct Client {
    number: usize,
    common: Arc<Common>,
    /// Told when it is to drop its session.
    leave: Arc<Notify>,
    store_uid: String,
    revision: u64,
    held: BTreeMap<String, Holding>,
    failures: u32,
}

/// What it holds of a replay.
#[derive(Default)]
struct Holding {
    active: Option<(Digest, u64)>,
    prepared: Option<(Digest, u64)>,
}

impl Holding {
    /// Whether it holds this bundle.
    fn has(&self, bundle: &Digest) -> bool {
        [&self.active, &self.prepared].into_iter().flatten().any(|(held, _)| held == bundle)
    }
}

/// How a session ended.
enum Ended {
    /// It was told to end.
    Left,
    /// The control plane asked to come back later.
    GoAway(Duration),
    /// It was lost.
    Lost(anyhow::Error),
}

impl Client {
    pub(crate) fn new(number: usize, common: Arc<Common>, leave: Arc<Notify>) -> Self {
        let (store_uid, held) = (String::new(), BTreeMap::new());
        Self { number, common, leave, store_uid, revision: 0, held, failures: 0 }
    }

    /// Keeps its subscription up for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let leave = Arc::clone(&self.leave);
            let ended = tokio::select! {
                Err(ended) = self.session() => ended,
                () = leave.notified() => Ended::Left,
            };
            let ceiling = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
            self.failures = self.failures.saturating_add(1);
            let (why, pause) = match ended {
                Ended::Left => (None, jitter(BACKOFF_MIN)),
                Ended::GoAway(wait) => (None, wait + jitter(Duration::from_secs(1))),
                Ended::Lost(why) => (Some(format!("{why:#}")), jitter(ceiling)),
            };
            self.common.board.left(self.number, why);
            sleep(pause).await;
        }
    }

    async fn session(&mut self) -> Result<std::convert::Infallible, Ended> {
        let (mut call, silence) = self.open().await.map_err(Ended::Lost)?;
        loop {
            let heard = timeout(silence, call.hear::<SubscribeResponse>()).await;
            let heard = heard.context("silence").and_then(|heard| heard).map_err(Ended::Lost)?;
            self.failures = 0;
            match heard.context("the end of the call").map_err(Ended::Lost)?.message {
                Some(Said::Delta(delta)) => {
                    self.carry_out(delta, &mut call).await.map_err(Ended::Lost)?;
                }
                Some(Said::GoAway(away)) => {
                    return Err(Ended::GoAway(duration(away.retry_after)));
                }
                Some(Said::Welcome(_)) => {
                    return Err(Ended::Lost(anyhow::anyhow!("a second welcome")));
                }
                Some(Said::Heartbeat(_) | Said::Members(_)) | None => {}
            }
        }
    }

    /// Connects, says hello, and waits for the welcome.
    async fn open(&mut self) -> anyhow::Result<(Call, Duration)> {
        let hello = SubscribeRequest { message: Some(Say::Hello(self.hello())) };
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let stream = connected.context("the connection takes too long")??;
        let subscribed = async {
            let mut call = match &self.common.tls {
                Some(tls) => {
                    let name = ServerName::from(self.common.server.ip());
                    let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
                    Call::open(secured.await?, SUBSCRIBE, &hello).await?
                }
                None => Call::open(stream, SUBSCRIBE, &hello).await?,
            };
            let first: Option<SubscribeResponse> = call.hear().await?;
            anyhow::Ok((call, first))
        };
        let (call, first) =
            timeout(WELCOME_TIMEOUT, subscribed).await.context("the welcome takes too long")??;
        let Some(Said::Welcome(welcome)) = first.and_then(|first| first.message) else {
            anyhow::bail!("the first message is no welcome");
        };
        if welcome.store_uid != self.store_uid {
            self.store_uid = welcome.store_uid;
            self.revision = 0;
        }
        let silence = duration(welcome.heartbeat_interval).saturating_mul(MISSED_HEARTBEATS);
        Ok((call, silence.max(SHORTEST_SILENCE)))
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = if let IpAddr::V4(server) = self.common.server.ip()
            && server.is_loopback()
        {
            let socket = TcpSocket::new_v4()?;
            let block = u8::try_from(2 + self.number / PER_ADDRESS).unwrap_or(2);
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, block), 0)))?;
            socket.connect(self.common.server).await?
        } else {
            TcpStream::connect(self.common.server).await?
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn hello(&self) -> Hello {
        let held = |(name, holding): (&String, &Holding)| {
            let phases = [
                (holding.active.clone(), AssignmentPhase::Activate),
                (holding.prepared.clone(), AssignmentPhase::Prepare),
            ];
            phases.map(|(held, phase)| {
                held.map(|(bundle, generation)| HeldAssignment {
                    name: name.clone(),
                    bundle: Some(bundle),
                    generation,
                    phase: phase.into(),
                })
            })
        };
        Hello {
            responder: format!("swarm-{:05}", self.number),
            session_id: self.number.to_string(),
            store_uid: self.store_uid.clone(),
            last_revision: self.revision,
            held: self.held.iter().flat_map(held).flatten().collect(),
            data_address: "127.0.0.1:1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_schema: u32::MAX,
            project: PROJECT.to_owned(),
            ..Hello::default()
        }
    }

    async fn carry_out(&mut self, delta: Delta, call: &mut Call) -> anyhow::Result<()> {
        self.revision = self.revision.max(delta.revision);
        let mut fetches = 0;
        let mut outcomes = Vec::with_capacity(delta.upserted.len());
        if !self.common.prepare.is_zero() && !delta.upserted.is_empty() {
            sleep(self.common.prepare).await;
        }
        for assignment in &delta.upserted {
            let bundle = assignment.bundle.clone().unwrap_or_default();
            let holding = self.held.entry(assignment.name.clone()).or_default();
            fetches += usize::from(!holding.has(&bundle));
            let held = Some((bundle, assignment.generation));
            if is_prepare(assignment) {
                holding.prepared = held;
            } else {
                (holding.active, holding.prepared) = (held, None);
            }
            outcomes.push(outcome(assignment));
        }
        for removed in &delta.removed {
            match self.held.get_mut(&removed.name) {
                Some(holding) if removed.prepared_generation > 0 => holding.prepared = None,
                _ => drop(self.held.remove(&removed.name)),
            }
        }
        let ack = Ack { nonce: delta.nonce, outcomes };
        call.say(&SubscribeRequest { message: Some(Say::Ack(ack)) })?;
        self.common.board.fetched(fetches);
        for assignment in &delta.upserted {
            let generation = assignment.generation;
            if is_prepare(assignment) {
                self.common.board.prepared(generation);
            } else {
                self.common.board.acknowledged(self.number, generation);
            }
        }
        if delta.initial_sync_complete {
            self.common.board.synced(self.number);
        }
        Ok(())
    }
}

fn is_prepare(assignment: &Assignment) -> bool {
    assignment.phase() == AssignmentPhase::Prepare
}

/// What became of an assignment: it is prepared or served.
fn outcome(assignment: &Assignment) -> Outcome {
    let prepared = is_prepare(assignment);
    let phase = if prepared { ResponderPhase::Prepared } else { ResponderPhase::Active };
    let status = ResponderStatus {
        phase: phase.into(),
        active_bundle: assignment.bundle.clone(),
        generation: assignment.generation,
        ..ResponderStatus::default()
    };
    Outcome {
        name: assignment.name.clone(),
        bundle: assignment.bundle.clone(),
        status: Some(status),
    }
}

fn duration(of: Option<prost_types::Duration>) -> Duration {
    of.and_then(|of| Duration::try_from(of).ok()).unwrap_or_default()
}

/// A random time up to this one.
pub(crate) fn jitter(ceiling: Duration) -> Duration {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(high.checked_rem(nanos.saturating_add(1)).unwrap_or_default())
}
