//! One RRPair in its JSON form.
//!
//! What is not modelled goes to `extra_json` as it was written; bodies are taken from base64 and never re-serialised.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    formats::{
        draft::{Draft, Extra},
        fields::{Fields, base64_string, scalar},
        foreign,
        target::{query_of, split_target, version},
        time,
        verdict::{self, Left},
    },
    snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair, header, wire},
};

/// Reads one entry of a file.
pub(super) fn read(text: &[u8]) -> Result<RrPair, Left> {
    let text = std::str::from_utf8(text).map_err(|error| {
        Left::refused(
            "invalid_utf8",
            "",
            format!("the entry is not UTF-8 at its byte {}", error.valid_up_to()),
        )
        .hint("binary bodies belong into `bodyBase64`")
    })?;
    draft(text)?.finish()
}

/// Reads what the JSON says, demanding nothing of it but that it is an HTTP pair.
pub(super) fn draft(text: &str) -> Result<Draft, Left> {
    let mut top = Fields::parse_pair(text)?;
    foreign::check_kind(&mut top)?;
    let mut draft = Draft::default();
    let protocol = top.text("l7protocol")?.unwrap_or_default().to_ascii_lowercase();
    let Some(mut http) = top.object("http")? else {
        return Err(foreign::without_http(&top, &protocol));
    };
    draft.no_upstream = top.peek("network_address") == Some("\"\"");
    common(&mut top, &mut draft.pair)?;
    if draft.pair.tags.get("responsePayloadDropped").is_some_and(|dropped| dropped == "true") {
        return Err(Left::skipped(
            "response_dropped",
            "tags.responsePayloadDropped",
            "the pair was stored without its response body",
        )
        .hint("import `raw.jsonl` or `reaction.jsonl` of the same snapshot instead"));
    }
    draft.pair.l7protocol = match protocol.as_str() {
        "http" | "https" => protocol,
        // gRPC, GraphQL and WebSocket ride on HTTP.
        _ if top.peek("isTls") == Some("true") => "https".to_owned(),
        _ => "http".to_owned(),
    };
    if let Some(fields) = http.object("req")? {
        draft.request = Some(request(fields, &mut draft.extra)?);
    }
    if let Some(fields) = http.object("res")? {
        let (response, status) = response(fields, &mut draft.extra)?;
        draft.response = Some(response);
        draft.status = status;
    }
    draft.pair.signature = signature(&mut top)?;
    if let Some(raw) = top.raw("stub") {
        // Only our own exports have it; what somebody else calls so is kept as it is.
        let stub = base64_string(raw).and_then(|bytes| wire::stub_from_bytes(&bytes).ok());
        if stub.is_none() {
            top.put_back("stub", raw);
        }
        draft.pair.stub = stub.map(Box::new);
    }
    draft.extra.http = http.into_rest();
    draft.extra.top = top.into_rest();
    Ok(draft)
}

fn common(top: &mut Fields<'_>, pair: &mut RrPair) -> Result<(), Left> {
    if let Some(raw) = top.raw("uuid") {
        pair.uuid = scalar(raw).and_then(|text| uuid(&text, raw));
        if pair.uuid.is_none() {
            top.put_back("uuid", raw);
        }
    }
    if let Some(raw) = top.raw("ts") {
        pair.ts = scalar(raw).and_then(|text| time::timestamp(&text));
        if pair.ts.is_none() {
            top.put_back("ts", raw);
        }
    }
    if let Some(text) = top.text("direction")? {
        pair.direction =
            direction(&text).ok_or_else(|| verdict::invalid("direction", "`IN` or `OUT`"))?;
    }
    let millis = top.integer("duration")?.map(time::millis);
    let elapsed = match top.text("elapsed")? {
        Some(text) => {
            Some(time::duration(&text).ok_or_else(|| verdict::invalid("elapsed", "a duration"))?)
        }
        None => None,
    };
    pair.duration = elapsed.or(millis).unwrap_or_default();
    // Old recordings call the same map `meta`.
    let tags_name = if top.has("tags") { "tags" } else { "meta" };
    pair.tags = tags(top, tags_name)?;
    for (name, field) in [
        ("service", &mut pair.service),
        ("cluster", &mut pair.cluster),
        ("namespace", &mut pair.namespace),
        ("tech", &mut pair.tech),
        ("network_address", &mut pair.network_address),
        ("command", &mut pair.command),
        ("location", &mut pair.location),
        ("status", &mut pair.status),
        ("session", &mut pair.session),
    ] {
        *field = top.text(name)?.unwrap_or_default();
    }
    Ok(())
}

