//! What of a message belongs to one connection only (RFC 9110, section 7.6.1), and how a request that comes round again is noticed.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::fields::{listed, takes_trailers};

/// Names every process of ours that a request went through.
pub(crate) const HOP_HEADER: HeaderName = HeaderName::from_static("x-countersign-hop");
/// More processes of ours than these are taken for a loop.
const MAX_HOPS: usize = 8;

/// Fields that are never passed on. `te: trailers` is, because gRPC servers want it.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Takes out what belongs to the connection that a message came by, and what its `Connection` names.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named = listed(headers, header::CONNECTION).filter_map(|name| name.parse().ok());
    let named: Vec<HeaderName> = named.collect();
    let trailers = takes_trailers(headers);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a request has come through this process already, or through too many of its kind.
pub(crate) fn is_loop(headers: &HeaderMap, own: &str) -> bool {
    let hops: Vec<&str> = listed(headers, HOP_HEADER).collect();
    let mut via = listed(headers, header::VIA);
    let received_by = format!("countersign-{own}");
    hops.len() >= MAX_HOPS
        || hops.contains(&own)
        || via.any(|hop| hop.split_whitespace().nth(1) == Some(&received_by))
}

/// Notes that a message went through this process.
pub(crate) fn note(headers: &mut HeaderMap, own: &str, version: http::Version, is_request: bool) {
    let version = match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    if let Ok(via) = HeaderValue::from_str(&format!("{version} countersign-{own}")) {
        headers.append(header::VIA, via);
    }
    if let (true, Ok(own)) = (is_request, HeaderValue::from_str(own)) {
        headers.append(HOP_HEADER, own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn what_belongs_to_a_connection_stays_behind() {
        let mut all = headers(&[
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("authorization", "Bearer x"),
            ("trailer", "grpc-status"),
        ]);
        strip(&mut all);
        let mut left: Vec<&str> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "te", "trailer"]);
        assert_eq!(all["te"], "trailers");
    }

    #[test]
    fn a_request_that_comes_round_is_noticed() {
        let mut all = HeaderMap::new();
        assert!(!is_loop(&all, "a1"));
        note(&mut all, "a1", http::Version::HTTP_11, true);
        assert!(is_loop(&all, "a1") && !is_loop(&all, "a2"));
        note(&mut all, "a2", http::Version::HTTP_2, true);
        assert!(is_loop(&all, "a1") && is_loop(&all, "a2") && !is_loop(&all, "a3"));
        all.remove(HOP_HEADER);
        assert!(is_loop(&all, "a2"), "`Via` alone tells");
        for nth in 0..MAX_HOPS {
            note(&mut all, &format!("b{nth}"), http::Version::HTTP_11, true);
        }
        assert!(is_loop(&all, "other"), "too many");
    }
}
