//! One RRPair in its markdown form: visible sections laid over the internal one.
//!
//! Older recorders keep everything in the internal section too, newer ones only a skeleton; what is visible wins in both. A visible
//! message replaces the internal one as a whole, except for exact bytes that are shown as they would be.

use crate::{
    formats::{
        draft::Draft,
        fields::{multimap, object_json, quoted},
        markdown_body, markdown_head, markdown_notes,
        markdown_sections::{self, Block, Error, Message, Sections},
        rrpair_json,
        splitter::{Piece, Splitter},
        verdict::{self, Left},
    },
    snapshot::{Header, HttpRequest, HttpResponse, RrPair, header},
};

/// The extra member that holds the trailers of a message.
const TRAILERS: &str = "trailers";

/// Reads one file.
pub(super) fn read(text: &[u8]) -> Result<RrPair, Error> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = text.iter().take(error.valid_up_to()).filter(|b| **b == b'\n').count();
        let left = Left::refused(
            "invalid_utf8",
            "",
            format!("the file is not UTF-8 at its byte {}", error.valid_up_to()),
        )
        .hint("binary bodies belong into `bodyBase64` of the INTERNAL section");
        (u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1), left)
    })?;
    // A file whose first line ends in CRLF has been converted as a whole, bodies included.
    let converted = text
        .split_once('\n')
        .is_some_and(|(first, _)| first.ends_with('\r'))
        .then(|| text.replace("\r\n", "\n"));
    let text = converted.as_deref().unwrap_or(text);
    if text.trim().is_empty() {
        return Err((1, Left::skipped("empty_file", "", "the file is empty")));
    }
    let Some(sections) = markdown_sections::cut(text)? else {
        let left = Left::skipped(
            "not_a_recording",
            "",
            "this is no recording: it has no section such as `### REQUEST ###`",
        );
        return Err((1, left));
    };
    let mut draft = internal(sections.internal)?;
    request(&sections, &mut draft)?;
    response(&sections, &mut draft)?;
    if let Some(block) = sections.signature {
        draft.pair.signature = markdown_notes::signature(block, &draft.pair.signature)?;
    }
    if let Some(block) = sections.metadata {
        markdown_notes::metadata(block, &mut draft.pair)?;
    }
    draft.finish().map_err(|left| {
        let message = if left.why.path.starts_with("http.res") {
            sections.response
        } else {
            sections.request
        };
        (message.map_or(1, |message| message.head.line), left)
    })
}

/// The draft of the internal section; an empty one when there is none.
fn internal(block: Option<Block<'_>>) -> Result<Draft, Error> {
    let Some(block) = block else { return Ok(Draft::default()) };
    let text = block.text.trim();
    let json = text.strip_prefix("json:").unwrap_or(text);
    if json.trim().is_empty() {
        return Ok(Draft::default());
    }
    let mut pieces = Vec::new();
    let mut splitter = Splitter::new(false);
    splitter.push(json.as_bytes(), &mut |piece| pieces.push(piece));
    splitter.finish(&mut |piece| pieces.push(piece));
    let damaged = |why: Left| {
        let left = Left::refused(
            "internal_invalid",
            "INTERNAL",
            format!("the internal section is damaged: {}", why.why.message),
        )
        .hint("remove the section: the visible ones suffice");
        (block.line, left)
    };
    match pieces.into_iter().next() {
        Some(Piece::Entry { text, .. }) => {
            let text = String::from_utf8(text).unwrap_or_default();
            rrpair_json::draft(&text)
                .map_err(|left| if left.skipped { (block.line, left) } else { damaged(left) })
        }
        Some(Piece::Broken { left, .. }) => Err(damaged(left)),
        None => Ok(Draft::default()),
    }
}