/// An id: 16 bytes of base64, or the dashed form.
fn uuid(text: &str, raw: &str) -> Option<[u8; 16]> {
    if text.len() == 36 {
        return uuid::Uuid::try_parse(text).ok().map(uuid::Uuid::into_bytes);
    }
    base64_string(raw)?.as_ref().try_into().ok()
}

/// A direction by name, or by its number in the protobuf form.
pub(super) fn direction(text: &str) -> Option<Direction> {
    match text.to_ascii_uppercase().as_str() {
        "IN" | "1" => Some(Direction::In),
        "OUT" | "2" | "0" | "" => Some(Direction::Out),
        _ => None,
    }
}

fn tags(top: &mut Fields<'_>, name: &str) -> Result<BTreeMap<String, String>, Left> {
    let mut tags = BTreeMap::new();
    let Some(fields) = top.object(name)? else { return Ok(tags) };
    for (tag, raw) in fields.rest() {
        tags.insert(
            tag.to_owned(),
            scalar(raw).ok_or_else(|| verdict::invalid(fields.path(tag), "a string"))?,
        );
    }
    Ok(tags)
}

fn request(mut fields: Fields<'_>, extra: &mut Extra) -> Result<HttpRequest, Left> {
    let url = fields.text("url")?.unwrap_or_default();
    let uri = fields.text("uri")?.filter(|uri| !uri.is_empty());
    let (path, query) = match &uri {
        Some(uri) => split_target(uri),
        None => split_target(&url),
    };
    let (path, mut query) = (path.to_owned(), query.to_owned());
    if uri.is_none()
        && query.is_empty()
        && let Some(raw) = fields.peek("queryParams")
    {
        query = query_of(raw).ok_or_else(|| {
            verdict::invalid(fields.path("queryParams"), "a map from names to arrays of strings")
        })?;
    }
    let headers = headers(&mut fields)?;
    let recorded_host = fields.text("host")?.unwrap_or_default();
    let host = match header(&headers, "host") {
        Some(value) if recorded_host.is_empty() => String::from_utf8_lossy(value).into_owned(),
        _ => recorded_host,
    };
    let request = HttpRequest {
        method: fields.text("method")?.unwrap_or_default(),
        path,
        query,
        version: version(&fields.text("version")?.unwrap_or_default()),
        host,
        headers,
        body: body(&mut fields)?,
    };
    extra.req = fields.into_rest();
    Ok(request)
}

fn response(
    mut fields: Fields<'_>,
    extra: &mut Extra,
) -> Result<(HttpResponse, Option<i64>), Left> {
    let status = fields.integer("statusCode")?;
    let mut response = HttpResponse {
        status: 0,
        status_message: fields.text("statusMessage")?.unwrap_or_default(),
        headers: headers(&mut fields)?,
        body: body(&mut fields)?,
    };
    // `contentType` repeats a header field; where the header map was trimmed it is the only copy.
    let content_type =
        fields.peek("contentType").and_then(|raw| serde_json::from_str::<String>(raw).ok());
    if let Some(value) = content_type.filter(|value| !value.is_empty())
        && header(&response.headers, "content-type").is_none()
    {
        // In its place among the sorted names, where the next reader of the pair will find it.
        let at = response.headers.partition_point(|header| header.name.as_str() < "Content-Type");
        let field = Header { name: "Content-Type".to_owned(), value: value.into() };
        response.headers.insert(at, field);
    }
    extra.res = fields.into_rest();
    Ok((response, status))
}

