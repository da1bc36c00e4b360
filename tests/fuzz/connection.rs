//! What a client sends on a connection: requests are told apart as a strict reader does, and the node behind answers.

use std::sync::LazyLock;

use countersign_engine::{snapshot::RrPair, test_config::TestConfig};
use countersign_responder::fuzz::{Node, Seen, requests};

/// Recordings of every protocol that is served.
pub(crate) fn recorded() -> Vec<RrPair> {
    const WEBSOCKET: &[u8] = include_bytes!("recordings/websocket.jsonl");
    [
        &include_bytes!("../../deploy/recipes/keycloak/recording.jsonl")[..],
        include_bytes!("../../deploy/recipes/refresh/recording.jsonl"),
        include_bytes!("../../deploy/recipes/grpc/recording.jsonl"),
        WEBSOCKET,
    ]
    .into_iter()
    .flat_map(|file| crate::read("a.jsonl", file))
    .collect()
}

/// A first byte that tells the size of the pieces in which all others arrive.
pub fn connection(data: &[u8]) {
    static NODE: LazyLock<Node> = LazyLock::new(|| {
        let pipeline = &include_bytes!("seeds/connection/pipeline")[1..];
        // The last one is not answered any more, since the client has closed its side by then.
        assert!(requests(pipeline, 7).len() >= 3, "good requests are seen");
        let config = br#"{"id":"f","responder":{"serveJwks":true,"journal":{"bodies":true}}}"#;
        let config = TestConfig::parse(config).expect("the config is sound");
        Node::new(recorded(), &config)
    });
    let Some((piece, bytes)) = data.split_first() else { return };
    let piece = usize::from(*piece);
    let _ = NODE.hear(bytes, piece);
    let seen = requests(bytes, piece);
    let strict = strict(bytes);
    let are_same = seen.iter().zip(&strict).all(|(seen, strict)| is_same(seen, strict));
    assert!(
        are_same && seen.len() <= strict.len(),
        "a strict reader sees {strict:?}, we see {seen:?}"
    );
}

fn is_same(seen: &Seen, strict: &Seen) -> bool {
    // Other forms of targets are written in another way.
    let is_plain = strict.target.starts_with('/') && !strict.target.contains('#');
    seen.method == strict.method
        && (!is_plain || seen.target == strict.target)
        && (seen.body.is_none() || seen.body == strict.body)
}

/// The requests of an HTTP/1 connection up to the first that two readers could understand differently (RFC 9112), or that is not whole.
fn strict(mut bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some((seen, rest)) = request(bytes) {
        all.push(seen);
        bytes = rest.unwrap_or_default();
    }
    all
}

/// A line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..end].strip_suffix(b"\r")?;
    (!line.contains(&b'\r')).then_some((line, &bytes[end + 1..]))
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// A request, and what follows if its body is whole.
fn request(bytes: &[u8]) -> Option<(Seen, Option<&[u8]>)> {
    let (mut first, mut rest) = line(bytes)?;
    while first.is_empty() {
        (first, rest) = line(rest)?;
    }
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let is_known = matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
    if !is_token(method) || target.is_empty() || !is_known {
        return None;
    }
    let (mut length, mut is_chunked) = (None, false);
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if !is_token(name) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(value).ok()?.parse::<u64>().ok()?;
            if length.replace(number).is_some() || !is_number {
                return None;
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if is_chunked || !value.eq_ignore_ascii_case(b"chunked") || version == b"HTTP/1.0" {
                return None;
            }
            is_chunked = true;
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = |body| Seen { method: text(method), target: text(target), body };
    if method == b"CONNECT" {
        // What follows is the tunnel's, unless it could be content.
        let is_bare = length.unwrap_or_default() == 0 && !is_chunked;
        return is_bare.then(|| (seen(Some(Vec::new())), None));
    }
    let whole = match (length, is_chunked) {
        (Some(_), true) => return None,
        (None, true) => chunks(rest),
        (length, false) => {
            let length = usize::try_from(length.unwrap_or_default()).ok();
            let whole = length.and_then(|length| rest.split_at_checked(length));
            whole.map(|(body, rest)| (body.to_vec(), rest))
        }
    };
    Some(match whole {
        Some((body, rest)) => (seen(Some(body)), Some(rest)),
        None => (seen(None), None),
    })
}

fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, behind) = line(rest)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let number = std::str::from_utf8(&size[..digits]).ok()?;
        let behind_it = &size[digits..];
        if !behind_it.is_empty() && !behind_it.trim_ascii_start().starts_with(b";") {
            return None;
        }
        rest = behind;
        let number = usize::from_str_radix(number, 16).ok()?;
        if number == 0 {
            break;
        }
        let (chunk, behind) = rest.split_at_checked(number)?;
        body.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    // The fields behind it.
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            return Some((body, rest));
        }
    }
}
