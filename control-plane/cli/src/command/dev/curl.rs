//! Recorded requests as lines for a shell.

use std::collections::BTreeSet;

use countersign_proto::snapshot::v1::{Direction, RrPair, ServeDirection};

/// Longer bodies make no line to try.
const BODY: usize = 600;

/// How many different requests are recorded: method, host and path.
pub(crate) fn endpoints(records: &[RrPair]) -> usize {
    records.iter().map(endpoint).collect::<BTreeSet<_>>().len()
}

/// The pairs that are served.
pub(crate) fn served(records: Vec<RrPair>, serve: ServeDirection) -> Vec<RrPair> {
    let keep = |pair: &RrPair| match serve {
        ServeDirection::All => true,
        ServeDirection::In => pair.direction() == Direction::In,
        ServeDirection::Out | ServeDirection::Unspecified => pair.direction() != Direction::In,
    };
    records.into_iter().filter(keep).collect()
}

/// Up to three lines for different requests: one with a body first, since a login mostly has one. Bodies may hold recorded passwords, so that
/// they are left out unless asked for.
pub(crate) fn lines(base: &str, records: &[RrPair], bodies: bool) -> Vec<String> {
    let hosts: BTreeSet<&str> = records.iter().map(host).collect();
    let mut seen = BTreeSet::new();
    let mut distinct: Vec<&RrPair> =
        records.iter().filter(|pair| seen.insert(endpoint(pair))).collect();
    distinct.retain(|pair| has_body(pair).is_none_or(|fits| fits && bodies));
    distinct.sort_by_key(|pair| has_body(pair).is_none());
    let with_body = distinct.iter().filter(|pair| has_body(pair).is_some()).take(1);
    let without = distinct.iter().filter(|pair| has_body(pair).is_none()).take(2);
    with_body.chain(without).map(|pair| line(base, pair, hosts.len() > 1)).collect()
}

/// Whether there is a body, and if so, whether it makes a line.
fn has_body(pair: &RrPair) -> Option<bool> {
    let body = &pair.request.as_ref()?.body;
    let fits =
        body.len() <= BODY && std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'));
    (!body.is_empty()).then_some(fits)
}

fn line(base: &str, pair: &RrPair, many_hosts: bool) -> String {
    let mut line = "curl -s".to_owned();
    let Some(request) = &pair.request else { return line };
    let body = std::str::from_utf8(&request.body).unwrap_or_default();
    let implied = if body.is_empty() { "GET" } else { "POST" };
    if request.method != implied {
        line.push_str(&format!(" -X {}", quote(&request.method)));
    }
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    line.push_str(&format!(" {}", quote(&format!("{base}{}{query}", request.path))));
    if many_hosts {
        line.push_str(&format!(" -H {}", quote(&format!("Host: {}", host(pair)))));
    }
    if !body.is_empty() {
        let kind =
            request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
        if let Some(kind) = kind.and_then(|header| std::str::from_utf8(&header.value).ok())
            && kind != "application/x-www-form-urlencoded"
        {
            line.push_str(&format!(" -H {}", quote(&format!("Content-Type: {kind}"))));
        }
        line.push_str(&format!(" --data-raw {}", quote(body)));
    }
    line
}

/// Quotes for a POSIX shell, where it is needed.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=%@+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn endpoint(pair: &RrPair) -> (&str, &str, &str) {
    match &pair.request {
        Some(request) => (request.method.as_str(), host(pair), request.path.as_str()),
        None => (pair.command.as_str(), "", pair.location.as_str()),
    }
}

fn host(pair: &RrPair) -> &str {
    pair.request.as_ref().map_or("", |request| request.host.as_str())
}

#[cfg(test)]
mod tests {
    use countersign_proto::snapshot::v1::{Header, HttpRequest};

    use super::*;

    fn pair(method: &str, host: &str, path: &str, body: &'static str) -> RrPair {
        let kind = Header { name: "content-type".into(), value: "application/json".into() };
        let request = HttpRequest {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            headers: vec![kind],
            body: body.into(),
            ..HttpRequest::default()
        };
        RrPair { request: Some(request), ..RrPair::default() }
    }

    #[test]
    fn the_login_comes_first_and_its_body_only_when_asked_for() {
        let records = [
            pair("GET", "a", "/me", ""),
            pair("GET", "a", "/me", ""),
            pair("POST", "a", "/login", r#"{"name":"it's me"}"#),
            pair("DELETE", "a", "/x y", ""),
            pair("GET", "a", "/z", ""),
        ];
        assert_eq!(endpoints(&records), 4);
        assert_eq!(
            lines("http://h:1", &records, true),
            [
                r#"curl -s http://h:1/login -H 'Content-Type: application/json' --data-raw '{"name":"it'\''s me"}'"#,
                "curl -s http://h:1/me",
                "curl -s -X DELETE 'http://h:1/x y'",
            ]
        );
        assert_eq!(lines("http://h:1", &records, false).len(), 2);
    }

    #[test]
    fn the_host_is_named_when_there_are_several() {
        let records = [pair("GET", "a", "/", ""), pair("GET", "b", "/", "")];
        assert_eq!(
            lines("http://h:1", &records, true),
            ["curl -s http://h:1/ -H 'Host: a'", "curl -s http://h:1/ -H 'Host: b'"]
        );
    }

    #[test]
    fn only_what_is_served_counts() {
        let pair =
            |direction: Direction| RrPair { direction: direction.into(), ..RrPair::default() };
        let all = || vec![pair(Direction::In), pair(Direction::Out), pair(Direction::Unspecified)];
        let count = |serve| served(all(), serve).len();
        assert_eq!(
            [ServeDirection::In, ServeDirection::Out, ServeDirection::All].map(count),
            [1, 2, 3]
        );
    }
}
