//! Endpoints: method, host and path, with ids in the path generalised, so that a thousand orders are one endpoint.

use std::fmt;

use super::token;
use crate::{request::Parts, snapshot::RrPair};

/// Where pairs go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The method.
    pub method: String,
    /// The host without port.
    pub host: String,
    /// The path, in which ids are written `{id}` and tokens `{token}`.
    pub route: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.route)
    }
}

/// The longest route.
const MAX_ROUTE: usize = 512;

impl Endpoint {
    /// The endpoint of a pair, and its path as filters see it.
    pub(crate) fn of(pair: &RrPair, parts: &Parts) -> (Self, String) {
        let first = |recorded: &str, other: &str| {
            if recorded.is_empty() { other.to_owned() } else { recorded.to_owned() }
        };
        let location = first(&pair.location, &parts.path);
        let host = crate::request::without_port(&parts.host);
        let host = first(host, crate::request::without_port(&pair.network_address));
        let method = first(&pair.command, &parts.method);
        let route = route(location.split(['?', '#']).next().unwrap_or_default());
        (Self { method, host: token::shortened(&host), route }, location)
    }

    /// Whether its paths hold tokens, which may stand in no template.
    pub(super) fn holds_token(&self) -> bool {
        self.route.contains("{token}")
    }

    /// The expression that matches every path of this route, with a query or without.
    pub(super) fn pattern(&self, query: bool) -> String {
        let segments = self.route.split('/').map(|segment| match segment {
            "{id}" | "{token}" => "[^/]+".to_owned(),
            segment => regex::escape(segment),
        });
        let query = if query { r"(\?.*)?" } else { "" };
        format!("^{}{query}$", segments.collect::<Vec<_>>().join("/"))
    }
}

fn route(path: &str) -> String {
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| {
            if matches!(token::judge(segment.as_bytes()), token::Verdict::Token(_)) {
                "{token}"
            } else if is_id(segment) {
                "{id}"
            } else {
                segment
            }
        })
        .collect();
    let route = segments.join("/");
    if route.len() > MAX_ROUTE { token::shortened(&route) } else { route }
}

/// Whether a segment names one thing of many: a number, a UUID, a hash, or a short prefix with a number such as `p-12`.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 || segment.len() > 128 {
        return segment.len() > 128;
    }
    if digits == segment.len() || uuid::Uuid::try_parse(segment).is_ok() {
        return true;
    }
    if let Some((prefix, rest)) = segment.split_once(['-', '_'])
        && (1..=8).contains(&prefix.len())
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase())
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_digit())
    {
        return true;
    }
    // Hashes and random names: long, and digits among the letters.
    segment.len() >= 16 && digits >= 3 && segment.bytes().all(token::is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_generalised_and_names_are_not() {
        for (path, expected) in [
            ("/catalog/p-12", "/catalog/{id}"),
            ("/orders/17/items/a3f1b2c4d5e6f708", "/orders/{id}/items/{id}"),
            ("/u/67e55044-10b1-426f-9247-bb680e5fe0c8", "/u/{id}"),
            ("/v1/oauth2/token", "/v1/oauth2/token"),
            ("/catalog/p-broken", "/catalog/p-broken"),
            ("/api-2024/x", "/{id}/x"),
            ("/", "/"),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }

    #[test]
    fn no_token_is_part_of_a_route() {
        assert_eq!(route("/verify/eyJhbGciOiJIUzI1NiJ9.e30.c2ln/now"), "/verify/{token}/now");
    }

    #[test]
    fn a_pattern_matches_its_paths_only() {
        let endpoint =
            Endpoint { method: "GET".into(), host: "h".into(), route: "/u.x/{id}/token".into() };
        let pattern = regex::Regex::new(&endpoint.pattern(false)).unwrap();
        assert!(pattern.is_match("/u.x/17/token"));
        assert!(!pattern.is_match("/u-x/17/token") && !pattern.is_match("/u.x/17/8/token"));
    }
}
