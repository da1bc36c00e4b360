//! What peers ask of this node, on a listener of its own.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use countersign_engine::turns::ListId;
use countersign_proto::responder::v1::{
    self as proto, Advance, AdvanceCursorsRequest, AdvanceCursorsResponse, Cursor,
    ExportCursorsRequest, ExportCursorsResponse, Refusal, ResetCursorsRequest,
    ResetCursorsResponse,
    sequence_service_server::{SequenceService, SequenceServiceServer},
};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::Iter;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    Sequences,
    ledger::Ledger,
    peers::{self, HAND_OVER, PART},
    register::{Refused, Step},
    tls::PeerTls,
    view::Owners,
};
use crate::api::{connections::accept, problem::Problem};

/// The most connections at a time.
const CONNECTIONS: usize = 4096;
/// The most calls at a time on a connection.
const CALLS: u32 = 64;
/// A call may be about so many lists.
const LISTS: usize = 8192;
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// The listener.
#[derive(Debug)]
pub(crate) struct Running {
    addr: SocketAddr,
    stopping: CancellationToken,
    server: JoinHandle<()>,
    /// Reads the certificates again.
    following: Option<AbortHandle>,
}

/// Serves on this socket from now on.
pub(super) fn serve(
    listener: TcpListener,
    tls: Option<PeerTls>,
    sequences: Arc<Sequences>,
) -> io::Result<Running> {
    let addr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stopping = CancellationToken::new();
    let router = Server::builder()
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .add_service(SequenceServiceServer::new(Service { sequences }));
    let (ended, following) =
        (stopping.clone().cancelled_owned(), tls.as_ref().map(PeerTls::follow));
    let server = tokio::spawn(async move {
        let served = match tls {
            Some(tls) => {
                let incoming = Box::pin(tls.accept(listener, CONNECTIONS));
                router.serve_with_incoming_shutdown(incoming, ended).await
            }
            None => router.serve_with_incoming_shutdown(accept(listener, CONNECTIONS), ended).await,
        };
        if let Err(error) = served {
            tracing::error!(%error, "the listener for peers failed");
        }
    });
    Ok(Running { addr, stopping, server, following })
}

impl Running {
    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is spoken to over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.following.is_some()
    }

    /// Takes no more calls, and lets those in flight finish within this time.
    pub(crate) async fn end(mut self, limit: Duration) {
        self.stopping.cancel();
        if timeout(limit, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

/// The service.
#[derive(Debug)]
struct Service {
    sequences: Arc<Sequences>,
}

#[tonic::async_trait]
impl SequenceService for Service {
    type ExportCursorsStream = Iter<std::vec::IntoIter<Result<ExportCursorsResponse, Status>>>;

    async fn advance_cursors(
        &self,
        request: Request<AdvanceCursorsRequest>,
    ) -> Result<Response<AdvanceCursorsResponse>, Status> {
        let asked = request.into_inner();
        let lists = lists("advances", asked.advances.iter().map(|advance| &*advance.list))?;
        let refused = |refusal: Refusal, epoch| AdvanceCursorsResponse {
            taken: Vec::new(),
            refusal: refusal.into(),
            epoch,
        };
        let ledger = match self.ledger(&asked.session_id, &asked.replay) {
            Ok(ledger) => ledger,
            Err(refusal) => return Ok(Response::new(refused(refusal, 0))),
        };
        let step = |advance: &Advance| advance.put.map_or(Step::Take(advance.count), Step::Put);
        let wanted: Vec<(ListId, Step)> =
            lists.into_iter().zip(asked.advances.iter().map(step)).collect();
        let (taken, epoch) = take(&ledger, asked.epoch, &wanted).await;
        Ok(Response::new(match taken {
            Ok(taken) => {
                for ((list, _), taken) in wanted.iter().zip(&taken).filter(|(_, t)| t.breaks) {
                    self.sequences.note_lost(&ledger, *list, taken.first);
                }
                let taken = taken.iter().map(|t| proto::Taken { first: t.first, term: t.term });
                AdvanceCursorsResponse { taken: taken.collect(), refusal: 0, epoch }
            }
            Err(why) => refused(peers::encode(why), epoch),
        }))
    }

    async fn export_cursors(
        &self,
        request: Request<ExportCursorsRequest>,
    ) -> Result<Response<Self::ExportCursorsStream>, Status> {
        let asked = request.into_inner();
        let refused = |refusal: Refusal| ExportCursorsResponse {
            refusal: refusal.into(),
            ..ExportCursorsResponse::default()
        };
        let parts = match self.ledger(&asked.session_id, &asked.replay) {
            Ok(ledger) => {
                let owners = Owners::of(asked.owners);
                let export =
                    ledger.change(|register| register.export(asked.epoch, &owners, &asked.owner));
                match export {
                    Ok(export) => parts(&export),
                    Err(why) => vec![refused(peers::encode(why))],
                }
            }
            Err(refusal) => vec![refused(refusal)],
        };
        let parts: Vec<_> = parts.into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(parts)))
    }

    async fn reset_cursors(
        &self,
        request: Request<ResetCursorsRequest>,
    ) -> Result<Response<ResetCursorsResponse>, Status> {
        let asked = request.into_inner();
        let lists = lists("lists", asked.lists.iter().map(|list| &**list))?;
        let refusal = match self.ledger(&asked.session_id, &asked.replay) {
            Ok(ledger) => {
                ledger.change(|register| register.reset(&lists));
                Refusal::Unspecified
            }
            Err(refusal) => refusal,
        };
        Ok(Response::new(ResetCursorsResponse { refusal: refusal.into() }))
    }
}

