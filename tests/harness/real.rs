//! A real service to be recorded: users log in, get a token, and ask on with it. It runs within the test.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::recording::old_token;

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct RealService {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl RealService {
    /// Starts it on a free port; HTTP/1.1 and HTTP/2 without TLS.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it has an address");
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let service = service_fn(answer);
                    // A client that leaves early is none of our business.
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        };
        Self { addr, task: tokio::spawn(serve) }
    }
}

impl Drop for RealService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The token of a user; its JWS signature is of no account.
#[must_use]
pub fn token_of(user: &str) -> String {
    old_token("HS256", &json!({"sub": user, "iat": 1_700_000_000, "exp": 1_700_003_600}))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let user = head.headers.get(header::AUTHORIZATION).and_then(|value| {
        let value = value.to_str().ok()?.to_owned();
        ["alice", "bob"].into_iter().find(|user| value == format!("Bearer {}", token_of(user)))
    });
    let (status, told) = match (head.uri.path(), user) {
        ("/login", _) => {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let user = asked["username"].as_str().unwrap_or_default();
            (StatusCode::OK, json!({ "access_token": token_of(user), "token_type": "Bearer" }))
        }
        ("/me", Some(user)) => (StatusCode::OK, json!({ "name": user })),
        ("/me", None) => (StatusCode::UNAUTHORIZED, json!({ "error": "who are you?" })),
        (path, _) => (StatusCode::OK, json!({ "path": path, "query": head.uri.query() })),
    };
    let mut response = Response::new(Full::new(Bytes::from(told.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