/// Headers by name. Their order across names is not recorded; pseudo-headers only repeat the request line.
fn headers(fields: &mut Fields<'_>) -> Result<Vec<Header>, Left> {
    let Some(map) = fields.multimap("headers")? else { return Ok(Vec::new()) };
    let mut headers = Vec::new();
    for (name, values) in map {
        if !name.starts_with(':') {
            headers.extend(
                values.into_iter().map(|value| Header { name: name.clone(), value: value.into() }),
            );
        }
    }
    Ok(headers)
}

/// The body: base64 is authoritative, text is a copy for reading.
fn body(fields: &mut Fields<'_>) -> Result<Bytes, Left> {
    let exact = fields.bytes("bodyBase64")?;
    let path = fields.path("body");
    let Some(raw) = fields.raw("body") else { return Ok(exact.unwrap_or_default()) };
    match exact {
        Some(exact) => Ok(exact),
        None => serde_json::from_str::<String>(raw).map(Bytes::from).map_err(|_| {
            verdict::invalid(path, "a string")
                .hint("write a JSON body as text, or as base64 in `bodyBase64`")
        }),
    }
}

fn signature(top: &mut Fields<'_>) -> Result<BTreeMap<String, Bytes>, Left> {
    let mut signature = BTreeMap::new();
    if let Some(fields) = top.object("signature")? {
        for (key, raw) in fields.rest() {
            let value =
                base64_string(raw).ok_or_else(|| verdict::invalid(fields.path(key), "base64"))?;
            signature.insert(key.to_owned(), value);
        }
    }
    // The readable twin stays in the extras; it counts only where there is no exact one.
    if signature.is_empty()
        && let Some(raw) = top.peek("mutableSignature")
    {
        let twin =
            Fields::parse(raw).map_err(|_| verdict::invalid("mutableSignature", "an object"))?;
        for (key, raw) in twin.rest() {
            let value = scalar(raw)
                .ok_or_else(|| verdict::invalid(format!("mutableSignature.{key}"), "a string"))?;
            signature.insert(key.to_owned(), value.into());
        }
    }
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAIR: &str = r#"{"msgType":"rrpair","resource":"shop","ts":"1970-01-01T00:00:01.5Z","isTls":true,"l7protocol":"https","duration":3,
        "elapsed":"0.002105s","tags":{"decoded":"true","sequence":7},"uuid":"AAECAwQFBgcICQoLDA0ODw==","direction":"IN","cluster":"c",
        "namespace":"n","service":"s","tech":"JSON","network_address":"api.test:443","command":"POST","location":"/a","status":"201",
        "session":"JWT:x","netinfo":{"id":"1","downstream":{"bytesSent":"703"}},"bytes":12345678901234567890,"unknown":[ 1.50 ],
        "http":{"req":{"url":"/a","uri":"/a?x=1&y","version":"1.1","method":"POST","host":"api.test","cookies":[{"name":"k"}],
            "headers":{"X-B":["1","2"],"Accept":["a, b"]},"bodyBase64":"eyJhIjogMX0=","body":"not this"},
          "res":{"contentType":"text/plain","statusCode":201,"statusMessage":"201 Created","headers":{"Content-Length":["2"]},"body":"h\u00e9"}},
        "signature":{"http:method":"UE9TVA==","http:hash":"/wA=","http:queryparams":""},"mutableSignature":{"http:method":"POST"}}"#;

    fn pair() -> RrPair {
        read(PAIR.as_bytes()).unwrap()
    }

    fn changed(from: &str, to: &str) -> Result<RrPair, Left> {
        assert!(PAIR.contains(from), "{from}");
        read(PAIR.replace(from, to).as_bytes())
    }

    #[test]
    fn a_content_type_that_stands_beside_the_headers_is_served() {
        let content_type = |pair: &RrPair| header(&pair.response.headers, "content-type").cloned();
        assert_eq!(content_type(&pair()).unwrap(), "text/plain");
        let both =
            changed(r#"{"Content-Length":["2"]}"#, r#"{"content-type":["text/html"]}"#).unwrap();
        assert_eq!(content_type(&both).unwrap(), "text/html");
        assert_eq!(content_type(&changed(r#""contentType":"text/plain","#, "").unwrap()), None);
    }

    #[test]
    fn reads_what_is_modelled() {
        let pair = pair();
        assert_eq!(pair.uuid.unwrap()[15], 15);
        assert_eq!(
            (pair.ts, pair.duration, pair.direction),
            (Some(1_500_000_000), 2_105_000, Direction::In)
        );
        assert_eq!(
            (pair.l7protocol.as_str(), pair.network_address.as_str(), pair.service.as_str()),
            ("https", "api.test:443", "s")
        );
        assert_eq!((pair.tags["decoded"].as_str(), pair.tags["sequence"].as_str()), ("true", "7"));
        let request = pair.request.unwrap();
        assert_eq!(
            (request.path.as_str(), request.query.as_str(), request.host.as_str()),
            ("/a", "x=1&y", "api.test")
        );
        assert_eq!(request.body, "{\"a\": 1}");
        let headers: Vec<(&str, &[u8])> =
            request.headers.iter().map(|h| (h.name.as_str(), h.value.as_ref())).collect();
        assert_eq!(headers, [("Accept", &b"a, b"[..]), ("X-B", b"1"), ("X-B", b"2")]);
        assert_eq!((pair.response.status, pair.response.body.as_ref()), (201, "hé".as_bytes()));
        assert_eq!(pair.signature["http:hash"], &b"\xff\0"[..]);
        assert_eq!(pair.signature["http:queryparams"], "");
    }

    #[test]
    fn keeps_everything_else_as_written() {
        assert_eq!(
            pair().extra_json,
            r#"{"bytes":12345678901234567890,"isTls":true,"mutableSignature":{"http:method":"POST"},"netinfo":{"id":"1","downstream":{"bytesSent":"703"}},"resource":"shop","unknown":[1.50],"http":{"req":{"cookies":[{"name":"k"}]},"res":{"contentType":"text/plain"}}}"#
        );
    }

    #[test]
    fn falls_back_to_older_spellings() {
        assert!(changed(r#""unknown":"#, r#""meta":"#).unwrap().extra_json.contains("meta"));
        assert_eq!(changed(r#""tags":"#, r#""meta":"#).unwrap().tags.len(), 2);
        assert_eq!(changed(r#""elapsed":"0.002105s","#, "").unwrap().duration, 3_000_000);
        assert_eq!(
            changed(r#""signature":"#, r#""other":"#).unwrap().signature["http:method"],
            "POST"
        );
        assert_eq!(
            changed(
                r#""uuid":"AAECAwQFBgcICQoLDA0ODw==""#,
                r#""uuid":"00010203-0405-0607-0809-0a0b0c0d0e0f""#
            )
            .unwrap()
            .uuid,
            pair().uuid
        );
        assert_eq!(changed(r#""direction":"IN","#, "").unwrap().direction, Direction::Out);
        assert_eq!(
            changed(r#""statusCode":201"#, r#""statusCode":"201""#).unwrap().response.status,
            201
        );
        let by_params =
            changed(r#""uri":"/a?x=1&y""#, r#""queryParams":{"b":["1 2"],"a":["é","&"]}"#)
                .unwrap()
                .request
                .unwrap();
        assert_eq!(
            (by_params.path.as_str(), by_params.query.as_str()),
            ("/a", "a=%C3%A9&a=%26&b=1+2")
        );
        let absolute = changed(r#""uri":"/a?x=1&y""#, r#""uri":"https://api.test?z""#)
            .unwrap()
            .request
            .unwrap();
        assert_eq!((absolute.path.as_str(), absolute.query.as_str()), ("/", "z"));
        let unreadable = changed("1970-01-01T00:00:01.5Z", "then").unwrap();
        assert!(unreadable.ts.is_none() && unreadable.extra_json.contains(r#""ts":"then""#));
    }

    #[test]
    fn responder_only_lines_need_a_signature() {
        let line = r#"{"msgType":"rrpair","http":{"res":{"statusCode":200},"sig":{"method":"GET","url":"/"}},"signature":{"http:url":"Lw=="}}"#;
        let pair = read(line.as_bytes()).unwrap();
        assert_eq!(pair.request, None);
        assert_eq!(pair.extra_json, r#"{"http":{"sig":{"method":"GET","url":"/"}}}"#);
        let unsigned = line.replace("signature", "sgnature");
        assert_eq!(read(unsigned.as_bytes()).unwrap_err().why.path, "http.req");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (from, to, code, path) in [
            (r#""statusCode":201"#, r#""statusCode":99"#, "invalid_field", "http.res.statusCode"),
            (r#""statusCode":201"#, r#""statusCode":1000"#, "invalid_field", "http.res.statusCode"),
            (r#""statusCode":201"#, r#""statusCode":"ok""#, "invalid_field", "http.res.statusCode"),
            (r#""statusCode":201,"#, "", "missing_field", "http.res.statusCode"),
            (r#""method":"POST","host""#, r#""host""#, "missing_field", "http.req.method"),
            (r#""url":"/a","uri":"/a?x=1&y","#, "", "missing_field", "http.req.url"),
            (r#""res":{"#, r#""rez":{"#, "missing_field", "http.res"),
            (r#""http":{"#, r#""htttp":{"#, "missing_field", "http"),
            (r#""eyJhIjogMX0=""#, r#""*""#, "invalid_field", "http.req.bodyBase64"),
            (r#""h\u00e9""#, r#"{"a":1}"#, "invalid_field", "http.res.body"),
            (r#""h\u00e9""#, r#""\ud800""#, "invalid_field", "http.res.body"),
            (r#""direction":"IN""#, r#""direction":"UP""#, "invalid_field", "direction"),
            (r#""UE9TVA==""#, "1", "invalid_field", "signature.http:method"),
            (r#""X-B":["1","2"]"#, r#""X B":["1"]"#, "header_invalid", "http.req.headers"),
            (
                r#""X-B":["1","2"]"#,
                r#""X-B":["1\r\nEvil: 1"]"#,
                "header_invalid",
                "http.req.headers.X-B",
            ),
            (r#""X-B":["1","2"]"#, r#""X-B":{"a":1}"#, "invalid_field", "http.req.headers"),
        ] {
            let left = changed(from, to).unwrap_err();
            assert_eq!(
                (left.skipped, left.why.code, left.why.path.as_str()),
                (false, code, path),
                "{to}"
            );
        }
    }

    #[test]
    fn what_cannot_be_served_is_skipped_with_a_reason() {
        for (json, code, says) in [
            (r#"{"msgType":"event","name":"x"}"#, "not_a_pair", "`event`"),
            (
                r#"{"msgType":"rrpair","l7protocol":"postgres","postgres":{}}"#,
                "protocol_unsupported",
                "Postgres",
            ),
            (
                r#"{"msgType":"rrpair","l7protocol":"amqp091","AmqpV091":{}}"#,
                "protocol_unsupported",
                "AMQP",
            ),
            (
                r#"{"msgType":"rrpair","l7protocol":"redis","array":{"values":[]}}"#,
                "protocol_unsupported",
                "Redis",
            ),
            (
                r#"{"msgType":"rrpair","apiKey":1,"correlationId":2,"FetchRequest":{}}"#,
                "protocol_unsupported",
                "Kafka",
            ),
            (
                r#"{"msgType":"rrpair","tags":{"responsePayloadDropped":"true"},"http":{"req":{},"res":{}}}"#,
                "response_dropped",
                "without its response",
            ),
        ] {
            let left = read(json.as_bytes()).unwrap_err();
            assert_eq!((left.skipped, left.why.code), (true, code), "{json}");
            assert!(left.why.message.contains(says), "{}", left.why);
        }
    }

    #[test]
    fn a_message_with_too_many_fields_is_refused() {
        let many: Vec<String> = (0..=1000).map(|_| "\"x\"".to_owned()).collect();
        let left = changed(r#"["1","2"]"#, &format!("[{}]", many.join(","))).unwrap_err();
        assert_eq!(left.why.code, "limit_exceeded");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0_usize..1000, bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut text = PAIR.as_bytes().to_vec();
            let at = at.min(text.len());
            let end = (at + bytes.len()).min(text.len());
            text.splice(at..end, bytes);
            let _ = read(&text).is_ok();
        }
    }
}
