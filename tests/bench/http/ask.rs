//! What the load asks for, and what the recordings hold: the two have to agree.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use harness::recording;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pairs;

/// The algorithms that are measured.
pub(crate) const ALGS: [&str; 4] = ["RS256", "ES256", "EdDSA", "HS256"];
/// The length of the bodies that are sent.
const SENT: usize = 1024;

/// A kind of request; each has as many targets as the plan says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A token of this algorithm, by path and one query parameter.
    Token(String),
    /// The same, of a recording in which others are measured.
    Fresh(String),
    /// An order in the generated recording of any size.
    Order,
    /// Something that was never recorded, of a host that was.
    Miss,
    /// A POST of 1 KB of JSON, which alone tells which response is meant.
    Post,
    /// The same, written in another way each time: see [`rewrite`].
    Rewritten,
    /// A unary call of gRPC.
    Call,
    /// A stub of the recording that is served by others, too.
    Stub,
}

impl Ask {
    /// The path and query of a target.
    pub(crate) fn target(&self, nth: usize) -> String {
        match self {
            Self::Token(alg) => format!("/{}?u={nth}", alg.to_ascii_lowercase()),
            Self::Fresh(alg) => format!("/fresh-{}?u={nth}", alg.to_ascii_lowercase()),
            Self::Order => pairs::order(nth),
            Self::Miss => format!("/v1/nothing/{nth}"),
            Self::Post | Self::Rewritten => "/search".to_owned(),
            Self::Call => "/shop.v1.Orders/Get".to_owned(),
            Self::Stub => format!("/api/v1/items?id={nth}"),
        }
    }

    /// How long its tokens live, in seconds. Those of less than ten seconds are always signed in the second that they are given out in.
    pub(crate) fn lifetime(&self) -> i64 {
        if matches!(self, Self::Fresh(_)) { 9 } else { 3600 }
    }

