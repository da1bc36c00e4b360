//! Header fields that hold lists (RFC 9110, section 5.6.1).

use http::{HeaderMap, HeaderName, header};

/// The members of a list field, over all of its lines. What is no text is left out.
pub(crate) fn listed(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether whoever sends these fields takes trailers (RFC 9110, section 6.5.1).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    listed(headers, header::TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn lists_go_on_over_lines() {
        let mut headers = HeaderMap::new();
        assert!(!takes_trailers(&headers));
        headers.append(header::TE, HeaderValue::from_static("gzip , deflate"));
        headers.append(header::TE, HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(!takes_trailers(&headers));
        headers.append(header::TE, HeaderValue::from_static("x,Trailers"));
        let all: Vec<&str> = listed(&headers, header::TE).collect();
        assert_eq!(all, ["gzip", "deflate", "x", "Trailers"]);
        assert!(takes_trailers(&headers));
    }
}
