//! HTTP clients as users have them: HTTP/1.1 with keep-alive, and HTTP/2 without TLS.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    server: SocketAddr,
}

/// A response, read whole.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// A client that speaks HTTP/1.1.
    #[must_use]
    pub fn new(server: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).build_http(), server }
    }

    /// A client that speaks HTTP/2 from the first byte.
    #[must_use]
    pub fn http2(server: SocketAddr) -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).http2_only(true).build_http(), server }
    }

    /// The address that it asks.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// A GET without more.
    pub async fn get(&self, target: &str) -> Response {
        self.send(Method::GET, target, HeaderMap::new(), Bytes::new()).await
    }

    /// A POST of JSON.
    pub async fn post_json(&self, target: &str, body: &str) -> Response {
        let headers = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        )]);
        self.send(Method::POST, target, headers, Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        self.try_send(method, target, headers, body).await.expect("the server answers")
    }

    /// Any request; the error when no answer came.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn try_send(
        &self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, String> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("http://{}{target}", self.server).parse().expect("a target");
        *request.headers_mut() = headers;
        let response = self.pool.request(request).await.map_err(|why| why.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|why| why.to_string())?.to_bytes();
        Ok(Response { status: head.status, headers: head.headers, body })
    }
}

impl Response {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&self.body)))
    }
}
