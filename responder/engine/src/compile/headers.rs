//! Response headers: which recorded fields are served, and what becomes of the content coding.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    body,
    diagnostic::{Diagnostic, Diagnostics},
    snapshot::{Header, HttpResponse, RrPair, header},
};

/// Fields that belong to the recorded connection (RFC 9110, section 7.6.1) or that the server makes anew. A recorded `Date` would tell a
/// client that its fresh token comes from the future.
const NOT_SERVED: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "date",
    "http2-settings",
];

/// Makes header and body agree on the content coding. Recorders store bodies decompressed under headers that still announce a coding, so
/// the body's own bytes decide. `edited` says that chains will look into the body, which must be plain then.
pub(crate) fn settle_encoding(response: &mut HttpResponse, pair: &RrPair, edited: bool) {
    let Some(coding) = header(&response.headers, "content-encoding").cloned() else { return };
    let gzip = coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip");
    let decoded = pair.tags.get("decoded").is_some_and(|tag| tag == "true");
    if gzip && body::is_gzip(&response.body) {
        if !edited {
            return;
        }
        match body::unfolded(&response.body) {
            std::borrow::Cow::Borrowed(_) => return,
            std::borrow::Cow::Owned(plain) => response.body = plain.into(),
        }
    } else if !gzip && !decoded {
        return;
    }
    response.headers.retain(|field| !field.name.eq_ignore_ascii_case("content-encoding"));
}

/// The fields that are served.
pub(super) fn served(
    recorded: &[Header],
    subject: &dyn Fn() -> String,
    found: &mut Diagnostics,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(recorded.len());
    for (name, value) in recorded.iter().filter_map(|field| servable(field, subject, found)) {
        headers.append(name, value);
    }
    headers
}

/// The trailer fields that are served; `None` when there are none.
pub(super) fn trailers(
    recorded: &[Header],
    subject: &dyn Fn() -> String,
    found: &mut Diagnostics,
) -> Option<Box<HeaderMap>> {
    if recorded.is_empty() {
        return None;
    }
    let trailers = served(recorded, subject, found);
    (!trailers.is_empty()).then(|| Box::new(trailers))
}

/// The header fields of a response whose chains ran for a request.
pub(crate) fn served_headers(response: &HttpResponse) -> HeaderMap {
    served(&response.headers, &String::new, &mut Diagnostics::default())
}

/// The trailer fields of a response whose chains ran for a request.
pub(crate) fn served_trailers(fields: &[Header]) -> Option<Box<HeaderMap>> {
    trailers(fields, &String::new, &mut Diagnostics::default())
}

/// Whether a field is served, if it can be sent.
pub(super) fn is_served(field: &Header) -> bool {
    !NOT_SERVED.iter().any(|name| field.name.eq_ignore_ascii_case(name))
        && !field.name.starts_with(':')
}

/// A field as the server can send it; `None` when it is not served.
pub(super) fn servable(
    field: &Header,
    subject: &dyn Fn() -> String,
    found: &mut Diagnostics,
) -> Option<(HeaderName, HeaderValue)> {
    if !is_served(field) {
        return None;
    }
    let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(field.name.as_bytes()),
        HeaderValue::from_maybe_shared(field.value.clone()),
    ) else {
        found.push(
            Diagnostic::warning(
                "header_not_servable",
                "",
                "a recorded header field has characters that HTTP forbids and is left out",
            )
            .subject(subject()),
        );
        return None;
    };
    Some((name, value))
}
