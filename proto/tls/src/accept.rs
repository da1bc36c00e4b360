//! Connections behind TLS, one after the other: handshakes are done beside each other, each in a bounded time, so many at once.
//!
//! A connection lives no longer than the certificate that it was opened with.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::forward_write;
use crate::{
    chain,
    describe::About,
    identity::{Identity, IdentityError, TrustDomain},
    places::{Places, network},
    plaintext,
    server::ServerTls,
};

/// Handshakes at a time, and those with one address, so that whoever begins them and is silent keeps nobody else waiting.
const HANDSHAKES: usize = 512;
const HANDSHAKES_EACH: usize = 128;
/// Connections that wait for their handshake, and those of one address; more are closed.
const HERE: usize = 16 * 1024;
const HERE_EACH: usize = HERE / 2;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, for want of files for example.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are through and wait to be taken.
const WAITING: usize = 64;
/// A timer does not reach further; certificates do.
const FURTHEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody who was not asked, or has shown nothing.
    Anonymous,
    /// Somebody with a good certificate.
    Known(Arc<Identity>),
    /// Somebody with a good certificate that names nobody who is known here.
    Unknown(Arc<IdentityError>),
}

/// A connection behind TLS.
#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    end: Option<Pin<Box<Sleep>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("it does not speak TLS")]
    Plaintext,
    #[error("it said nothing")]
    Silent,
    #[error("the handshake did not end in time")]
    TooSlow,
    #[error("the connection failed")]
    Broken(#[source] io::Error),
    #[error("the handshake failed")]
    Failed(#[source] io::Error),
}

impl Secured {
    /// From where the connection comes.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.stream.get_ref().0.peer_addr().ok()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Accepts connections until what is returned is dropped.
#[must_use]
pub fn accept(listener: TcpListener, tls: Arc<ServerTls>) -> ReceiverStream<io::Result<Secured>> {
    let (through, waiting) = mpsc::channel(WAITING);
    tokio::spawn(run(listener, tls, through));
    ReceiverStream::new(waiting)
}

async fn run(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    through: mpsc::Sender<io::Result<Secured>>,
) {
    let turns = Arc::new(Turns::new(HANDSHAKES, HANDSHAKES_EACH));
    let places = Places::new(HERE, HERE_EACH);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = through.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            tracing::debug!(%peer, "connection closed, too many from there wait already");
            continue;
        };
        let (tls, through, turns) = (Arc::clone(&tls), through.clone(), Arc::clone(&turns));
        tokio::spawn(async move {
            let Some(turn) = turns.take(peer.ip()).await else { return };
            let done = timeout(PATIENCE, handshake(stream, &tls)).await;
            drop((turn, place));
            match done.unwrap_or(Err(HandshakeError::TooSlow)) {
                // The server may be ending.
                Ok(secured) => drop(through.send(Ok(secured)).await),
                Err(error) => refused(peer, &error),
            }
        });
    }
}

/// Turns at handshakes.
#[derive(Debug)]
struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    networks: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

impl Turns {
    fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, networks: Mutex::default() }
    }

    /// Waits for a turn. Of each network no more wait for a common one than may have one.
    async fn take(&self, from: IpAddr) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = {
            let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            if networks.len() > HANDSHAKES {
                // Each turn, and whoever waits for one, holds on to its network's.
                networks.retain(|_, turns| Arc::strong_count(turns) > 1);
            }
            let own = networks.entry(network(from));
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
        };
        let own = own.acquire_owned().await.ok()?;
        Some([own, Arc::clone(&self.all).acquire_owned().await.ok()?])
    }
}

async fn handshake(stream: TcpStream, tls: &ServerTls) -> Result<Secured, HandshakeError> {
    stream.set_nodelay(true).map_err(HandshakeError::Broken)?;
    let mut first = [0; 4];
    let length = stream.peek(&mut first).await.map_err(HandshakeError::Broken)?;
    let first = first.get(..length).unwrap_or_default();
    if first.is_empty() {
        return Err(HandshakeError::Silent);
    }
    if !plaintext::is_tls(first) {
        plaintext::refuse(stream, first).await.map_err(HandshakeError::Broken)?;
        return Err(HandshakeError::Plaintext);
    }
    let state = tls.current();
    let acceptor = TlsAcceptor::from(Arc::clone(&state.config));
    let stream = acceptor.accept(stream).await.map_err(HandshakeError::Failed)?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let (caller, end) = match (&state.domain, shown) {
        (Some(domain), Some(shown)) => (caller(shown, domain), Some(Box::pin(sleep(rest(shown))))),
        // The verifier lets somebody in without one only where it may be absent.
        (_, None) | (None, _) => (Caller::Anonymous, None),
    };
    Ok(Secured { stream, caller, end })
}

fn caller(shown: &CertificateDer<'_>, domain: &TrustDomain) -> Caller {
    match Identity::within(shown, domain) {
        Ok(identity) => Caller::Known(Arc::new(identity)),
        Err(error) => Caller::Unknown(Arc::new(error)),
    }
}

/// How long a certificate is good from now on.
fn rest(shown: &CertificateDer<'_>) -> Duration {
    let about = About::of(Some(shown), "".as_ref());
    let ends = about.map(|about| about.ends).unwrap_or(SystemTime::UNIX_EPOCH);
    ends.duration_since(SystemTime::now()).unwrap_or_default().min(FURTHEST)
}

fn refused(peer: SocketAddr, error: &HandshakeError) {
    match error {
        // Probes of load balancers look like this.
        HandshakeError::Silent | HandshakeError::Broken(_) => {
            tracing::debug!(%peer, error = chain(error), "connection ended before TLS");
        }
        _ => tracing::info!(%peer, error = chain(error), "connection refused"),
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            tracing::info!(
                "a connection ends together with the certificate that it was opened with"
            );
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

forward_write!(Secured, stream);

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn, if there is one now.
    async fn now(turns: &Turns, last: u8) -> Option<[OwnedSemaphorePermit; 2]> {
        tokio::select! {
            biased;
            turn = turns.take(IpAddr::from([10, 0, 0, last])) => turn,
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn silent_handshakes_of_one_address_leave_turns_to_others() {
        let turns = Turns::new(3, 2);
        let silent = [now(&turns, 1).await.unwrap(), now(&turns, 1).await.unwrap()];
        assert!(now(&turns, 1).await.is_none());
        assert!(now(&turns, 2).await.is_some());
        drop(silent);
        assert!(now(&turns, 1).await.is_some());
    }
}
