//! What kind of file it is: told by its first bytes, and by its name where they tell nothing.

use crate::formats::{
    body_files::is_body_file,
    message::{self, Start},
};

/// So many bytes are looked at, at most.
const LOOK: usize = 16 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A pair in markdown.
    Markdown,
    /// Objects of JSON: pairs, or a document of another tool.
    Json,
    /// Objects of JSON, one per line.
    JsonLines,
    /// A HAR, whose entries are read as they arrive.
    Har,
    /// GoReplay's requests and responses.
    GoReplay,
    /// HTTP messages as text.
    Messages,
    /// A document of another tool in YAML.
    Yaml,
    /// A zip archive of such files.
    Zip,
    /// The body of an exchange, and nothing else.
    BodyFile,
}

/// What a name says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// The kind that the extension stands for.
    pub(super) kind: Kind,
    /// Walkers of directories take it up.
    pub(super) recording: bool,
}

impl Named {
    /// Looks at the extension, and for text at the whole name.
    pub(super) fn of(path: &str) -> Option<Self> {
        if is_body_file(path) {
            return Some(Self { kind: Kind::BodyFile, recording: true });
        }
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let (_, extension) = name.rsplit_once('.')?;
        let kind = [
            ("md", Kind::Markdown),
            ("json", Kind::Json),
            ("jsonl", Kind::JsonLines),
            ("har", Kind::Json),
            ("gor", Kind::GoReplay),
            ("txt", Kind::Messages),
            ("yaml", Kind::Yaml),
            ("yml", Kind::Yaml),
            ("zip", Kind::Zip),
        ]
        .into_iter()
        .find(|(known, _)| extension.eq_ignore_ascii_case(known))
        .map(|(_, kind)| kind)?;
        let recording = kind != Kind::Messages || half_name(path).is_some();
        Some(Self { kind, recording })
    }
}

/// Which half of which exchange a file called `Req7.txt` or `Res7.txt` holds: the name without the word, and whether it is the request.
pub(super) fn half_name(path: &str) -> Option<(String, bool)> {
    let (folder, name) = match path.rfind(['/', '\\']).and_then(|at| path.split_at_checked(at + 1))
    {
        Some((folder, name)) => (folder, name),
        None => ("", path),
    };
    let lower = name.to_ascii_lowercase();
    let (rest, request) = ["request", "req"]
        .iter()
        .find_map(|word| lower.strip_prefix(word).map(|rest| (rest, true)))
        .or_else(|| {
            ["response", "resp", "res"]
                .iter()
                .find_map(|word| lower.strip_prefix(word).map(|rest| (rest, false)))
        })?;
    let number = rest.trim_start_matches(['-', '_', ' ']).strip_suffix(".txt")?;
    let digits =
        !number.is_empty() && number.len() <= 20 && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| (format!("{folder}{number}"), request))
}

/// The kind of a file that begins so; `None` while more has to be seen.
pub(super) fn sniff(seen: &[u8], named: Option<Kind>) -> Option<Kind> {
    if named == Some(Kind::BodyFile) {
        return named;
    }
    if seen.starts_with(b"PK\x03\x04") || seen.starts_with(b"PK\x05\x06") {
        return Some(Kind::Zip);
    }
    let enough = seen.len() >= LOOK;
    let text = seen.strip_prefix(BYTE_ORDER_MARK).unwrap_or(seen).trim_ascii_start();
    let told = match text.first() {
        // Half a byte order mark tells nothing yet.
        Some(0xEF) if seen.len() < BYTE_ORDER_MARK.len() => None,
        Some(b'{' | b'[') if named == Some(Kind::JsonLines) => Some(Kind::JsonLines),
        Some(b'{') => begins_har(text).map(|har| if har { Kind::Har } else { Kind::Json }),
        Some(b'[') => Some(Kind::Json),
        Some(_) => match named {
            Some(Kind::Markdown | Kind::Json | Kind::JsonLines) => named,
            _ => by_line(text, named),
        },
        None => None,
    };
    told.or_else(|| enough.then(|| named.unwrap_or(Kind::Markdown)))
}

