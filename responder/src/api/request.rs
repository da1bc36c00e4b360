//! From a message to the request that it describes, as if it had come through the HTTP listener.

use bytes::Bytes;
use countersign_proto::snapshot::v1::{Header, HttpRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts};

use super::problem::Problem;
use crate::server::read::Received;

/// The most header fields of a request.
const FIELDS: usize = 1000;

/// Reads a request of at most `limit` bytes of body.
pub(super) fn read(
    request: Option<HttpRequest>,
    trailers: &[Header],
    replay: String,
    limit: usize,
) -> Result<Received, Problem> {
    let request = request.ok_or_else(|| {
        Problem::field("request", "MISSING", "describe the request to be answered")
    })?;
    if request.body.len() > limit {
        let message = format!("the body is larger than {limit} bytes");
        return Err(Problem::field("request.body", "BODY_TOO_LARGE", message));
    }
    let mut headers = fields("request.headers", &request.headers)?;
    if !request.host.is_empty() {
        headers.insert(header::HOST, value("request.host", request.host.as_bytes())?);
    }
    let trailers = fields("trailers", trailers)?;
    let parts = parts(&request, headers)?;
    let replay = (!replay.is_empty()).then_some(replay);
    let trailers = (!trailers.is_empty()).then_some(trailers);
    Ok(Received::new(parts, request.body, trailers, replay))
}

fn parts(request: &HttpRequest, headers: HeaderMap) -> Result<Parts, Problem> {
    let invalid = |field: &str, message: String| Problem::field(field, "INVALID", message);
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| invalid("request.method", "it is not a method such as GET".to_owned()))?;
    if method == Method::CONNECT {
        return Err(invalid("request.method", "CONNECT is not supported".to_owned()));
    }
    if !request.path.starts_with('/') || request.path.contains(['?', '#']) {
        let message = "a path begins with / and has no query".to_owned();
        return Err(invalid("request.path", message));
    }
    let target = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let uri = Uri::try_from(target).map_err(|error| invalid("request.path", error.to_string()))?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.headers = headers;
    // Whoever asks in this way takes trailers.
    parts.version = Version::HTTP_2;
    Ok(parts)
}

fn fields(path: &str, given: &[Header]) -> Result<HeaderMap, Problem> {
    if given.len() > FIELDS {
        let message = format!("there are more than {FIELDS} header fields");
        return Err(Problem::field(path, "TOO_MANY", message));
    }
    let mut fields = HeaderMap::with_capacity(given.len());
    for (nth, field) in given.iter().enumerate() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|error| {
            Problem::field(format!("{path}[{nth}].name"), "INVALID", error.to_string())
        })?;
        fields.append(name, value(&format!("{path}[{nth}].value"), &field.value)?);
    }
    Ok(fields)
}

fn value(path: &str, bytes: &[u8]) -> Result<HeaderValue, Problem> {
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(bytes))
        .map_err(|error| Problem::field(path, "INVALID", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, query: &str) -> HttpRequest {
        HttpRequest {
            method: "GET".into(),
            path: path.into(),
            query: query.into(),
            host: "api.example".into(),
            ..HttpRequest::default()
        }
    }

    fn field(request: HttpRequest) -> String {
        match read(Some(request), &[], String::new(), 10) {
            Err(Problem::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_becomes_the_request_that_it_describes() {
        let mut message = get("/a%20b", "x=1");
        message.headers = vec![
            Header { name: "X-A".into(), value: "1".into() },
            Header { name: "x-a".into(), value: "2".into() },
            Header { name: "x-countersign-replay".into(), value: "r".into() },
        ];
        let received = read(Some(message.clone()), &[], String::new(), 10).unwrap();
        let request = received.request();
        assert_eq!((request.host, request.path, request.query), ("api.example", "/a%20b", "x=1"));
        assert_eq!(request.headers.get_all("x-a").iter().count(), 2);
        assert!(!request.headers.contains_key("x-countersign-replay"));
        assert_eq!(received.selection.replay.as_deref(), Some("r"));
        let received = read(Some(message), &[], "s".into(), 10).unwrap();
        assert_eq!(received.selection.replay.as_deref(), Some("s"), "the message is asked first");
    }

    #[test]
    fn what_is_no_request_is_named() {
        assert_eq!(field(HttpRequest { method: "G T".into(), ..get("/", "") }), "request.method");
        assert_eq!(
            field(HttpRequest { method: "CONNECT".into(), ..get("/", "") }),
            "request.method"
        );
        for path in ["", "a", "/a?b", "/a b", "http://x/"] {
            assert_eq!(field(get(path, "")), "request.path", "{path}");
        }
        assert_eq!(field(HttpRequest { body: vec![0; 11].into(), ..get("/", "") }), "request.body");
        let header = Header { name: "x".into(), value: "a\nb".into() };
        let request = HttpRequest { headers: vec![header], ..get("/", "") };
        assert_eq!(field(request), "request.headers[0].value");
        assert!(read(None, &[], String::new(), 10).is_err());
    }
}