fn request(sections: &Sections<'_>, draft: &mut Draft) -> Result<(), Error> {
    let Some(Message { head, body }) = sections.request else {
        // A responder-only recording never had a request; its internal section says so.
        if draft.request.is_none() && draft.response.is_some() && is_signed(sections, draft) {
            return Ok(());
        }
        let known = draft.request.take().unwrap_or_default();
        // An older recording has the request in its internal section, a newer one only a skeleton of it.
        if known.headers.is_empty() && known.body.is_empty() {
            return Err((
                1,
                verdict::missing("REQUEST").hint(
                    "a recording needs the sections `### REQUEST ###` and `### RESPONSE ###`",
                ),
            ));
        }
        draft.request = Some(known);
        return Ok(());
    };
    let known = draft.request.take().unwrap_or_default();
    if is_shown_request(head.text, &known, draft) {
        let body = bytes(body, &known.headers, &known.body);
        draft.request = Some(HttpRequest { body, ..known });
        return Ok(());
    }
    let mut lines = head.text.split('\n');
    let Some(line) = lines.next().and_then(markdown_head::request_line) else {
        let left = Left::refused("request_line_invalid", "REQUEST", "this is no request line")
            .hint("write `METHOD scheme://host[:port]/path?query HTTP/1.1`");
        return Err((head.line, left));
    };
    let fields = markdown_head::fields(lines, head.line.saturating_add(1), "REQUEST")?;
    if !line.scheme.is_empty() {
        draft.pair.l7protocol.clone_from(&line.scheme);
    }
    if draft.pair.l7protocol.is_empty() {
        "http".clone_into(&mut draft.pair.l7protocol);
    }
    if draft.pair.network_address.is_empty() && !draft.no_upstream {
        draft.pair.network_address = with_port(line.authority, &draft.pair.l7protocol);
    }
    let host = match header(&fields.headers, "host") {
        Some(host) => String::from_utf8_lossy(host).into_owned(),
        None => line.authority.to_owned(),
    };
    let body = bytes(body, &fields.headers, &known.body);
    replace_trailers(&mut draft.extra.req, &fields.trailers);
    draft.request = Some(HttpRequest {
        method: line.method.to_owned(),
        path: line.path.to_owned(),
        query: line.query.to_owned(),
        version: line.version,
        host,
        headers: fields.headers,
        body,
    });
    Ok(())
}

fn response(sections: &Sections<'_>, draft: &mut Draft) -> Result<(), Error> {
    let known = draft.response.take().unwrap_or_default();
    let Some(Message { head, body }) = sections.response else {
        if known.headers.is_empty() && known.body.is_empty() {
            return Err((
                1,
                verdict::missing("RESPONSE").hint(
                    "a recording needs the sections `### REQUEST ###` and `### RESPONSE ###`",
                ),
            ));
        }
        draft.response = Some(known);
        return Ok(());
    };
    if let Some(status) = draft.status
        && is_shown_response(head.text, status, &known, &draft.extra.res)
    {
        let body = bytes(body, &known.headers, &known.body);
        draft.response = Some(HttpResponse { body, ..known });
        return Ok(());
    }
    let mut lines = head.text.split('\n');
    let mut line = head.line;
    let mut status_message = known.status_message;
    match lines.clone().next().and_then(markdown_head::status_line) {
        Some((Some(status), message)) => {
            draft.status = Some(status);
            message.clone_into(&mut status_message);
            lines.next();
            line = line.saturating_add(1);
        }
        None if sections.mock => draft.status = draft.status.or(Some(200)),
        _ => {
            let left = Left::refused("status_line_invalid", "RESPONSE", "this is no status line")
                .hint("write for example `HTTP/1.1 200 OK`");
            return Err((head.line, left));
        }
    }
    let fields = markdown_head::fields(lines, line, "RESPONSE")?;
    let body = bytes(body, &fields.headers, &known.body);
    replace_trailers(&mut draft.extra.res, &fields.trailers);
    draft.response =
        Some(HttpResponse { status: 0, status_message, headers: fields.headers, body });
    Ok(())
}

/// Whether there is a signature, without which a pair needs a request.
fn is_signed(sections: &Sections<'_>, draft: &Draft) -> bool {
    sections.signature.is_some() || !draft.pair.signature.is_empty()
}

