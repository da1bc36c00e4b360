//! What is known of a connection's requests beside what they say themselves: the port or the tunnel that they came by, and the name that
//! TLS was asked for.
//!
//! Requests leave here as if they had come directly: in origin form, with the host that they are for, and without what was meant for a
//! proxy.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Request, Uri, Version, header, uri::Authority};

use crate::certificates::name::Name;

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Where a connection's requests are for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    /// The host that they are for, whatever they say.
    host: Option<HeaderValue>,
    /// The name that TLS was asked for: the host of requests that name none.
    asked: Option<HeaderValue>,
    /// What a certificate is made for if none is asked for.
    certificate: Option<Name>,
    /// They come through a tunnel.
    tunnel: bool,
}

impl Route {
    /// Requests for one host, with or without a port.
    pub(crate) fn to(authority: &Authority) -> Option<Self> {
        let certificate = Name::of_host(authority.host())?;
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        Some(Self { host: Some(host), certificate: Some(certificate), ..Self::default() })
    }

    /// The same requests, through a tunnel.
    pub(crate) fn through_tunnel(mut self) -> Self {
        self.tunnel = true;
        self
    }

    /// Whether they come through a tunnel.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// The same requests, behind TLS.
    pub(crate) fn behind_tls(mut self, asked: Option<&str>) -> Self {
        self.asked = asked.and_then(|name| HeaderValue::from_str(name).ok());
        self
    }

    /// What a certificate is made for.
    pub(crate) fn certificate(&self, asked: Option<&str>, here: IpAddr) -> Name {
        asked
            .and_then(Name::of_host)
            .or_else(|| self.certificate.clone())
            .unwrap_or(Name::Here(here))
    }

    /// Makes a request what it would be without detours.
    pub(crate) fn settle<B>(&self, request: &mut Request<B>) {
        if is_authority_form(request.uri()) {
            return;
        }
        let is_http2 = request.version() == Version::HTTP_2;
        let named = request.uri().authority().is_some();
        if named || self.tunnel || self.host.is_some() {
            let headers = request.headers_mut();
            headers.remove(header::PROXY_AUTHORIZATION);
            headers.remove(PROXY_CONNECTION);
        }
        if let Some(host) = &self.host {
            self.replace_host(request, host.clone());
        } else if named && !is_http2 {
            // The target counts, not the field (RFC 9112, section 3.2.2).
            let authority = request.uri().authority().map(without_user);
            let host = authority.and_then(|text| HeaderValue::from_str(text).ok());
            if let Some(host) = host {
                self.replace_host(request, host);
            }
        } else if !named
            && request.version() != Version::HTTP_11
            && let Some(asked) = &self.asked
        {
            request.headers_mut().entry(header::HOST).or_insert_with(|| asked.clone());
        }
    }

    fn replace_host<B>(&self, request: &mut Request<B>, host: HeaderValue) {
        // A request that is refused for its field has to stay as it is.
        let fields = request.headers().get_all(header::HOST).iter().count();
        if request.version() == Version::HTTP_11 && fields != 1 {
            return;
        }
        request.headers_mut().insert(header::HOST, host);
        if request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        }
    }
}

/// Whether the target is a mere host, as only `CONNECT` has it; the request is refused where requests are read.
pub(crate) fn is_authority_form(uri: &Uri) -> bool {
    uri.authority().is_some() && uri.scheme().is_none()
}

fn without_user(authority: &Authority) -> &str {
    let text = authority.as_str();
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(route: &Route, version: Version, uri: &str, host: &[&'static str]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in host {
            request = request.header("host", *host);
        }
        let request = request.header("proxy-authorization", "Basic eDp5");
        let mut request = request.header("proxy-connection", "keep-alive").body(()).unwrap();
        route.settle(&mut request);
        request
    }

    fn to(authority: &str) -> Route {
        Route::to(&authority.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_direct_request_stays_as_it_is() {
        let request = settled(&Route::default(), Version::HTTP_11, "/a?b", &["x"]);
        assert_eq!((request.uri(), request.headers().len()), (&Uri::from_static("/a?b"), 3));
    }

    #[test]
    fn a_proxied_request_is_for_the_host_of_its_target() {
        let target = "http://user:secret@api:81/a?b";
        let request = settled(&Route::default(), Version::HTTP_11, target, &["x"]);
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(
            (&request.headers()["host"], request.headers().len()),
            (&"api:81".parse().unwrap(), 1)
        );
        // The check for exactly one field comes later, and still has to see the fault.
        let request = settled(&Route::default(), Version::HTTP_11, "http://api/", &["x", "y"]);
        assert_eq!(request.headers().get_all("host").iter().count(), 2);
        let request = settled(&Route::default(), Version::HTTP_2, "https://api/a", &[]);
        assert_eq!(
            (request.uri(), request.headers().len()),
            (&Uri::from_static("https://api/a"), 0)
        );
    }

    #[test]
    fn a_mapped_port_and_a_tunnel_stand_above_what_requests_say() {
        for route in [to("api:443"), to("api:443").through_tunnel()] {
            for (version, uri) in [(Version::HTTP_11, "/a"), (Version::HTTP_2, "https://x/a")] {
                let request = settled(&route, version, uri, &["x"]);
                assert_eq!((request.uri().path(), request.uri().authority()), ("/a", None));
                assert_eq!(request.headers()["host"], "api:443");
                assert!(!request.headers().contains_key("proxy-authorization"));
            }
        }
    }

    #[test]
    fn the_name_that_tls_was_asked_for_stands_in_for_a_host_that_is_not_named() {
        let route = Route::default().behind_tls(Some("api.example"));
        let request = settled(&route, Version::HTTP_10, "/a", &[]);
        assert_eq!(request.headers()["host"], "api.example");
        let request = settled(&route, Version::HTTP_10, "/a", &["x"]);
        assert_eq!(request.headers()["host"], "x");
        let request = settled(&route, Version::HTTP_11, "/a", &[]);
        assert!(!request.headers().contains_key("host"), "it is refused for that");
    }

    #[test]
    fn certificates_are_for_who_is_asked_for_else_for_who_is_meant() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let host = |name: &str| Name::Host(name.into());
        assert_eq!(to("api:1").certificate(Some("Other"), here), host("other"));
        assert_eq!(to("api:1").certificate(None, here), host("api"));
        assert_eq!(Route::default().certificate(None, here), Name::Here(here));
    }
}
