//! The server's side of a TLS handshake: the certificate follows the name that the client asks for, and all of it has a time limit.

use std::{io, net::IpAddr, sync::Arc};

use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    route::Route,
    sniff::{Protocol, Stream},
};
use crate::{certificates::CertificateError, serve_request::Plane};

/// A TLS record that says `handshake_failure`, for clients whose hello nobody can answer.
const HANDSHAKE_FAILURE: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("a client wants TLS, but neither --tls-ca nor --tls-cert is given")]
    NotConfigured,
    #[error("the handshake did not end in time")]
    TooSlow,
    #[error("the handshake failed")]
    Failed(#[from] io::Error),
    #[error("there is no certificate to show")]
    Certificate(#[from] CertificateError),
}

/// A connection behind TLS.
pub(super) struct Secured<S> {
    pub(super) stream: TlsStream<S>,
    /// The protocol that both agreed on.
    pub(super) protocol: Option<Protocol>,
    pub(super) route: Route,
}

/// Does the handshake.
pub(super) async fn accept<S: Stream>(
    stream: S,
    plane: &Plane,
    route: Route,
    here: IpAddr,
) -> Result<Secured<S>, HandshakeError> {
    let handshake = timeout(plane.limits.handshake, handshake(stream, plane, route, here));
    let done = handshake.await.unwrap_or(Err(HandshakeError::TooSlow));
    match &done {
        Ok(_) => plane.metrics.handshakes.inc(),
        Err(_) => plane.metrics.handshake_failures.inc(),
    };
    done
}

async fn handshake<S: Stream>(
    mut stream: S,
    plane: &Plane,
    route: Route,
    here: IpAddr,
) -> Result<Secured<S>, HandshakeError> {
    let Some(certificates) = &plane.certificates else {
        // It tells more than a connection that just closes.
        stream.write_all(&HANDSHAKE_FAILURE).await?;
        stream.shutdown().await?;
        return Err(HandshakeError::NotConfigured);
    };
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let name = route.certificate(start.client_hello().server_name(), here);
    let config = Arc::clone(certificates).config(name).await?;
    let stream = start.into_stream(config).await?;
    let (_, session) = stream.get_ref();
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Some(Protocol::Http2),
        Some(_) => Some(Protocol::Http1),
        None => None,
    };
    let route = route.behind_tls(session.server_name());
    Ok(Secured { stream, protocol, route })
}
