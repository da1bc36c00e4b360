//! An exchange as other tools record it, on its way to a pair.
//!
//! Other tools know no direction and no service: what they recorded is a dependency to be mocked, so the pair is OUT and its service is the
//! host. Bodies are taken as the tool stored them, decoded.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    formats::{
        draft::Draft,
        message::{Message, Start},
        target::{escape_target, split_target, version},
        verdict::Left,
    },
    request::without_port,
    snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair, header},
};

/// What a tool says of one exchange.
#[derive(Debug, Default, Clone)]
pub(super) struct Exchange {
    /// The tool, for the tag `source`.
    pub(super) source: &'static str,
    pub(super) ts: Option<i64>,
    pub(super) duration: u64,
    pub(super) method: String,
    /// `http` or `https`; `http` when empty.
    pub(super) scheme: String,
    /// Host and port; that of the `Host` header when empty.
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) version: String,
    pub(super) request_headers: Vec<Header>,
    pub(super) request_body: Bytes,
    pub(super) status: Option<i64>,
    pub(super) reason: String,
    pub(super) response_headers: Vec<Header>,
    pub(super) response_body: Bytes,
    /// The response body is stored without the content coding that its header fields announce.
    pub(super) decoded: bool,
}

impl Exchange {
    /// Two messages of HTTP/1.
    pub(super) fn of_messages(source: &'static str, request: Message, response: Message) -> Self {
        let mut exchange = Self {
            source,
            request_headers: request.headers,
            request_body: request.body,
            response_headers: response.headers,
            response_body: response.body,
            ..Self::default()
        };
        if let Start::Request { method, target, version } = request.start {
            exchange.method = method;
            exchange.version = version;
            exchange.set_url(&target);
        }
        if let Start::Response { status, reason, .. } = response.start {
            exchange.status = Some(status);
            exchange.reason = reason;
        }
        exchange
    }

    /// Takes scheme, authority, path and query from an URL or request target.
    pub(super) fn set_url(&mut self, url: &str) {
        let url = url.split('#').next().unwrap_or_default().trim();
        if let Some((scheme, rest)) = url.split_once("://") {
            self.scheme = scheme.to_ascii_lowercase();
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let authority = rest.get(..end).unwrap_or_default();
            // What stands before `@` is a credential, and no part of the host.
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            host.clone_into(&mut self.authority);
        }
        let (path, query) = split_target(url);
        self.path = escape_target(if path.is_empty() { "/" } else { path });
        self.query = escape_target(query);
    }

    /// Adds a header field to the request unless it has one of this name.
    pub(super) fn default_header(&mut self, name: &str, value: impl Into<Bytes>) {
        if header(&self.request_headers, name).is_none() {
            self.request_headers.push(Header { name: name.to_owned(), value: value.into() });
        }
    }

    /// Adds a header field to the response unless it has one of this name.
    pub(super) fn default_response_header(&mut self, name: &str, value: impl Into<Bytes>) {
        if header(&self.response_headers, name).is_none() {
            self.response_headers.push(Header { name: name.to_owned(), value: value.into() });
        }
    }

    /// What requests are matched by: equal keys are the same request.
    pub(super) fn request_key(&self) -> (String, String, String, String, Bytes) {
        (
            self.method.clone(),
            self.authority.clone(),
            self.path.clone(),
            self.query.clone(),
            self.request_body.clone(),
        )
    }