impl Service {
    fn ledger(&self, session: &str, replay: &str) -> Result<Arc<Ledger>, Refusal> {
        if *session != *self.sequences.session {
            return Err(Refusal::WrongSession);
        }
        self.sequences.known(replay).ok_or(Refusal::NotOwner)
    }
}

fn lists<'l>(
    field: &'static str,
    lists: impl ExactSizeIterator<Item = &'l [u8]>,
) -> Result<Vec<ListId>, Problem> {
    if lists.len() > LISTS {
        return Err(Problem::field(field, "TOO_MANY", format!("there are {LISTS} at most")));
    }
    let known = lists.map(ListId::from_bytes).collect::<Option<Vec<_>>>();
    known.ok_or_else(|| Problem::field(field, "INVALID", "a list has 16 bytes"))
}

/// Takes turns once this node gives them out, if that is soon; and tells the epoch that it knows.
async fn take(
    ledger: &Ledger,
    epoch: u64,
    wanted: &[(ListId, Step)],
) -> (Result<Vec<super::register::Taken>, Refused>, u64) {
    let deadline = Instant::now() + HAND_OVER;
    let mut changes = ledger.subscribe();
    loop {
        changes.mark_unchanged();
        let (taken, known) = {
            let mut register = ledger.lock();
            (register.take(epoch, wanted), register.view().map_or(0, |view| view.epoch))
        };
        let may_come = match taken {
            Ok(_) | Err(Refused::Stale(_)) => false,
            // It was not told of the epoch yet.
            Err(Refused::NotOwner) => known < epoch,
            Err(Refused::NotSettled) => true,
        };
        if !may_come || timeout_at(deadline, changes.changed()).await.is_err() {
            return (taken, ledger.lock().epoch());
        }
    }
}

fn parts(export: &super::register::Export) -> Vec<ExportCursorsResponse> {
    let cursor = |told: &super::register::Told| Cursor {
        list: told.list.as_bytes().to_vec().into(),
        term: told.term,
        taken: told.taken,
        sure: told.sure,
    };
    let head = ExportCursorsResponse {
        refusal: Refusal::Unspecified.into(),
        settled_epoch: export.settled_epoch,
        complete: export.complete,
        cursors: Vec::new(),
    };
    let rest = export.cursors.chunks(PART).map(|part| ExportCursorsResponse {
        cursors: part.iter().map(cursor).collect(),
        ..ExportCursorsResponse::default()
    });
    std::iter::once(head).chain(rest).collect()
}
