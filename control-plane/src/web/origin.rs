//! Where a request comes from.
//!
//! The rules follow Fetch (`Origin`, `Sec-Fetch-Site`) and RFC 9110, section 7.4 (421 for another host). A browser sets these fields itself; no page
//! can choose them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, Request, StatusCode, header};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Judges where requests come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door {
    /// Only names of this machine lead here.
    loopback: bool,
    tls: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is for somebody else.
    #[error("this listener answers for localhost, 127.0.0.1 and [::1] only")]
    Host,
    /// Another page sent it, or nobody says which.
    #[error("only the page of this listener may call; other clients use the gRPC port")]
    Page,
    /// It is no call of gRPC-web.
    #[error("only gRPC-web is spoken here; other clients use the gRPC port")]
    Kind,
    /// Neither the page nor a call.
    #[error("only GET, HEAD and POST are answered")]
    Method,
}

impl Refusal {
    /// The status that says so.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Page => StatusCode::FORBIDDEN,
            Self::Kind => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Door {
    pub(super) fn new(listen: SocketAddr, tls: bool) -> Self {
        Self { loopback: listen.ip().is_loopback(), tls }
    }

    /// Whether it is for this listener. Off loopback any name may lead here, and callers are authenticated or trusted.
    pub(super) fn host<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        match authority(request) {
            Some(authority) if !self.loopback || is_local(name(authority)) => Ok(()),
            _ => Err(Refusal::Host),
        }
    }

    /// Whether the page of this listener sent it.
    pub(super) fn page<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let site = one(request.headers(), &FETCH_SITE);
        if !matches!(site, Ok(None | Some("same-origin"))) {
            return Err(Refusal::Page);
        }
        let scheme = if self.tls { "https://" } else { "http://" };
        let Ok(Some(origin)) = one(request.headers(), &header::ORIGIN) else {
            return Err(Refusal::Page);
        };
        let own = authority(request).unwrap_or_default();
        match origin.strip_prefix(scheme) {
            Some(from) if from.eq_ignore_ascii_case(own) => Ok(()),
            _ => Err(Refusal::Page),
        }
    }
}

/// `Host`, or the authority of HTTP/2; nothing when they are not one.
fn authority<B>(request: &Request<B>) -> Option<&str> {
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let field = one(request.headers(), &header::HOST).ok()?;
    match (target, field) {
        (Some(target), Some(field)) if target != field => None,
        (target, field) => target.or(field),
    }
}

/// The only value of a field; an error when there are several or it is no text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().map_err(drop)).transpose()?;
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// The host without port; empty when the authority is none.
fn name(authority: &str) -> &str {
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((inner, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let ends = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return if ends { inner } else { "" };
    }
    match authority.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => "",
        None => authority,
    }
}

/// Whether only this machine can be meant: an IPv6 address with a zone is none that can be parsed, and 0.0.0.0 is no loopback address.
fn is_local(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || name.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post("/x").body(()).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    fn door() -> Door {
        Door::new("127.0.0.1:4181".parse().unwrap(), false)
    }

    #[test]
    fn only_names_of_this_machine_lead_to_loopback() {
        for host in [
            "localhost",
            "localhost:4181",
            "LOCALHOST:9",
            "127.0.0.1:4181",
            "127.9.9.9",
            "[::1]:4181",
            "[::1]",
        ] {
            assert_eq!(door().host(&request(&[("host", host)])), Ok(()), "{host}");
        }
        for host in [
            "evil.test",
            "evil.test:4181",
            "localhost.evil.test",
            "0.0.0.0:4181",
            "[::1%25lo]:4181",
            "[::]:4181",
            "[::ffff:127.0.0.1]",
            "192.168.0.1",
            "127.0.0.1.nip.io",
            "2130706433",
            "0x7f.1",
            "",
            ":4181",
            "[",
            "localhost:4181@evil.test",
            "[::1]evil.test",
            "[::1]:4181@evil.test",
        ] {
            assert_eq!(door().host(&request(&[("host", host)])), Err(Refusal::Host), "{host}");
        }
        assert_eq!(door().host(&request(&[])), Err(Refusal::Host));
        let two = [("host", "localhost"), ("host", "evil.test")];
        assert_eq!(door().host(&request(&two)), Err(Refusal::Host));
        let open = Door::new("0.0.0.0:4181".parse().unwrap(), false);
        assert_eq!(open.host(&request(&[("host", "ui.example")])), Ok(()));
        assert_eq!(open.host(&request(&[])), Err(Refusal::Host));
    }

    #[test]
    fn only_the_page_itself_may_call() {
        let from = |fields: &[(&str, &str)]| {
            let host = [("host", "localhost:4181")];
            door().page(&request(&[&host, fields].concat()))
        };
        assert_eq!(from(&[("origin", "http://localhost:4181")]), Ok(()));
        assert_eq!(
            from(&[("origin", "http://localhost:4181"), ("sec-fetch-site", "same-origin")]),
            Ok(())
        );
        for fields in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://evil.test")],
            &[("origin", "https://localhost:4181")],
            &[("origin", "http://localhost:4182")],
            &[("origin", "http://localhost:4181.evil.test")],
            &[("origin", "http://localhost:4181"), ("origin", "http://evil.test")],
            &[("origin", "http://localhost:4181"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://localhost:4181"), ("sec-fetch-site", "same-site")],
            &[("origin", "http://localhost:4181"), ("sec-fetch-site", "none")],
        ] {
            assert_eq!(from(fields), Err(Refusal::Page), "{fields:?}");
        }
    }
}
