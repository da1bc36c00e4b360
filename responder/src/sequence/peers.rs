//! Connections to other responders: kept open, with several requests for turns in one call.
//!
//! Each peer has a lane, in which one call is under way at a time. What is asked for meanwhile goes into the next one: the longer a call
//! takes, the more it carries. With certificates, a peer has to show that it is a responder of the same project.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_engine::turns::ListId;
use countersign_proto::responder::v1::{
    Advance, AdvanceCursorsRequest, AdvanceCursorsResponse, ExportCursorsRequest, Refusal,
    ResetCursorsRequest, sequence_service_client::SequenceServiceClient,
};
use countersign_tls::client::ClientTls;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::{
    ConnectError, Status,
    transport::{Channel, Endpoint, Error},
};

use super::{
    register::{Export, Refused, Step, Taken, Told},
    view::{Peer, View, owners},
};

/// How long a call may take, the hand-over at its other end included.
pub(super) const CALL: Duration = Duration::from_millis(1500);
/// How long a hand-over may take.
pub(super) const HAND_OVER: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_millis(500);
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// So many requests for turns go into one call.
const TOGETHER: usize = 1024;
/// So many may wait.
const WAITING: usize = 8192;
/// A lane that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// So many lists are handed over in one message.
pub(super) const PART: usize = 4096;

/// Why a peer gave no turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTurns {
    /// It refused, and knows this epoch.
    Refused(u64),
    /// It was not reached, so that it gave none.
    Unreached,
    /// It may have given some that did not arrive.
    Unanswered,
}

/// The lanes of this node.
#[derive(Debug)]
pub(super) struct Peers {
    lanes: Mutex<HashMap<Arc<str>, mpsc::Sender<Ask>>>,
    handle: Handle,
    tls: Option<Arc<ClientTls>>,
}

/// Somebody who waits for turns.
struct Ask {
    replay: Arc<str>,
    epoch: u64,
    list: ListId,
    step: Step,
    answer: oneshot::Sender<Result<Taken, NoTurns>>,
}

/// The one place where connections to peers are described.
fn endpoint(scheme: &str, address: &str) -> Result<Endpoint, Error> {
    Ok(Endpoint::from_shared(format!("{scheme}://{address}"))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(CALL))
}

impl Peers {
    pub(super) fn new(handle: Handle, tls: Option<Arc<ClientTls>>) -> Self {
        Self { lanes: Mutex::default(), handle, tls }
    }

    fn client(&self, peer: &Peer) -> Result<SequenceServiceClient<Channel>, Error> {
        let channel = match &self.tls {
            Some(tls) => {
                endpoint("https", &peer.address)?.connect_with_connector_lazy(tls.connector())
            }
            None => endpoint("http", &peer.address)?.connect_lazy(),
        };
        Ok(SequenceServiceClient::new(channel))
    }

    /// Takes turns of a list that this peer owns.
    pub(super) async fn advance(
        &self,
        peer: &Peer,
        (replay, epoch): (&Arc<str>, u64),
        (list, step): (ListId, Step),
    ) -> Result<Taken, NoTurns> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { replay: Arc::clone(replay), epoch, list, step, answer };
        let lane = self.lane(peer).ok_or(NoTurns::Unreached)?;
        lane.send(ask).await.map_err(|_| NoTurns::Unreached)?;
        answered.await.unwrap_or(Err(NoTurns::Unanswered))
    }

    fn lane(&self, peer: &Peer) -> Option<mpsc::Sender<Ask>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&peer.session).filter(|lane| !lane.is_closed()) {
            return Some(lane.clone());
        }
        lanes.retain(|_, lane| !lane.is_closed());
        // The connection is made on the runtime of the lane.
        let _entered = self.handle.enter();
        let client = self.client(peer).ok()?;
        let (sender, asks) = mpsc::channel(WAITING);
        lanes.insert(Arc::clone(&peer.session), sender.clone());
        self.handle.spawn(run(client, peer.session.to_string(), asks));
        Some(sender)
    }

    /// Asks everybody who owned lists before for what this node owns now. All that does not come in time is `None`.
    pub(super) async fn hand_over(
        &self,
        replay: &str,
        own: &str,
        view: &View,
        others: Vec<Peer>,
    ) -> Vec<(Arc<str>, Option<Export>)> {
        let names: Vec<String> = owners(&view.members).map(|peer| peer.name.to_string()).collect();
        let ask = |peer: Peer| {
            let request = ExportCursorsRequest {
                replay: replay.to_owned(),
                epoch: view.epoch,
                owners: names.clone(),
                owner: own.to_owned(),
                session_id: peer.session.to_string(),
            };
            let client = self.client(&peer);
            async move {
                let answer = match timeout(HAND_OVER, export(client, request)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(status)) => {
                        tracing::debug!(peer = &*peer.name, %status, "turns are not handed over");
                        None
                    }
                    Err(_) => None,
                };
                (peer.session, answer)
            }
        };
        futures_util::future::join_all(others.into_iter().map(ask)).await
    }

    /// Has a peer begin lists anew, all of the replay when none is named.
    pub(super) async fn reset(
        &self,
        peer: &Peer,
        replay: &str,
        lists: &[ListId],
    ) -> Result<(), Status> {
        let mut client = self.client(peer).map_err(|error| Status::from_error(Box::new(error)))?;
        let parts: Vec<&[ListId]> =
            if lists.is_empty() { vec![lists] } else { lists.chunks(PART).collect() };
        for part in parts {
            let request = ResetCursorsRequest {
                replay: replay.to_owned(),
                session_id: peer.session.to_string(),
                lists: part.iter().map(|list| list.as_bytes().to_vec().into()).collect(),
            };
            let call = timeout(CALL, client.reset_cursors(request)).await;
            drop(call.map_err(|_| Status::deadline_exceeded("no answer"))??);
        }
        Ok(())
    }
}

