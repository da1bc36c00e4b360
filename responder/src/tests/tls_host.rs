//! A real host that speaks TLS, with a certificate that openssl made.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// A certificate of a server, not of an authority.
const REQUEST: &str = "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=localhost\n[ext]\n\
                       subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n";

pub(super) struct TlsHost {
    pub(super) addr: SocketAddr,
    /// The certificate, which is trusted as it is.
    pub(super) certificate: PathBuf,
    _task: AbortOnDropHandle<()>,
}

impl TlsHost {
    /// `None`, with a notice, where there is no openssl.
    pub(super) async fn start(dir: &Path, alpn: &[&str]) -> Option<Self> {
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        let config = dir.join("req.cnf");
        std::fs::write(&config, REQUEST).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-config"])
            .arg(&config)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI needs openssl");
            use std::io::Write as _;
            drop(writeln!(
                std::io::stderr(),
                "NOTICE: there is no openssl, TLS to real hosts is not tried"
            ));
            return None;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&key).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let server = auto::Builder::new(TokioExecutor::new());
                    let service =
                        service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                            let told = format!("{:?} {}", request.version(), request.uri().path());
                            Ok::<_, std::convert::Infallible>(Response::new(Full::new(
                                Bytes::from(told),
                            )))
                        });
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        };
        Some(Self { addr, certificate, _task: AbortOnDropHandle::new(tokio::spawn(serve)) })
    }
}
