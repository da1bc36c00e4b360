//! TLS between responders: what each shows to its control plane it shows to its peers as well, and a peer is a responder of the same project.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use countersign_tls::{
    CertificateError,
    accept::{Caller, Secured, accept},
    client::{self, ClientTls},
    files,
    identity::{Identity, IdentityError, Role},
    server::{self, ServerTls},
};
use futures_util::{Stream, StreamExt as _, future::ready};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};
use tonic::transport::server::Connected;

/// Why a responder that others reach cannot show who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerTlsError {
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// It is nobody's, or not a responder's.
    #[error("the certificate that is shown to other responders is not a responder's")]
    Identity(#[source] IdentityError),
}

/// Both sides of connections between responders.
#[derive(Debug)]
pub(crate) struct PeerTls {
    pub(super) client: Arc<ClientTls>,
    server: Arc<ServerTls>,
    /// Who may be a peer.
    peers: Identity,
}

impl PeerTls {
    /// Reads what the control plane is shown; `None` when it is shown nothing, or when there is no authority that peers could be checked with.
    pub(crate) fn read(settings: &client::Settings) -> Result<Option<Self>, PeerTlsError> {
        let (Some(authorities), Some((certificate, key))) =
            (&settings.authorities, &settings.certificate)
        else {
            return Ok(None);
        };
        let pair = files::pair(certificate, key)?;
        let own = pair.chain.first().map_or(Err(IdentityError::Unreadable), Identity::of);
        let peers = own.and_then(peers_of).map_err(PeerTlsError::Identity)?;
        let server = ServerTls::read(server::Settings {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: Some(authorities.clone()),
            trust_domain: None,
            is_optional: false,
        })?;
        let client =
            ClientTls::read(client::Settings { server: Some(peers.clone()), ..settings.clone() })?;
        Ok(Some(Self { client, server, peers }))
    }

    /// Reads the files again whenever they change, until it is aborted.
    pub(super) fn follow(&self) -> AbortHandle {
        tokio::spawn(Arc::clone(&self.server).poll()).abort_handle()
    }

    /// The connections of peers, so many at a time; who is none is turned away, and the log says so.
    pub(super) fn accept(
        &self,
        listener: TcpListener,
        limit: usize,
    ) -> impl Stream<Item = io::Result<Connection>> + use<> {
        let permits = Arc::new(Semaphore::new(limit));
        let peers = self.peers.clone();
        accept(listener, Arc::clone(&self.server))
            .filter(move |secured| ready(secured.as_ref().map_or(true, |s| is_let_in(s, &peers))))
            .then(move |secured| {
                let permits = Arc::clone(&permits);
                async move {
                    let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
                    Ok(Connection { secured: secured?, _permit: permit })
                }
            })
    }
}

/// All responders of the same project.
fn peers_of(own: Identity) -> Result<Identity, IdentityError> {
    match own.role {
        Role::Responder { project, .. } => {
            Ok(Identity { domain: own.domain, role: Role::Responder { project, name: None } })
        }
        Role::ControlPlane { .. } | Role::User { .. } => {
            Err(IdentityError::Other { found: own, expected: "a responder".to_owned() })
        }
    }
}

fn is_let_in(secured: &Secured, peers: &Identity) -> bool {
    let why = match secured.caller() {
        Caller::Known(identity) if peers.covers(identity) => return true,
        Caller::Known(identity) => format!("{identity} is not {peers}"),
        Caller::Unknown(why) => why.to_string(),
        Caller::Anonymous => "there is no certificate".to_owned(),
    };
    tracing::info!(why, "a connection for turns is refused");
    false
}

/// A connection of a peer that counts as long as it is open.
#[derive(Debug)]
pub(super) struct Connection {
    secured: Secured,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.secured).poll_read(cx, buf)
    }
}

countersign_tls::forward_write!(Connection, secured);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_responders_of_the_same_project() {
        let own = |text: &str| peers_of(text.parse().unwrap());
        let peers = own("spiffe://a/responder/shop/one").unwrap();
        for (other, is_peer) in [
            ("spiffe://a/responder/shop/two", true),
            ("spiffe://a/responder/shop", true),
            ("spiffe://a/responder/other/two", false),
            ("spiffe://b/responder/shop/two", false),
            ("spiffe://a/user/two", false),
            ("spiffe://a/control-plane/shop", false),
        ] {
            assert_eq!(peers.covers(&other.parse().unwrap()), is_peer, "{other}");
        }
        assert!(matches!(own("spiffe://a/user/anna"), Err(IdentityError::Other { .. })));
    }
}