/// Whether a visible head is how the internal request would be shown, so that nobody has edited it.
fn is_shown_request(head: &str, known: &HttpRequest, draft: &Draft) -> bool {
    let upstream_known = draft.no_upstream || !draft.pair.network_address.is_empty();
    upstream_known
        && head.trim_end() == show_request(known, &draft.pair, &draft.extra.req).trim_end()
}

/// How the head of a request is shown.
pub(super) fn show_request(
    request: &HttpRequest,
    pair: &RrPair,
    extra: &[(String, String)],
) -> String {
    let line = markdown_head::show_request_line(request, &pair.l7protocol, &pair.network_address);
    line + &markdown_head::show_fields(&request.headers, &known_trailers(extra))
}

/// Whether a visible head is how the internal response would be shown. The version is not the response's own.
fn is_shown_response(
    head: &str,
    status: i64,
    known: &HttpResponse,
    extra: &[(String, String)],
) -> bool {
    head.split_once(' ').is_some_and(|(version, rest)| {
        version.starts_with("HTTP/")
            && rest.trim_end() == show_response(status, known, extra).trim_end()
    })
}

/// How the head of a response is shown, without the version before it.
pub(super) fn show_response(
    status: i64,
    response: &HttpResponse,
    extra: &[(String, String)],
) -> String {
    let line = markdown_head::show_status(status, &response.status_message);
    line + &markdown_head::show_fields(&response.headers, &known_trailers(extra))
}

/// The trailers among the extra members of a message.
fn known_trailers(extra: &[(String, String)]) -> Vec<Header> {
    let Some(fields) =
        extra.iter().find(|(name, _)| name == TRAILERS).and_then(|(_, json)| multimap(json))
    else {
        return Vec::new();
    };
    fields
        .into_iter()
        .flat_map(|(name, values)| {
            values.into_iter().map(move |value| Header { name: name.clone(), value: value.into() })
        })
        .collect()
}

/// The visible trailers take the place of the internal ones.
fn replace_trailers(extra: &mut Vec<(String, String)>, visible: &[Header]) {
    if let Some(visible) = trailers(visible) {
        extra.retain(|(name, _)| name != TRAILERS);
        extra.push(visible);
    }
}

/// The bytes of a body. A body that no fence can hold has no block, and stands in the internal section alone.
fn bytes(shown: Option<Block<'_>>, headers: &[Header], exact: &bytes::Bytes) -> bytes::Bytes {
    let Some(shown) = shown else { return exact.clone() };
    let content_type = header(headers, "content-type").map(AsRef::as_ref).unwrap_or_default();
    markdown_body::restore(shown.text, content_type, Some(exact))
}

/// `host:port` of an authority that may lack the port.
fn with_port(host: &str, protocol: &str) -> String {
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    match protocol {
        _ if host.is_empty() || has_port => host.to_owned(),
        "https" => format!("{host}:443"),
        _ => format!("{host}:80"),
    }
}

