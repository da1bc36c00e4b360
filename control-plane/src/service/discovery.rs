//! Subscriptions: what is announced goes out, what responders made of it comes in.
//!
//! Inbound messages are drained in their own task that waits for nothing else: unread frames would in the end break the connection.

pub(crate) mod members;
mod session;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use countersign_engine::snapshot::wire::timestamp;
use countersign_proto::discovery::v1::{
    Delta, GoAway, Heartbeat, Hello, Outcome, SubscribeRequest, SubscribeResponse, Welcome,
    discovery_service_server::DiscoveryService, subscribe_request::Message as Said,
    subscribe_response::Message as Say,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Plane, Problem, name, wire};
use crate::auth::rights::Principal;
use crate::{
    content::SCHEMA,
    fleet::{self, wants},
    publish::Table,
    store::now,
};
use session::Session;

/// A responder that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// A responder may hold and select so many replays.
const HELLO_LIMIT: usize = 10_000;

type Answers = mpsc::Sender<Result<SubscribeResponse, Status>>;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Discovery {
    pub(crate) plane: Arc<Plane>,
}

#[tonic::async_trait]
impl DiscoveryService for Discovery {
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let plane = Arc::clone(&self.plane);
        let who = request.extensions().get::<Arc<Principal>>().cloned();
        tokio::spawn(async move {
            if let Err(status) = subscribe(plane, who, request.into_inner(), &sender).await {
                // The responder may be gone; then nobody is left to tell.
                drop(timeout(SEND_TIMEOUT, sender.send(Err(status))).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn subscribe(
    plane: Arc<Plane>,
    who: Option<Arc<Principal>>,
    mut inbound: Streaming<SubscribeRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let hello =
        timeout(plane.timing.hello, inbound.message()).await.map_err(|_| Problem::Protocol {
            code: Code::DeadlineExceeded,
            reason: "HELLO_LATE",
            message: "the first message has to be a `Hello`, and it did not come in time"
                .to_owned(),
        })??;
    let Some(Said::Hello(hello)) = hello.and_then(|request| request.message) else {
        return Err(protocol("HELLO_MISSING", "the first message has to be a `Hello`").into());
    };
    check(&hello)?;
    who.map_or(Ok(()), |who| who.may_be(&hello))?;
    let _place = plane.open.subscribe(&hello.project)?;
    let mut table = plane.publisher.subscribe();
    if hello.store_uid == plane.meta.identity() {
        let fresh = async {
            if table.borrow_and_update().revision < hello.last_revision {
                // Another control plane told it more than this one has heard of. If the store does not answer, this one may yet hear of it.
                drop(plane.meta.refresh().await);
            }
            drop(table.wait_for(|table| table.revision >= hello.last_revision).await);
        };
        if timeout(plane.timing.floor, fresh).await.is_err() {
            let message = format!(
                "this control plane has not yet seen revision {}; ask again",
                hello.last_revision
            );
            return Err(Problem::Unavailable { reason: "BEHIND", message }.into());
        }
    }
    tracing::info!(
        responder = hello.responder,
        project = hello.project,
        held = hello.held.len(),
        "responder subscribed"
    );
    let (entry, is_shared) = plane.fleet.connect(responder(&hello), &hello.session_id);
    if is_shared {
        tracing::warn!(
            responder = hello.responder,
            data_address = hello.data_address,
            "another process of this name is connected; names have to be unique in the fleet, and only this one counts from now on"
        );
    }
    let shared = Arc::new(Shared {
        session: Mutex::new(Session::new(&hello)),
        acknowledged: Notify::new(),
        entry,
        plane: Arc::clone(&plane),
    });
    let drain = tokio::spawn(Arc::clone(&shared).drain(inbound));
    let ended = Stream { shared: Arc::clone(&shared), answers }.run(drain).await;
    plane.fleet.disconnect(&shared.entry);
    tracing::info!(
        responder = hello.responder,
        error = ended.as_ref().err().map(tracing::field::display),
        "responder left"
    );
    ended
}

fn check(hello: &Hello) -> Result<(), Problem> {
    name::project("hello.project", &hello.project)?;
    if hello.responder.is_empty() || hello.responder.len() > 253 {
        return Err(Problem::field(
            "hello.responder",
            "INVALID_RESPONDER",
            "a responder's name has 1 to 253 bytes",
        ));
    }
    // Of each it may hold what it serves and what it has prepared.
    if hello.held.len() > 2 * HELLO_LIMIT || hello.selectors.len() > HELLO_LIMIT {
        return Err(Problem::field(
            "hello",
            "TOO_MANY",
            format!("a responder may hold and select {HELLO_LIMIT} replays"),
        ));
    }
    // What it holds is withdrawn or shared by name, so that a foreign name would be told of another project's responders.
    let of_project = |name: &str| wants(&hello.project, &[], name);
    if let Some(foreign) = hello.held.iter().position(|held| !of_project(&held.name)) {
        return Err(Problem::field(
            format!("hello.held[{foreign}].name"),
            "WRONG_PROJECT",
            format!("a responder of {} holds replays of it only", hello.project),
        ));
    }
    if hello.max_schema < SCHEMA {
        return Err(Problem::State {
            reason: "SCHEMA_TOO_OLD",
            subject: hello.responder.clone(),
            message: format!(
                "bundles of control plane {} have layout {SCHEMA}, responder {} reads layouts up to {}; upgrade it",
                env!("CARGO_PKG_VERSION"),
                said(&hello.version),
                hello.max_schema
            ),
        });
    }
    Ok(())
}

/// A version as a responder says it, which may be anything.
fn said(version: &str) -> String {
    let known = version.chars().filter(|c| c.is_ascii_graphic()).take(40).collect::<String>();
    if known.is_empty() { "of no version".to_owned() } else { known }
}

fn responder(hello: &Hello) -> fleet::Responder {
    fleet::Responder {
        project: hello.project.clone(),
        name: hello.responder.clone(),
        connected: true,
        data_address: hello.data_address.clone(),
        version: hello.version.clone(),
        connect_time: now(),
        leave_time: 0,
        others: 0,
        selectors: hello.selectors.clone(),
        replays: BTreeMap::new(),
    }
}

fn protocol(reason: &'static str, message: &str) -> Problem {
    Problem::Protocol { code: Code::InvalidArgument, reason, message: message.to_owned() }
}

/// What both directions of a subscription share.
struct Shared {
    session: Mutex<Session>,
    acknowledged: Notify,
    entry: fleet::Session,
    plane: Arc<Plane>,
}

impl Shared {
    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drain(
        self: Arc<Self>,
        mut inbound: Streaming<SubscribeRequest>,
    ) -> Result<(), Status> {
        while let Some(request) = inbound.message().await? {
            match request.message {
                Some(Said::Ack(ack)) => {
                    self.outcomes(ack.outcomes);
                    self.session().acknowledge(ack.nonce);
                    self.acknowledged.notify_one();
                }
                Some(Said::Status(status)) => self.outcomes(status.outcomes),
                Some(Said::Hello(_)) => {
                    return Err(
                        protocol("HELLO_AGAIN", "only the first message may be a `Hello`").into()
                    );
                }
                None => {
                    let message =
                        "this control plane does not know that kind of message".to_owned();
                    return Err(Problem::Protocol {
                        code: Code::Unimplemented,
                        reason: "UNKNOWN_MESSAGE",
                        message,
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    fn outcomes(&self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            let replay = outcome.name.clone();
            let outcome = wire::decode_outcome(outcome);
            let retries = self.plane.publisher.table().get(&replay).map(|told| told.retries);
            // What is not announced to it, it cannot report on.
            if self.session().heard(&replay, &outcome, retries.unwrap_or_default()) {
                self.plane.fleet.report(&self.entry, &replay, outcome);
            }
        }
    }
}

/// The outbound direction.
struct Stream<'a> {
    shared: Arc<Shared>,
    answers: &'a Answers,
}

impl Stream<'_> {
    async fn run(
        &self,
        mut drain: tokio::task::JoinHandle<Result<(), Status>>,
    ) -> Result<(), Status> {
        let sent = tokio::select! {
            // A responder that stops talking may still listen, but without acknowledgements it would hear nothing more.
            ended = &mut drain => return ended.unwrap_or(Ok(())),
            sent = self.send_all() => sent,
            () = self.answers.closed() => Ok(()),
        };
        drain.abort();
        sent
    }

    async fn send_all(&self) -> Result<(), Status> {
        let plane = &self.shared.plane;
        let mut table = plane.publisher.subscribe();
        let (mut agreed, mut told) = (plane.members.subscribe(), members::Told::default());
        let interval_length = plane.timing.heartbeat;
        let revision = table.borrow().revision;
        self.send(Say::Welcome(Welcome {
            store_uid: plane.meta.identity().to_owned(),
            revision,
            heartbeat_interval: interval_length.try_into().ok(),
        }))
        .await?;
        let mut heartbeat = interval(interval_length);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        loop {
            let now_announced = Arc::clone(&table.borrow_and_update());
            let delta = self.shared.session().next(&now_announced);
            self.repeat_refusals(&now_announced);
            if let Some(delta) = delta {
                self.deliver(delta).await?;
                continue;
            }
            let now_agreed = Arc::clone(&agreed.borrow_and_update());
            let news = {
                let session = self.shared.session();
                told.news(&now_agreed, |replay| session.knows(replay))
            };
            for members in news {
                self.send(Say::Members(members)).await?;
            }
            tokio::select! {
                // The publisher ends only when the process does.
                changed = table.changed() => if changed.is_err() { return self.go_away().await },
                () = self.shared.acknowledged.notified() => {}
                // They end with the publisher.
                _ = agreed.changed() => {}
                _ = heartbeat.tick() => {
                    if plane.fleet.is_left_over(&self.shared.entry) {
                        // Whoever had its name has gone; it counts again once it has come anew.
                        return self.go_away().await;
                    }
                    self.send(Say::Heartbeat(self.heartbeat(now_announced.revision))).await?;
                }
                () = plane.stopping.cancelled() => return self.go_away().await,
            }
        }
    }

    fn heartbeat(&self, revision: u64) -> Heartbeat {
        let digest = self.shared.session().state_digest();
        Heartbeat {
            server_time: Some(timestamp(now())),
            revision,
            expected_state_digest: digest.map_or_else(Bytes::new, |digest| digest.to_vec().into()),
        }
    }

    /// Whoever waits for this responder learns that the answer is known already.
    fn repeat_refusals(&self, table: &Table) {
        let Shared { plane, entry, .. } = &*self.shared;
        let refused = self.shared.session().refused(table);
        for (replay, outcome) in refused {
            self.shared.session().told_of(&replay, outcome.generation);
            plane.fleet.report(entry, &replay, outcome);
        }
    }

    async fn deliver(&self, delta: Delta) -> Result<(), Status> {
        let Shared { plane, entry, .. } = &*self.shared;
        for removed in &delta.removed {
            match removed.prepared_generation {
                0 => plane.fleet.withdraw(entry, &removed.name),
                generation => plane.fleet.forget(entry, &removed.name, generation),
            }
        }
        self.send(Say::Delta(delta)).await
    }

    async fn go_away(&self) -> Result<(), Status> {
        let retry_after = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        self.send(Say::GoAway(GoAway { retry_after })).await
    }

    async fn send(&self, message: Say) -> Result<(), Status> {
        let answer = Ok(SubscribeResponse { message: Some(message) });
        match timeout(SEND_TIMEOUT, self.answers.send(answer)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the responder is gone")),
            Err(_) => Err(Status::deadline_exceeded("the responder takes no messages")),
        }
    }
}
