//! A pair in the making: what a recording says, before anything is demanded of it.
//!
//! JSON gives a whole draft at once; markdown lays its visible sections over the draft of its internal one. [`Draft::finish`] is the only
//! way to a pair, so that both are held to the same rules.

use crate::{
    formats::{
        MAX_HEADERS, fields,
        verdict::{self, Left},
    },
    snapshot::{Header, HttpRequest, HttpResponse, RrPair},
};

/// What is known of a pair.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Everything beside the messages and `extra_json`.
    pub(super) pair: RrPair,
    /// The request; a part that is not known is empty.
    pub(super) request: Option<HttpRequest>,
    /// The response; its status is kept apart.
    pub(super) response: Option<HttpResponse>,
    /// The status code as recorded.
    pub(super) status: Option<i64>,
    /// The recording says that there was no upstream, rather than nothing about it.
    pub(super) no_upstream: bool,
    /// What is not modelled of the pair, its request, its response and the rest of `http`, as members of JSON objects.
    pub(super) extra: Extra,
}

/// What is not modelled, as the texts of JSON objects; empty where there is nothing.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) top: Vec<(String, String)>,
    pub(super) http: Vec<(String, String)>,
    pub(super) req: Vec<(String, String)>,
    pub(super) res: Vec<(String, String)>,
}

impl Extra {
    fn into_json(self) -> String {
        let Self { mut top, mut http, req, res } = self;
        for (name, members) in [("req", req), ("res", res)] {
            if !members.is_empty() {
                http.push((name.to_owned(), fields::object_json(&members)));
            }
        }
        if !http.is_empty() {
            top.push(("http".to_owned(), fields::object_json(&http)));
        }
        fields::object_json(&top)
    }
}

impl Draft {
    /// The pair, if it can be served.
    pub(super) fn finish(self) -> Result<RrPair, Left> {
        let Self { mut pair, request, response, status, no_upstream: _, extra } = self;
        match &request {
            Some(request) => check_request(request)?,
            // A responder-only recording is matched by its recorded signature alone.
            None if pair.signature.is_empty() => {
                return Err(verdict::missing("http.req")
                    .hint("without a request, a pair needs a `signature`"));
            }
            None => {}
        }
        let Some(mut response) = response else {
            return Err(verdict::missing("http.res")
                .hint("the pair was recorded without a response and cannot be served"));
        };
        response.status = check_status(status)?;
        check_headers(&response.headers, "http.res.headers")?;
        pair.request = request.map(|request| with_host(request, &pair.network_address));
        pair.response = response;
        pair.extra_json = extra.into_json();
        Ok(pair)
    }
}

fn check_request(request: &HttpRequest) -> Result<(), Left> {
    if request.method.is_empty() {
        return Err(verdict::missing("http.req.method"));
    }
    if http::Method::from_bytes(request.method.as_bytes()).is_err() {
        return Err(verdict::invalid("http.req.method", "an HTTP method"));
    }
    if request.path.is_empty() {
        return Err(verdict::missing("http.req.url"));
    }
    if request.path.contains(is_control) || request.query.contains(is_control) {
        return Err(verdict::invalid("http.req.url", "free of control characters"));
    }
    check_headers(&request.headers, "http.req.headers")
}

/// A request without a host went to the recorded upstream.
fn with_host(mut request: HttpRequest, upstream: &str) -> HttpRequest {
    if request.host.is_empty() {
        upstream.clone_into(&mut request.host);
    }
    request
}

fn check_status(status: Option<i64>) -> Result<u16, Left> {
    let status = status.ok_or_else(|| verdict::missing("http.res.statusCode"))?;
    u16::try_from(status)
        .ok()
        .filter(|status| (100..=999).contains(status))
        .ok_or_else(|| verdict::invalid("http.res.statusCode", "a status between 100 and 999"))
}

/// Header fields that could not be written, or would end the head early, are refused here, so that nobody downstream has to think of it.
fn check_headers(headers: &[Header], path: &str) -> Result<(), Left> {
    if headers.len() > MAX_HEADERS {
        return Err(Left::refused(
            "limit_exceeded",
            path,
            format!("there are more than {MAX_HEADERS} header fields"),
        ));
    }
    for header in headers {
        if http::HeaderName::from_bytes(header.name.as_bytes()).is_err() {
            return Err(Left::refused(
                "header_invalid",
                path,
                "a header name is not an HTTP token",
            ));
        }
        if http::HeaderValue::from_maybe_shared(header.value.clone()).is_err() {
            let path = format!("{path}.{}", header.name);
            return Err(Left::refused(
                "header_invalid",
                path,
                "a header value holds a line break or another control character",
            ));
        }
    }
    Ok(())
}

fn is_control(c: char) -> bool {
    c.is_ascii_control()
}