/// Trailers as an extra member: pairs have no place for them.
fn trailers(trailers: &[Header]) -> Option<(String, String)> {
    let members: Vec<(String, String)> = trailers
        .iter()
        .map(|header| {
            (header.name.clone(), format!("[{}]", quoted(&String::from_utf8_lossy(&header.value))))
        })
        .collect();
    (!members.is_empty()).then(|| (TRAILERS.to_owned(), object_json(&members)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::Direction;

    const REQUEST: &str = "### REQUEST ###\n```\nPOST https://api.test:8443/login?next=/a HTTP/1.1\nAccept: a\\, b\nContent-Type: application/json\n\
        Host: api.test\n```\n\n```\n{\n  \"user\": \"x\",\n  \"a\": 1.0\n}\n```\n\n";
    const RESPONSE: &str = "### RESPONSE ###\n```\nHTTP/1.1 201 Created\nContent-Type: application/json\nSet-Cookie: a=1, b=2\n```\n\n```\n{\n  \
        \"token\": \"t\"\n}\n```\n\n";
    const SIGNATURE: &str = "### SIGNATURE ###\n```\nhttp:method is POST\nhttp:queryparams is -NONE-\nhttp:url is /edited\n```\n\n";
    const METADATA: &str = "### METADATA ###\n```\ndirection: IN\nuuid: 00010203-0405-0607-0809-0a0b0c0d0e0f\nts: 1970-01-01T00:00:01Z\n\
        duration: 3ms\ntags: decoded=true, sequence=1\n```\n\n";
    const INTERNAL: &str = "### INTERNAL - DO NOT MODIFY ###\n```\njson: {\"msgType\":\"rrpair\",\"resource\":\"r\",\"l7protocol\":\"http\",\"direction\":\"OUT\",\
        \"tags\":{\"proxyLocation\":\"in\"},\"service\":\"s\",\"http\":{\"req\":{\"url\":\"/x\",\"uri\":\"/x\",\"method\":\"GET\",\"host\":\"old.test\"},\
        \"res\":{\"statusCode\":404,\"statusMessage\":\"404 Not Found\"}},\"signature\":{\"http:url\":\"L3g=\",\"gone\":\"\"}}\n```\n";

    fn check(parts: &[&str]) -> RrPair {
        read(parts.concat().as_bytes()).unwrap()
    }

    #[test]
    fn visible_sections_override_the_internal_one() {
        let pair = check(&[REQUEST, RESPONSE, SIGNATURE, METADATA, INTERNAL]);
        let request = pair.request.as_ref().unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.query.as_str()),
            ("POST", "/login", "next=/a")
        );
        assert_eq!(
            (request.host.as_str(), request.body.as_ref()),
            ("api.test", &br#"{"user":"x","a":1.0}"#[..])
        );
        assert_eq!(request.headers[0].value, "a, b");
        assert_eq!(
            (pair.l7protocol.as_str(), pair.network_address.as_str()),
            ("https", "api.test:8443")
        );
        assert_eq!(
            (pair.response.status, pair.response.status_message.as_str()),
            (201, "201 Created")
        );
        assert_eq!(pair.response.headers.iter().filter(|h| h.name == "Set-Cookie").count(), 2);
        assert_eq!(
            pair.signature.keys().collect::<Vec<_>>(),
            ["http:method", "http:queryparams", "http:url"]
        );
        assert_eq!(pair.signature["http:url"], "/edited");
        assert_eq!(
            (pair.direction, pair.duration, pair.service.as_str()),
            (Direction::In, 3_000_000, "s")
        );
        assert_eq!(
            (pair.tags["proxyLocation"].as_str(), pair.tags["sequence"].as_str()),
            ("in", "1")
        );
        assert_eq!(pair.extra_json, r#"{"resource":"r"}"#);
    }

    #[test]
    fn sections_stand_in_any_order_with_any_line_ends() {
        let expected = check(&[REQUEST, RESPONSE, SIGNATURE, METADATA, INTERNAL]);
        assert_eq!(check(&[INTERNAL, "\n", METADATA, RESPONSE, SIGNATURE, REQUEST]), expected);
        let text =
            [REQUEST, RESPONSE, SIGNATURE, METADATA, INTERNAL].concat().replace('\n', "\r\n");
        assert_eq!(read(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn two_sections_suffice() {
        let pair = check(&[REQUEST, RESPONSE]);
        assert_eq!(
            (pair.direction, pair.signature.len(), pair.extra_json.as_str()),
            (Direction::Out, 0, "")
        );
        let bare = check(&[
            "### REQUEST ###\n```\nGET /a HTTP/1.1\nHost: h.test\n```\n### RESPONSE ###\n```\nHTTP/1.1 204 No Content\n```\n",
        ]);
        assert_eq!((bare.l7protocol.as_str(), bare.network_address.as_str()), ("http", ""));
        assert_eq!(bare.request.unwrap().host, "h.test");
    }

    #[test]
    fn the_legacy_title_may_lack_the_status_line() {
        let mock = "### RESPONSE (MOCK) ###\n```\nX: 1\n```\n\n```\nhi\n```\n\n";
        assert_eq!(check(&[mock, REQUEST]).response.status, 200);
        let pair = check(&[mock, REQUEST, INTERNAL]);
        assert_eq!((pair.response.status, pair.response.body.as_ref()), (404, &b"hi"[..]));
        assert_eq!(
            check(&[&mock.replace("X: 1", "HTTP/1.1 500 Oops\nX: 1"), REQUEST]).response.status,
            500
        );
    }

    #[test]
    fn the_internal_body_is_taken_where_it_says_the_same() {
        let internal = INTERNAL.replace(
            "\"host\":\"old.test\"",
            "\"host\":\"old.test\",\"bodyBase64\":\"eyJ1c2VyIjogIngiLCAiYSI6IDEuMH0=\"",
        );
        assert_eq!(
            check(&[REQUEST, RESPONSE, &internal]).request.unwrap().body,
            r#"{"user": "x", "a": 1.0}"#
        );
        let edited = REQUEST.replace("\"x\"", "\"y\"");
        assert_eq!(
            check(&[&edited, RESPONSE, &internal]).request.unwrap().body,
            r#"{"user":"y","a":1.0}"#
        );
        let whole = internal.replace("\"statusCode\":404", "\"statusCode\":404,\"body\":\"no\"");
        let pair = check(&[&whole]);
        assert_eq!((pair.request.unwrap().path.as_str(), pair.response.status), ("/x", 404));
    }

    #[test]
    fn trailers_are_kept_apart() {
        let response = RESPONSE.replace("Set-Cookie: a=1, b=2", "Trailer: X-Sum\nX-Sum: 7");
        let pair = check(&[REQUEST, &response]);
        assert_eq!(pair.response.headers.len(), 2);
        assert_eq!(pair.extra_json, r#"{"http":{"res":{"trailers":{"X-Sum":["7"]}}}}"#);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, skipped, code) in [
            (String::new(), 1, true, "empty_file"),
            ("# Read me\n".to_owned(), 1, true, "not_a_recording"),
            (METADATA.to_owned(), 1, false, "missing_field"),
            ([REQUEST, METADATA, INTERNAL].concat(), 1, false, "missing_field"),
            ([RESPONSE, INTERNAL].concat(), 1, false, "missing_field"),
            (
                [&RESPONSE.replace("HTTP/1.1 201 Created\n", ""), REQUEST].concat(),
                3,
                false,
                "status_line_invalid",
            ),
            ([&RESPONSE.replace("201", "2o1"), REQUEST].concat(), 3, false, "status_line_invalid"),
            ([&RESPONSE.replace("201", "99"), REQUEST].concat(), 3, false, "invalid_field"),
            (
                [&REQUEST.replace("POST https", "https"), RESPONSE].concat(),
                3,
                false,
                "request_line_invalid",
            ),
            ([&REQUEST.replace("Host: ", "Host "), RESPONSE].concat(), 6, false, "header_invalid"),
            (
                [REQUEST, RESPONSE, &INTERNAL.replace("{\"msg", "{msg")].concat(),
                31,
                false,
                "internal_invalid",
            ),
            (INTERNAL.replace("\"http\"", "\"nats\""), 3, true, "protocol_unsupported"),
        ] {
            let (at, left) = read(text.as_bytes()).unwrap_err();
            assert_eq!((at, left.skipped, left.why.code), (line, skipped, code), "{text}");
        }
        assert_eq!(read(b"### REQUEST ###\n```\n\xff").unwrap_err().0, 3);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0_usize..1400, bytes in proptest::collection::vec(any::<u8>(), 0..8), remove in 0_usize..40) {
            let mut text = [REQUEST, RESPONSE, SIGNATURE, METADATA, INTERNAL].concat().into_bytes();
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, bytes);
            let _ = read(&text).is_ok();
        }

        #[test]
        fn no_text_panics(text in "(### REQUEST ###\n|```\n|GET /a HTTP/1.1\n|A: b\n|### RESPONSE ###\n|HTTP/1.1 200\n|.{0,5}\n){0,20}") {
            let _ = read(text.as_bytes()).is_ok();
        }
    }
}
