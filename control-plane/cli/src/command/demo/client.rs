//! A plain HTTP client, as the service under test has one.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::failure::Failure;

const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER: usize = 1024 * 1024;

/// Posts a form and returns the body of a 200 answer.
pub(super) async fn post_form(
    address: SocketAddr,
    path: &str,
    form: &'static str,
) -> Result<Bytes, Failure> {
    match timeout(PATIENCE, send(address, path, form)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::failed(format!("POST {path} was not answered in time"))),
    }
}

async fn send(address: SocketAddr, path: &str, form: &'static str) -> Result<Bytes, Failure> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Failure::io(format!("connect to {address}"), source))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| Failure::chain(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(form.as_bytes())))
        .map_err(|error| Failure::chain(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| Failure::chain(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let body = body.map_err(|error| Failure::chain(error.as_ref()))?.to_bytes();
    connection.abort();
    if !status.is_success() {
        return Err(Failure::failed(format!("POST {path} was answered with {status}")));
    }
    Ok(body)
}

/// The access token in the answer to a login.
pub(super) fn access_token(answer: &[u8]) -> Result<String, Failure> {
    let answer: serde_json::Value =
        serde_json::from_slice(answer).map_err(|error| Failure::chain(&error))?;
    let token = answer.get("access_token").and_then(serde_json::Value::as_str);
    token
        .map(str::to_owned)
        .ok_or_else(|| Failure::failed("the login's answer holds no access_token"))
}