async fn export(
    client: Result<SequenceServiceClient<Channel>, Error>,
    request: ExportCursorsRequest,
) -> Result<Option<Export>, Status> {
    let mut client = client.map_err(|error| Status::from_error(Box::new(error)))?;
    let mut parts = client.export_cursors(request).await?.into_inner();
    let Some(first) = parts.message().await? else { return Ok(None) };
    if first.refusal() != Refusal::Unspecified {
        return Ok(None);
    }
    let mut export = Export {
        settled_epoch: first.settled_epoch,
        complete: first.complete,
        cursors: Vec::new(),
    };
    let mut part = Some(first);
    while let Some(now) = part {
        export.cursors.extend(now.cursors.iter().filter_map(|cursor| {
            let list = ListId::from_bytes(&cursor.list)?;
            Some(Told { list, term: cursor.term, taken: cursor.taken, sure: cursor.sure })
        }));
        part = parts.message().await?;
    }
    Ok(Some(export))
}

async fn run(
    mut client: SequenceServiceClient<Channel>,
    session: String,
    mut asks: mpsc::Receiver<Ask>,
) {
    loop {
        let mut together = Vec::new();
        match timeout(IDLE, asks.recv_many(&mut together, TOGETHER)).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => {
                // What was sent before that is still answered.
                asks.close();
                continue;
            }
        }
        // Whoever has given up waits for nothing.
        together.retain(|ask| !ask.answer.is_closed());
        let mut calls: BTreeMap<(Arc<str>, u64), Vec<Ask>> = BTreeMap::new();
        for ask in together {
            calls.entry((Arc::clone(&ask.replay), ask.epoch)).or_default().push(ask);
        }
        for ((replay, epoch), asks) in calls {
            call(&mut client, &session, (&replay, epoch), asks).await;
        }
    }
}

/// Takes turns for all who wait for some of the same replay.
async fn call(
    client: &mut SequenceServiceClient<Channel>,
    session: &str,
    (replay, epoch): (&str, u64),
    asks: Vec<Ask>,
) {
    // All who take turns of a list take them together; all who put it to the same place do so once.
    let mut lists: BTreeMap<(ListId, Option<u64>), Vec<Ask>> = BTreeMap::new();
    for ask in asks {
        lists.entry((ask.list, ask.step.put())).or_default().push(ask);
    }
    let count = |asks: &Vec<Ask>| asks.iter().map(|ask| ask.step.count()).sum();
    let advances = lists.iter().map(|((list, put), asks)| Advance {
        list: list.as_bytes().to_vec().into(),
        count: count(asks),
        put: *put,
    });
    let request = AdvanceCursorsRequest {
        replay: replay.to_owned(),
        epoch,
        session_id: session.to_owned(),
        advances: advances.collect(),
    };
    let answer = match timeout(CALL, client.advance_cursors(request)).await {
        Ok(Ok(answer)) => judge(answer.get_ref(), lists.len()),
        Ok(Err(status)) if is_unreached(&status) => Err(NoTurns::Unreached),
        Ok(Err(_)) | Err(_) => Err(NoTurns::Unanswered),
    };
    let mut taken = answer.as_ref().map(|taken| taken.iter().copied()).ok();
    for asks in lists.into_values() {
        let mut of_list = taken.as_mut().and_then(Iterator::next);
        for ask in asks {
            let one = match (&mut of_list, &answer) {
                (Some(taken), _) => {
                    let one = *taken;
                    taken.first = taken.first.saturating_add(ask.step.count());
                    Ok(one)
                }
                (None, Err(why)) => Err(*why),
                (None, Ok(_)) => Err(NoTurns::Unanswered),
            };
            if ask.answer.send(one).is_err() {
                tracing::trace!("whoever asked for a turn has given up, and has noted that");
            }
        }
    }
}

fn judge(answer: &AdvanceCursorsResponse, wanted: usize) -> Result<Vec<Taken>, NoTurns> {
    if answer.refusal() != Refusal::Unspecified {
        return Err(NoTurns::Refused(answer.epoch));
    }
    if answer.taken.len() != wanted {
        return Err(NoTurns::Unanswered);
    }
    let taken = |taken: &countersign_proto::responder::v1::Taken| Taken {
        first: taken.first,
        term: taken.term,
        breaks: false,
    };
    Ok(answer.taken.iter().map(taken).collect())
}

/// Whether a call failed before anything of it was sent.
fn is_unreached(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The reason on the wire.
pub(super) fn encode(refused: Refused) -> Refusal {
    match refused {
        Refused::Stale(_) => Refusal::StaleEpoch,
        Refused::NotOwner => Refusal::NotOwner,
        Refused::NotSettled => Refusal::NotSettled,
    }
}