/// The kind of text by its first line; `None` until it is complete.
fn by_line(text: &[u8], named: Option<Kind>) -> Option<Kind> {
    if b"PK\x03\x04".starts_with(text) {
        return None;
    }
    if !text.contains(&b'\n') {
        return None;
    }
    let (first, _) = message::line(text);
    if is_goreplay(first) {
        return Some(Kind::GoReplay);
    }
    if Start::parse(first).is_some() {
        return Some(Kind::Messages);
    }
    let yaml = [&b"openapi:"[..], b"swagger:", b"\"openapi\":", b"---", b"%YAML"];
    if named.is_none() && yaml.iter().any(|word| first.starts_with(word)) {
        return Some(Kind::Yaml);
    }
    Some(named.unwrap_or(Kind::Markdown))
}

/// Whether a line is the head of a payload of GoReplay: kind, id and time.
pub(super) fn is_goreplay(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(kind), Some(id), Some(time)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    matches!(kind, b"1" | b"2" | b"3")
        && !id.is_empty()
        && id.iter().all(u8::is_ascii_alphanumeric)
        && !time.is_empty()
        && time.iter().all(u8::is_ascii_digit)
}

/// Whether an object begins with `{"log": {`; `None` while that cannot be known.
fn begins_har(text: &[u8]) -> Option<bool> {
    let mut rest = text;
    for part in [&b"{"[..], b"\"log\"", b":", b"{"] {
        rest = rest.trim_ascii_start();
        if rest.len() < part.len() {
            return if part.starts_with(rest) { None } else { Some(false) };
        }
        match rest.strip_prefix(part) {
            Some(after) => rest = after,
            None => return Some(false),
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_of_halves() {
        for (path, expected) in [
            ("a/Req1.txt", Some(("a/1", true))),
            ("a/Res1.txt", Some(("a/1", false))),
            ("request_12.TXT", Some(("12", true))),
            ("x\\response-12.txt", Some(("x\\12", false))),
            ("Resp7.txt", Some(("7", false))),
            ("Requirements.txt", None),
            ("Req.txt", None),
            ("Req1.md", None),
            ("notes.txt", None),
        ] {
            assert_eq!(
                half_name(path),
                expected.map(|(key, request)| (key.to_owned(), request)),
                "{path}"
            );
        }
    }

    #[test]
    fn content_comes_before_names() {
        for (text, named, expected) in [
            ("{\"log\": {\"entries\"", None, Some(Kind::Har)),
            ("\u{feff}{ \"log\" :\n{", Some(Kind::Json), Some(Kind::Har)),
            ("{\"log\": [", Some(Kind::Json), Some(Kind::Json)),
            ("{\"lo", Some(Kind::Json), None),
            ("{\"a", Some(Kind::Json), Some(Kind::Json)),
            ("{\"log\":{", Some(Kind::JsonLines), Some(Kind::JsonLines)),
            ("{}", Some(Kind::Messages), Some(Kind::Json)),
            ("1 abc 123\nGET", None, Some(Kind::GoReplay)),
            ("1 abc 123\nGET", Some(Kind::Messages), Some(Kind::GoReplay)),
            ("GET / HTTP/1.1\r\n", Some(Kind::GoReplay), Some(Kind::Messages)),
            ("HTTP/1.1 200 OK\n", None, Some(Kind::Messages)),
            ("HTTP/1.1 200 OK\n", Some(Kind::Markdown), Some(Kind::Markdown)),
            ("openapi: 3.0.0\n", None, Some(Kind::Yaml)),
            ("# x\nopenapi: 3.0.0\n", Some(Kind::Yaml), Some(Kind::Yaml)),
            ("### REQUEST ###\n", None, Some(Kind::Markdown)),
            ("PK\x03\x04", Some(Kind::Json), Some(Kind::Zip)),
            ("PK", None, None),
            ("", None, None),
        ] {
            assert_eq!(sniff(text.as_bytes(), named), expected, "{text:?} {named:?}");
        }
        assert_eq!(sniff(&[b' '; LOOK], Some(Kind::Yaml)), Some(Kind::Yaml));
    }
}
