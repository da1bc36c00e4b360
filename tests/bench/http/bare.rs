//! The baseline: hyper, one thread, one response. It does what nobody could do without, and nothing else: read the body that is sent, sign
//! with aws-lc-rs alone, or speak TLS.

use std::{convert::Infallible, future::Ready, path::PathBuf, rc::Rc, sync::Arc};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Either, Full, combinators::WithTrailers};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{keys::Signer, load::Speak};

/// What to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) speak: Speak,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether requests have a body that is read.
    pub(crate) reads: bool,
    /// The algorithm and the key that sign the token in the body, anew for every response.
    pub(crate) signs: Option<(String, PathBuf)>,
    /// The certificate and its key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

type Trailing = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;
type Body = Either<Full<Bytes>, Trailing>;

/// A response that is sent to every request.
#[derive(Debug)]
struct Served {
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Bytes,
    reads: bool,
    signed: Option<Signed>,
}

/// The parts of a body around a JWS signature.
#[derive(Debug)]
struct Signed {
    signer: Signer,
    /// Header and claims.
    input: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Serves until the process is killed.
#[expect(clippy::print_stdout, reason = "the parent reads the address")]
pub(crate) fn serve(config: &Config) -> anyhow::Result<()> {
    let served = Rc::new(Served::new(config)?);
    let tls =
        config.tls.as_ref().map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let speak = config.speak;
    local.block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("bare listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (served, tls) = (Rc::clone(&served), tls.clone());
            tokio::task::spawn_local(async move {
                match (speak, tls) {
                    (Speak::Tls, Some(tls)) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve_http1(stream, served).await;
                        }
                    }
                    (Speak::Http2, _) => {
                        let answer = service_fn(move |request| answer(request, Rc::clone(&served)));
                        let server = http2::Builder::new(Local);
                        drop(server.serve_connection(TokioIo::new(stream), answer).await);
                    }
                    _ => serve_http1(stream, served).await,
                }
            });
        }
    })
}

/// Spawns the streams of a connection on its own thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        drop(tokio::task::spawn_local(async move {
            task.await;
        }));
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, served: Rc<Served>) {
    let answer = service_fn(move |request| answer(request, Rc::clone(&served)));
    // A client that leaves is no failure of the bench.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}

async fn answer(
    request: Request<Incoming>,
    served: Rc<Served>,
) -> Result<Response<Body>, hyper::Error> {
    if served.reads {
        drop(request.into_body().collect().await?);
    }
    let body = match &served.signed {
        Some(signed) => signed.body(),
        None => served.body.clone(),
    };
    let body = Full::new(body);
    let body = if served.trailers.is_empty() {
        Either::Left(body)
    } else {
        let trailers = std::future::ready(Some(Ok(served.trailers.clone())));
        Either::Right(body.with_trailers(trailers))
    };
    let mut response = Response::new(body);
    response.headers_mut().clone_from(&served.headers);
    Ok(response)
}

impl Served {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let fields = |fields: &[(String, String)]| -> anyhow::Result<HeaderMap> {
            fields
                .iter()
                .map(|(name, value)| {
                    Ok((HeaderName::try_from(name)?, HeaderValue::try_from(value)?))
                })
                .collect()
        };
        let signed = match &config.signs {
            Some((alg, key)) => Some(Signed::new(Signer::new(alg, &std::fs::read(key)?)?, config)?),
            None => None,
        };
        Ok(Self {
            headers: fields(&config.headers)?,
            trailers: fields(&config.trailers)?,
            body: config.body.clone().into(),
            reads: config.reads,
            signed,
        })
    }
}

impl Signed {
    fn new(signer: Signer, config: &Config) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(&config.body)?;
        let begin = text.find("eyJ").context("a token in the body")?;
        let (before, rest) = text.split_at(begin);
        let (token, after) = rest.split_at(rest.find('"').context("the token's end")?);
        let (input, _) = token.rsplit_once('.').context("a JWS signature")?;
        Ok(Self {
            signer,
            input: input.into(),
            before: format!("{before}{input}.").into(),
            after: after.into(),
        })
    }

    fn body(&self) -> Bytes {
        let signature = self.signer.sign(&self.input).unwrap_or_default();
        let mut body = Vec::with_capacity(self.before.len() + self.after.len() + 400);
        body.extend_from_slice(&self.before);
        let begin = body.len();
        body.resize(begin + signature.len() * 4 / 3 + 4, 0);
        let room = body.get_mut(begin..).unwrap_or_default();
        let length = URL_SAFE_NO_PAD.encode_slice(&signature, room).unwrap_or_default();
        body.truncate(begin + length);
        body.extend_from_slice(&self.after);
        body.into()
    }
}

fn acceptor(certificate: &std::path::Path, key: &std::path::Path) -> anyhow::Result<TlsAcceptor> {
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
