//! An API server that answers as a test says: for what a real one does too seldom to wait for.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::Value;
use tower_service::Service;

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The path, and the query where there is one.
    pub(crate) target: String,
    /// The body; null where there is none.
    pub(crate) body: Value,
}

/// How it answers: a status and a body, of one or more JSON documents.
pub(crate) type Answer = (u16, String);

#[derive(Clone)]
struct Fake {
    answer: Arc<dyn Fn(&Asked) -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A client of such a server, and what it was asked so far.
pub(crate) fn client(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Client, Arc<Mutex<Vec<Asked>>>) {
    let fake = Fake { answer: Arc::new(answer), asked: Arc::default() };
    let asked = Arc::clone(&fake.asked);
    (Client::new(fake, "shop"), asked)
}

impl Service<Request<Body>> for Fake {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let asked = Asked {
                method: parts.method.to_string(),
                target: parts.uri.path_and_query().unwrap().to_string(),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            };
            fake.asked.lock().unwrap().push(asked.clone());
            let (status, text) = (fake.answer)(&asked);
            Ok(Response::builder().status(status).body(Body::from(text.into_bytes())).unwrap())
        })
    }
}

/// What an API server says when it refuses.
pub(crate) fn refusal(code: u16, reason: &str) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason,
    });
    (code, status.to_string())
}
