//! What a recording says of a response that no server may send: such a pair is served in a form that every client reads alike, and this is told.
//!
//! The form is: no body where there can be none, and a length that is counted anew.

use crate::{
    compile::name_of,
    diagnostic::Diagnostic,
    snapshot::{RrPair, header},
};

/// What of a pair cannot be sent as it was recorded.
#[must_use]
pub fn remark(pair: &RrPair) -> Option<Diagnostic> {
    let response = &pair.response;
    let method = pair.request.as_ref().map(|request| request.method.as_str());
    let told = |code, path, message: &str| {
        Some(Diagnostic::info(code, path, format!("{}: {message}", name_of(pair))))
    };
    if !response.body.is_empty() {
        if matches!(response.status, 204 | 304) {
            let message =
                "a response of this status has no body, and the recorded one is not served";
            return told("body_not_served", "http.res.body", message);
        }
        if method == Some("HEAD") {
            let message = "the response to HEAD has no body, and the recorded one is not served";
            return told("body_not_served", "http.res.body", message);
        }
    }
    let length = header(&response.headers, "content-length")?;
    let at = "http.res.headers.Content-Length";
    if header(&response.headers, "transfer-encoding").is_some() {
        return told("length_not_served", at, "it is chunked as well; the length is counted anew");
    }
    let several =
        response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let said = std::str::from_utf8(length).ok().and_then(|said| said.trim().parse::<usize>().ok());
    if several.count() > 1 || said.is_none() {
        return told("length_not_served", at, "it is not one number; the length is counted anew");
    }
    // A recorder that unpacks bodies leaves the length of the packed ones.
    let unpacked = header(&response.headers, "content-encoding").is_some()
        || pair.tags.get("decoded").is_some_and(|tag| tag == "true");
    let has_body = method != Some("HEAD") && !matches!(response.status, 204 | 304);
    if has_body && !unpacked && said != Some(response.body.len()) {
        return told("length_not_served", at, "the body has another length, which is served");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Header, HttpRequest, HttpResponse};

    fn pair(method: &str, status: u16, headers: &[(&str, &str)], body: &str) -> RrPair {
        let field = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: value.as_bytes().to_vec().into(),
        };
        RrPair {
            request: Some(HttpRequest { method: method.into(), ..HttpRequest::default() }),
            response: HttpResponse {
                status,
                headers: headers.iter().map(field).collect(),
                body: body.as_bytes().to_vec().into(),
                ..HttpResponse::default()
            },
            ..RrPair::default()
        }
    }

    #[test]
    fn what_cannot_be_sent_is_told_and_nothing_else() {
        let code = |pair: &RrPair| remark(pair).map(|found| found.code);
        for (method, status, headers, body, expected) in [
            ("GET", 204, &[][..], "x", Some("body_not_served")),
            ("GET", 304, &[], "x", Some("body_not_served")),
            ("HEAD", 200, &[], "x", Some("body_not_served")),
            ("HEAD", 200, &[("Content-Length", "5")], "", None),
            ("GET", 304, &[("Content-Length", "5")], "", None),
            ("GET", 200, &[("Content-Length", "5")], "hello", None),
            ("GET", 200, &[("Content-Length", "5"), ("Content-Encoding", "gzip")], "hi", None),
            ("GET", 200, &[("Content-Length", "5")], "hi", Some("length_not_served")),
            ("GET", 200, &[("content-length", "x")], "hi", Some("length_not_served")),
            (
                "GET",
                200,
                &[("Content-Length", "2"), ("Content-Length", "3")],
                "hi",
                Some("length_not_served"),
            ),
            (
                "GET",
                200,
                &[("Content-Length", "2"), ("Transfer-Encoding", "chunked")],
                "hi",
                Some("length_not_served"),
            ),
            ("GET", 200, &[("Transfer-Encoding", "chunked")], "hi", None),
        ] {
            assert_eq!(
                code(&pair(method, status, headers, body)),
                expected,
                "{method} {status} {headers:?}"
            );
        }
    }
}