    /// The host that was recorded.
    pub(crate) fn host(&self) -> &'static str {
        match self {
            Self::Order | Self::Miss => "api.shop.example",
            Self::Call => "api.example:50051",
            _ => "api.example",
        }
    }

    /// What is sent to a target.
    pub(crate) fn body(&self, nth: usize) -> Option<Vec<u8>> {
        match self {
            Self::Post => Some(search(nth).into_bytes()),
            Self::Rewritten => Some([vec![b' '; MARKS], search(nth).into_bytes()].concat()),
            Self::Call => Some(frame(&field(1, &number(nth)))),
            _ => None,
        }
    }

    /// Whether anything is sent.
    pub(crate) fn has_body(&self) -> bool {
        matches!(self, Self::Post | Self::Rewritten | Self::Call)
    }

    /// The type of what is sent.
    pub(crate) fn content_type(&self) -> &'static str {
        if matches!(self, Self::Call) { "application/grpc" } else { "application/json" }
    }

    /// A whole request of HTTP/1.1.
    pub(crate) fn write(&self, nth: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let (target, host) = (self.target(nth), self.host());
        let Some(body) = self.body(nth) else {
            return write!(out, "GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        };
        let (kind, length) = (self.content_type(), body.len());
        write!(
            out,
            "POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        )?;
        out.write_all(&body)
    }

    /// The lines of a recording that has all targets.
    pub(crate) fn record(&self, targets: usize, out: &mut impl Write) -> io::Result<()> {
        for nth in 0..targets {
            match self {
                Self::Token(alg) | Self::Fresh(alg) => {
                    let body = login(alg, nth, self.lifetime());
                    writeln!(out, "{}", recording::line("GET", &self.target(nth), &body))?;
                }
                Self::Post | Self::Rewritten => writeln!(out, "{}", posted(nth))?,
                Self::Call => writeln!(out, "{}", called(self, nth))?,
                Self::Stub => {
                    let line = recording::line("GET", &self.target(nth), &stub(nth));
                    writeln!(out, "{line}")?;
                }
                // They come from the generator of large recordings, or from nowhere.
                Self::Order | Self::Miss => {}
            }
        }
        Ok(())
    }

    /// What answers a call, in its frame.
    pub(crate) fn answer_of_call(nth: usize) -> Vec<u8> {
        frame(&field(1, &format!("order {}{}", number(nth), "x".repeat(570))))
    }

    /// Whether a body is the answer to this target. Tokens are looked at elsewhere.
    pub(crate) fn is_answer(&self, nth: usize, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        match self {
            Self::Post | Self::Rewritten | Self::Stub => text.contains(&number(nth)),
            Self::Call => text.contains(&format!("order {}", number(nth))),
            Self::Order => text.contains(r#""status":"shipped""#),
            Self::Token(_) | Self::Fresh(_) | Self::Miss => true,
        }
    }
}

/// So much white space stands before a body that is written in another way each time.
const MARKS: usize = 40;

/// Makes the white space before a body that of a turn: JSON does not tell it apart, but its bytes are others each time, and as many.
pub(crate) fn rewrite(body: &mut [u8], turn: u64) {
    for (bit, space) in body.iter_mut().take(MARKS).enumerate() {
        *space = if turn >> bit & 1 == 0 { b' ' } else { b'\t' };
    }
}

/// Numbers of one length, so that all answers have one length.
fn number(nth: usize) -> String {
    format!("{nth:08}")
}

/// The subject of a token.
pub(crate) fn subject(nth: usize) -> String {
    format!("user-{nth:06}")
}

/// A response of about 600 bytes with a token in it.
fn login(alg: &str, nth: usize, lifetime: i64) -> Value {
    const THEN: i64 = 1_700_000_000;
    let claims =
        json!({"sub": subject(nth), "role": "customer", "iat": THEN, "exp": THEN + lifetime});
    json!({"access_token": recording::old_token(alg, &claims), "token_type": "Bearer", "expires_in": lifetime, "padding": "x".repeat(200)})
}

/// A body that others serve as well: about 600 bytes.
pub(crate) fn stub(nth: usize) -> Value {
    json!({"id": number(nth), "name": "A thing of quality", "padding": "x".repeat(540)})
}

/// 1 KB of JSON as a client sends it.
fn search(nth: usize) -> String {
    let mut text = format!(r#"{{"query":{{"id":"{}","kinds":["#, number(nth));
    for kind in 0..8 {
        let comma = if kind == 0 { "" } else { "," };
        let _written =
            write!(text, r#"{comma}{{"kind":{kind},"name":"kind {kind}","wanted":true}}"#);
    }
    text.push_str(r#"]},"padding":""#);
    let rest = SENT.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', rest));
    text.push_str(r#""}"#);
    text
}

fn posted(nth: usize) -> String {
    let found = json!({"found": number(nth), "padding": "x".repeat(560)}).to_string();
    json!({
        "msgType": "rrpair", "ts": "2024-01-02T03:04:05.678901234Z", "l7protocol": "http", "direction": "OUT", "network_address": "api.example:80",
        "command": "POST", "location": "/search", "status": "200",
        "http": {
            "req": {"url": "/search", "uri": "/search", "version": "1.1", "method": "POST", "host": "api.example",
                "headers": {"Host": ["api.example"], "Content-Type": ["application/json"]}, "bodyBase64": STANDARD.encode(search(nth))},
            "res": {"statusCode": 200, "contentType": "application/json", "headers": {"Content-Type": ["application/json"]}, "bodyBase64": STANDARD.encode(found)}
        }
    })
    .to_string()
}

fn called(ask: &Ask, nth: usize) -> String {
    let answer = Ask::answer_of_call(nth);
    let end = json!({"Grpc-Status": ["0"]});
    let nothing = json!({});
    let metadata = json!({"asked": nothing, "answered": nothing});
    recording::call(&ask.target(nth), &ask.body(nth).unwrap_or_default(), &answer, &metadata, &end)
}

/// A field of text in a message of protobuf.
fn field(number: u8, text: &str) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = text.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7F).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or_default());
    out.extend_from_slice(text.as_bytes());
    out
}

/// A message as gRPC frames it.
fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(message);
    out
}
