//! `CONNECT`: a tunnel whose other end is here. What comes through it is served as if it had reached the host that the client asked for.
//!
//! Nothing is ever connected to, so that this is no way into a network; a tunnel within a tunnel would only cost.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use serde_json::json;

use super::{
    body::Outgoing,
    route::Route,
    write::{Response, ours},
};

/// A tunnel that opens once its response was sent.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) upgrade: OnUpgrade,
    pub(super) route: Route,
    /// `host:port`, for the log.
    pub(super) target: String,
}

/// Why there is no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("this responder is no forward proxy: --forward-proxy is off")]
    Off,
    #[error("there is no tunnel within a tunnel")]
    Nested,
    #[error("CONNECT names a host and a port, such as api.example.com:443")]
    Target,
}

/// Whether a request asks for a tunnel. In HTTP/2 such requests are refused where requests are read.
pub(super) fn is_wanted<B>(request: &Request<B>) -> bool {
    *request.method() == Method::CONNECT && request.version() != Version::HTTP_2
}

impl Refused {
    /// The response that says so.
    pub(super) fn response(self) -> Response {
        let status = match self {
            Self::Off => StatusCode::NOT_IMPLEMENTED,
            Self::Nested | Self::Target => StatusCode::BAD_REQUEST,
        };
        let mut response =
            ours(status, &json!({ "error": "connect", "message": self.to_string() }));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

/// Opens a tunnel, or says why not.
pub(super) fn open<B>(
    request: &mut Request<B>,
    route: &Route,
    forward_proxy: bool,
) -> Result<Tunnel, Refused> {
    if !forward_proxy {
        return Err(Refused::Off);
    }
    if route.is_tunnel() {
        return Err(Refused::Nested);
    }
    let uri = request.uri();
    let authority = uri.authority().filter(|authority| {
        authority.port_u16().is_some_and(|port| port > 0)
            && !authority.as_str().contains('@')
            && uri.scheme().is_none()
            && uri.path_and_query().is_none()
    });
    let authority = authority.ok_or(Refused::Target)?;
    let target = authority.to_string();
    let route = Route::to(authority).ok_or(Refused::Target)?.through_tunnel();
    Ok(Tunnel { upgrade: hyper::upgrade::on(request), route, target })
}

/// The response that opens a tunnel.
pub(super) fn established() -> Response {
    Response::new(Outgoing::whole(Bytes::new()))
}
