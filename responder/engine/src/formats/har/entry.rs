//! One entry of a HAR.

use bytes::Bytes;

use super::body;
use crate::{
    formats::{
        exchange::Exchange,
        node::Node,
        time,
        verdict::{self, Left},
    },
    snapshot::{Header, RrPair, header},
};

/// Reads an entry. `place` names it in findings.
pub(super) fn read(text: &[u8], place: &str) -> Result<RrPair, Left> {
    let entry = Node::json(text).map_err(|left| left.within(place))?;
    exchange(&entry).map_err(|left| left.within(place))?.finish(place)
}

fn exchange(entry: &Node) -> Result<Exchange, Left> {
    let (request, response) = (entry.get("request"), entry.get("response"));
    if !request.is_map() {
        return Err(verdict::missing("request"));
    }
    let url = request.get("url").word();
    check_scheme(&url, entry)?;
    let status = response.get("status").integer();
    if !response.is_map() || status.unwrap_or_default() <= 0 {
        return Err(Left::skipped("no_response", "response", "the request got no response")
            .hint("it was blocked, aborted or still under way when the HAR was saved"));
    }
    let mut exchange = Exchange {
        source: "har",
        ts: entry.get("startedDateTime").text().and_then(time::timestamp),
        duration: millis(entry.get("time")),
        method: request.get("method").word().into_owned(),
        version: request.get("httpVersion").word().to_ascii_lowercase().replace("http/1.1", ""),
        request_headers: headers(request.get("headers")),
        status,
        reason: response.get("statusText").word().into_owned(),
        response_headers: headers(response.get("headers")),
        // The tool stores what the coding hid.
        decoded: true,
        ..Exchange::default()
    };
    exchange.set_url(&url);
    if exchange.query.is_empty() {
        exchange.query = body::form(request.get("queryString").items());
    }
    let cookies = cookies(request.get("cookies"));
    if !cookies.is_empty() {
        exchange.default_header("Cookie", cookies);
    }
    let post = request.get("postData");
    if let Some((content_type, sent)) = body::sent(post)? {
        exchange.request_body = sent;
        if !content_type.is_empty() {
            exchange.default_header("Content-Type", content_type);
        }
    }
    answer(response, &mut exchange)?;
    Ok(exchange)
}

fn answer(response: &Node, exchange: &mut Exchange) -> Result<(), Left> {
    let content = response.get("content");
    exchange.response_body = received(response, exchange)?;
    let mime = content.get("mimeType").word();
    if !mime.is_empty() && mime != "x-unknown" && !exchange.response_body.is_empty() {
        exchange.default_response_header("Content-Type", mime.into_owned());
    }
    let location = response.get("redirectURL").word();
    if !location.is_empty() && matches!(exchange.status, Some(300..=399)) {
        exchange.default_response_header("Location", location.into_owned());
    }
    if header(&exchange.response_headers, "set-cookie").is_none() {
        for cookie in response.get("cookies").items() {
            let field = set_cookie(cookie);
            exchange
                .response_headers
                .push(Header { name: "Set-Cookie".to_owned(), value: field.into() });
        }
    }
    Ok(())
}

/// The body of a response. A body that was there and is not in the file would be a wrong answer, not an empty one.
fn received(response: &Node, exchange: &Exchange) -> Result<Bytes, Left> {
    let content = response.get("content");
    if let Some(body) = body::text(content)? {
        return Ok(body);
    }
    let size = content.get("size").integer().unwrap_or_default();
    let transferred = response.get("bodySize").integer().unwrap_or_default();
    let bodiless =
        exchange.method == "HEAD" || matches!(exchange.status, Some(100..=199 | 204 | 304));
    if (size > 0 || transferred > 0) && !bodiless {
        return Err(Left::skipped(
            "body_missing",
            "response.content.text",
            "the HAR was saved without the body of this response",
        )
        .hint("save it \"with content\", and load large files again before"));
    }
    Ok(Bytes::new())
}

fn check_scheme(url: &str, entry: &Node) -> Result<(), Left> {
    let scheme = url.split([':', '/']).next().unwrap_or_default().to_ascii_lowercase();
    if matches!(scheme.as_str(), "ws" | "wss")
        || entry.get("_resourceType").text() == Some("websocket")
    {
        return Err(Left::skipped(
            "protocol_unsupported",
            "request.url",
            "this is a WebSocket; only HTTP is served",
        ));
    }
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(Left::skipped(
            "protocol_unsupported",
            "request.url",
            "this URL does not lead over HTTP (`data:`, `blob:`, `file:` and the like stay in the browser)",
        ));
    }
    Ok(())
}

/// Header fields. Some browsers write the values of a repeated field into one, one per line.
fn headers(list: &Node) -> Vec<Header> {
    let mut headers = Vec::new();
    for field in list.items() {
        let name = field.get("name").word();
        for value in field.get("value").word().split('\n') {
            if !name.is_empty() {
                let value = value.trim().to_owned().into();
                headers.push(Header { name: name.clone().into_owned(), value });
            }
        }
    }
    headers
}

fn cookies(list: &Node) -> String {
    let pairs: Vec<String> = list
        .items()
        .iter()
        .map(|cookie| format!("{}={}", cookie.get("name").word(), cookie.get("value").word()))
        .collect();
    pairs.join("; ")
}

fn set_cookie(cookie: &Node) -> String {
    let mut field = format!("{}={}", cookie.get("name").word(), cookie.get("value").word());
    for (member, attribute) in [("path", "Path"), ("domain", "Domain"), ("sameSite", "SameSite")] {
        let value = cookie.get(member).word();
        if !value.is_empty() {
            field.push_str(&format!("; {attribute}={value}"));
        }
    }
    for (member, attribute) in [("httpOnly", "; HttpOnly"), ("secure", "; Secure")] {
        if cookie.get(member).is_true() {
            field.push_str(attribute);
        }
    }
    field
}

/// Milliseconds with a fraction; what was not measured is -1.
fn millis(time: &Node) -> u64 {
    time.scalar().and_then(|text| time::duration(&format!("{text}ms"))).unwrap_or_default()
}