    /// The pair, if it can be served. `place` names the exchange within its file.
    pub(super) fn finish(self, place: &str) -> Result<RrPair, Left> {
        let secure = self.scheme == "https" || self.scheme == "wss";
        let host = self.host();
        let mut tags = BTreeMap::from([("source".to_owned(), self.source.to_owned())]);
        if self.decoded {
            tags.insert("decoded".to_owned(), "true".to_owned());
        }
        let pair = RrPair {
            ts: self.ts,
            direction: Direction::Out,
            duration: self.duration,
            l7protocol: if secure { "https" } else { "http" }.to_owned(),
            service: without_port(&host).to_owned(),
            network_address: address(&host, secure),
            command: self.method.clone(),
            location: self.path.clone(),
            status: self.status.map(|status| status.to_string()).unwrap_or_default(),
            tags,
            ..RrPair::default()
        };
        let status_message = match (self.status, self.reason.trim()) {
            (Some(status), reason) if !reason.is_empty() => format!("{status} {reason}"),
            _ => String::new(),
        };
        let request = HttpRequest {
            method: self.method,
            path: self.path,
            query: self.query,
            version: version(&self.version),
            host,
            headers: without_pseudo(self.request_headers),
            body: self.request_body,
        };
        let response = HttpResponse {
            status: 0,
            status_message,
            headers: without_pseudo(self.response_headers),
            body: self.response_body,
        };
        let draft = Draft {
            pair,
            request: Some(request),
            response: Some(response),
            status: self.status,
            ..Draft::default()
        };
        draft.finish().map_err(|left| left.within(place))
    }

    fn host(&self) -> String {
        let named = [":authority", "host"]
            .iter()
            .find_map(|name| header(&self.request_headers, name))
            .map(|value| String::from_utf8_lossy(value).trim().to_owned());
        if self.authority.is_empty() { named.unwrap_or_default() } else { self.authority.clone() }
    }
}

/// Pseudo-header fields of HTTP/2 only repeat what the start line says.
fn without_pseudo(mut headers: Vec<Header>) -> Vec<Header> {
    headers.retain(|field| !field.name.starts_with(':'));
    headers
}

/// `host:port`; empty when no host is known.
fn address(host: &str, secure: bool) -> String {
    if host.is_empty() || without_port(host) != host {
        return host.to_owned();
    }
    format!("{host}:{}", if secure { 443 } else { 80 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, scheme, authority, path, query) in [
            ("https://a.test:8443/p/q?x=1&y#frag", "https", "a.test:8443", "/p/q", "x=1&y"),
            ("http://me:secret@a.test?x", "http", "a.test", "/", "x"),
            ("HTTPS://a.test", "https", "a.test", "/", ""),
            ("/p?q=ü b", "", "", "/p", "q=%C3%BC%20b"),
            ("http://[::1]:8080/ä/%2F", "http", "[::1]:8080", "/%C3%A4/%2F", ""),
            ("", "", "", "/", ""),
        ] {
            let mut exchange = Exchange::default();
            exchange.set_url(url);
            assert_eq!(
                [&exchange.scheme, &exchange.authority, &exchange.path, &exchange.query],
                [scheme, authority, path, query],
                "{url}"
            );
        }
    }

    #[test]
    fn a_pair_is_a_mock_of_its_host() {
        let mut exchange = Exchange {
            source: "har",
            method: "GET".into(),
            status: Some(404),
            reason: "Not Found".into(),
            decoded: true,
            ..Exchange::default()
        };
        exchange.set_url("https://api.test/a");
        exchange.default_header(":authority", "other.test");
        let pair = exchange.clone().finish("here").unwrap();
        assert_eq!(pair.direction, Direction::Out);
        assert_eq!(
            (pair.service.as_str(), pair.network_address.as_str()),
            ("api.test", "api.test:443")
        );
        assert_eq!(pair.response.status_message, "404 Not Found");
        assert_eq!((pair.tags["decoded"].as_str(), pair.tags["source"].as_str()), ("true", "har"));
        assert!(pair.request.unwrap().headers.is_empty());
        exchange.status = None;
        let left = exchange.finish("entries[3]").unwrap_err();
        assert_eq!(
            (left.why.path.as_str(), left.why.code),
            ("entries[3].response.statusCode", "missing_field")
        );
        assert_eq!(left.why.message, "`response.statusCode` is missing");
    }
}
