//! TLS on the data port: plain and encrypted side by side, names, protocols, clients' certificates, and clients that stall.

use std::{path::Path, sync::Arc};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{
    certificates::{Certificates, make::authority_in, tests::client},
    transport::{ClientAuth, Identity, Tls},
};

const LAST_A: &str = "GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";

/// A plane that answers TLS, and the directory of its authority.
pub(super) fn secure_plane(
    limits: Limits,
    pairs: Vec<RrPair>,
    change: impl FnOnce(&mut Tls, &Path),
) -> (Plane, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    authority_in(dir.path(), false).unwrap();
    let mut tls = Tls {
        identity: Identity::Authority(dir.path().to_owned()),
        client_ca: None,
        client_auth: ClientAuth::None,
    };
    change(&mut tls, dir.path());
    let mut plane = plane(limits, &compiled(pairs));
    plane.certificates = Some(Arc::new(Certificates::read(tls, Handle::current()).unwrap()));
    plane.forward_proxy = true;
    (plane, dir)
}

fn secure(limits: Limits, door: Door) -> (Node, TempDir) {
    let pairs = vec![pair("/a", "recorded")];
    let (plane, dir) = secure_plane(limits, pairs, |_, _| {});
    (Node::behind(plane, door), dir)
}

/// Handshakes over any stream.
pub(super) async fn shake<S: AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: S,
    authority: &Path,
    name: &str,
    alpn: &[&str],
) -> Result<TlsStream<S>> {
    let mut config = client(authority);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn tls_and_plain_connections_share_a_port() {
    let (node, dir) = secure(Limits::default(), Door::default());
    for (name, alpn) in [("api", &["http/1.1"][..]), ("api.example.com", &[]), ("127.0.0.1", &[])] {
        let mut stream = shake(node.connect().await, dir.path(), name, alpn).await.unwrap();
        stream.write_all(LAST_A.as_bytes()).await.unwrap();
        assert!(rest(stream).await.ends_with("recorded"), "{name}");
    }
    assert!(node.exchange(LAST_A).await.ends_with("recorded"));
    let metrics = node.metrics.render().unwrap();
    assert!(metrics.contains("tls_handshakes_total 3"), "{metrics}");
}

#[tokio::test]
async fn the_protocol_is_agreed_on_else_found_out() {
    let (node, dir) = secure(Limits::default(), Door::default());
    for alpn in [&["h2", "http/1.1"][..], &["h2"], &[]] {
        let stream = shake(node.connect().await, dir.path(), "api", alpn).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), (!alpn.is_empty()).then_some(&b"h2"[..]), "{alpn:?}");
        // Without an agreement its first bytes show that it speaks HTTP/2.
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        for method in ["GET", "HEAD"] {
            let request = http::Request::builder().method(method).uri("https://api/a");
            let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-length"]),
                (200, &"8".parse().unwrap())
            );
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            assert_eq!(body.to_bytes().len(), if method == "GET" { 8 } else { 0 });
        }
    }
    let refused = shake(node.connect().await, dir.path(), "api", &["spdy/3"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[tokio::test]
async fn sessions_are_resumed() {
    let (node, dir) = secure(Limits::default(), Door::default());
    let connector = TlsConnector::from(Arc::new(client(dir.path())));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let name = ServerName::try_from("api").unwrap();
        let mut stream = connector.connect(name, node.connect().await).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        stream.write_all(LAST_A.as_bytes()).await.unwrap();
        rest(stream).await;
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[tokio::test]
async fn a_handshake_has_to_end_in_time() {
    let (node, _dir) = secure(with(|limits| limits.handshake = SHORT), Door::default());
    // A record that is announced and never comes whole.
    let text = node.exchange("\x16\x03\x01\x02\x00\x01").await;
    assert!(!text.contains("HTTP"), "{text}");
    until("it is counted", || {
        node.metrics.render().unwrap().contains("tls_handshake_failures_total 1")
    })
    .await;
}

#[tokio::test]
async fn a_port_may_take_tls_only() {
    let (node, dir) = secure(Limits::default(), Door { tls_only: true, ..Door::default() });
    assert_eq!(node.exchange(LAST_A).await, "");
    let mut stream = shake(node.connect().await, dir.path(), "api", &[]).await.unwrap();
    stream.write_all(LAST_A.as_bytes()).await.unwrap();
    assert!(rest(stream).await.ends_with("recorded"));
}

#[tokio::test]
async fn without_certificates_a_client_is_told_by_an_alert() {
    let node = Node::new(Limits::default());
    let (_other, dir) = secure(Limits::default(), Door::default());
    let refused = shake(node.connect().await, dir.path(), "api", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("HandshakeFailure"), "{refused}");
}

#[tokio::test]
async fn what_is_neither_http_nor_tls_is_refused() {
    let node = Node::new(Limits::default());
    for bytes in ["\0\0\0\x08\x04\u{12}", "SSH-2.0-OpenSSH_9.9\r\n", "\x7f\r\n\r\n"] {
        let text = node.exchange(bytes).await;
        assert!(text.starts_with("HTTP/1.1 400"), "{bytes:?} got {text:?}");
    }
}

/// A certificate for clients, signed by the authority of a directory.
fn client_certificate(authority: &Path) -> (CertificateDer, PrivateKeyDer<'static>) {
    let key = PrivateKeyDer::from_pem_file(authority.join("tls.key")).unwrap();
    let root = CertificateDer::from_pem_file(authority.join("tls.crt")).unwrap();
    let issuer = Issuer::from_ca_cert_der(&root, KeyPair::try_from(&key).unwrap()).unwrap();
    let own = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["client".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&own, &issuer).unwrap();
    let own = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
    (certificate.into(), own)
}

type CertificateDer = rustls_pki_types::CertificateDer<'static>;

#[tokio::test]
async fn clients_may_have_to_show_a_certificate() {
    let clients = tempfile::tempdir().unwrap();
    let strangers = tempfile::tempdir().unwrap();
    authority_in(clients.path(), false).unwrap();
    authority_in(strangers.path(), false).unwrap();
    for (auth, without, stranger) in [
        (ClientAuth::Required, false, false),
        (ClientAuth::Optional, true, false),
        (ClientAuth::None, true, true),
    ] {
        let (plane, dir) =
            secure_plane(Limits::default(), vec![pair("/a", "recorded")], |tls, _| {
                tls.client_ca = Some(clients.path().join("tls.crt"));
                tls.client_auth = auth;
            });
        let node = Node::behind(plane, Door::default());
        let shown = [None, Some(clients.path()), Some(strangers.path())];
        for (shown, good) in shown.into_iter().zip([without, true, stranger]) {
            let mut config = client(dir.path());
            if let Some(authority) = shown {
                let (certificate, key) = client_certificate(authority);
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let certified = rustls::sign::CertifiedKey::new(vec![certificate], key);
                config.client_auth_cert_resolver =
                    Arc::new(rustls::sign::SingleCertAndKey::from(certified));
            }
            let name = ServerName::try_from("api").unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            // In TLS 1.3 the client learns only by reading that it was refused.
            let mut stream = connector.connect(name, node.connect().await).await.unwrap();
            drop(stream.write_all(LAST_A.as_bytes()).await);
            assert_eq!(rest(stream).await.ends_with("recorded"), good, "{auth:?} {shown:?}");
        }
    }
}
