//! gRPC bodies: length-prefixed messages, and the shapes in which recordings hold them.
//!
//! A recorded body is frames as they were on the wire, one bare message, or the JSON form of one or several; gRPC-Web adds base64 and
//! trailers in a frame of their own. Everything is brought into one shape, plain uncompressed frames, so that each kind of client is served
//! from each kind of recording. In signatures and chains a body is its JSON form: an object for one message, a list for several.

mod methods;
mod settle;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value as Json;

use crate::{
    body::{self, BodyKey},
    json,
    protobuf::{self, form::Purpose},
    request::Request,
    snapshot::{Header, RrPair, header},
};
pub use methods::Method;
pub(crate) use methods::Methods;
pub(crate) use settle::settle;

/// How all content types of gRPC begin.
const GRPC: &[u8] = b"application/grpc";
/// A longer form of a body takes part in a signature by its hash.
const MAX_KEY: usize = 64 * 1024;
/// More messages than these are not told apart.
const MAX_MESSAGES: usize = 100_000;
/// The flag of a frame that holds a compressed message.
const COMPRESSED: u8 = 1;
/// The flag of a frame that holds the trailers of gRPC-Web.
const TRAILERS: u8 = 0x80;

/// Whether a content type is one of gRPC or gRPC-Web.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((head, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    head.eq_ignore_ascii_case(GRPC)
        && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '))
}

/// Whether a content type is one of gRPC-Web; `Some(true)` for its text form, which is base64.
#[must_use]
pub fn web(content_type: &[u8]) -> Option<bool> {
    let rest = is_grpc(content_type).then(|| content_type.get(GRPC.len()..)).flatten()?;
    let is = |word: &[u8]| {
        rest.split_at_checked(word.len()).is_some_and(|(head, _)| head.eq_ignore_ascii_case(word))
    };
    is(b"-web").then(|| is(b"-web-text"))
}

/// A body, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Messages<'b> {
    pub(crate) messages: Vec<Message<'b>>,
    /// The trailers of gRPC-Web.
    pub(crate) trailers: Vec<Header>,
    /// It was held as frames.
    pub(crate) framed: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message<'b> {
    pub(crate) bytes: Cow<'b, [u8]>,
    /// It could not be decompressed.
    pub(crate) folded: bool,
}

impl<'b> Message<'b> {
    fn plain(bytes: impl Into<Cow<'b, [u8]>>) -> Self {
        Self { bytes: bytes.into(), folded: false }
    }

    /// Appends the JSON form.
    pub(crate) fn write_form(&self, purpose: Purpose, out: &mut Vec<u8>) {
        if !self.folded {
            if let Some(fields) = protobuf::read(&self.bytes) {
                return protobuf::form::write(&fields, purpose, out);
            }
            // Another codec: JSON stays JSON where it is only compared.
            if purpose == Purpose::Compare
                && self.bytes.first() == Some(&b'{')
                && let Ok(canonical) = json::canonical(&self.bytes)
            {
                return out.extend_from_slice(&canonical);
            }
        }
        protobuf::form::write_bytes(&self.bytes, out);
    }
}

/// Takes a body apart; `None` when it holds no messages in any of the shapes.
pub(crate) fn read(body: &[u8]) -> Option<Messages<'_>> {
    match body.first() {
        None => return Some(Messages::default()),
        Some(0 | 1 | &TRAILERS | 0x81) => return frames(body),
        Some(b'{' | b'[') => {
            if let Some(messages) = forms(body) {
                return Some(messages);
            }
        }
        Some(_) => {}
    }
    if let Some(decoded) = base64_frames(body) {
        return Some(frames(&decoded)?.into_owned());
    }
    protobuf::read(body)
        .map(|_| Messages { messages: vec![Message::plain(body)], ..Messages::default() })
}

impl Messages<'_> {
    fn into_owned(self) -> Messages<'static> {
        let messages = self.messages.into_iter().map(|message| Message {
            bytes: Cow::Owned(message.bytes.into_owned()),
            folded: message.folded,
        });
        Messages { messages: messages.collect(), trailers: self.trailers, framed: self.framed }
    }

    /// The messages as frames.
    pub(crate) fn to_frames(&self) -> Bytes {
        let size = self.messages.iter().map(|message| message.bytes.len() + 5).sum();
        let mut out = Vec::with_capacity(size);
        for message in &self.messages {
            write_frame(u8::from(message.folded), &message.bytes, &mut out);
        }
        out.into()
    }

    /// The JSON form; `listed` makes a list of a single message.
    pub(crate) fn form(&self, listed: bool, purpose: Purpose) -> Vec<u8> {
        let mut out = Vec::new();
        if let ([message], false) = (self.messages.as_slice(), listed) {
            message.write_form(purpose, &mut out);
            return out;
        }
        out.push(b'[');
        for (nth, message) in self.messages.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            message.write_form(purpose, &mut out);
        }
        out.push(b']');
        out
    }
}

/// Appends a frame.
pub(crate) fn write_frame(flag: u8, message: &[u8], out: &mut Vec<u8>) {
    out.push(flag);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(message);
}

fn frames(mut body: &[u8]) -> Option<Messages<'_>> {
    let mut out = Messages { framed: true, ..Messages::default() };
    while let Some(([flag, length @ ..], rest)) = body.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (message, rest) = rest.split_at_checked(length)?;
        body = rest;
        if flag & TRAILERS != 0 {
            out.trailers.extend(web_trailers(&unfolded(flag & COMPRESSED, message).bytes));
        } else if *flag <= COMPRESSED && out.messages.len() < MAX_MESSAGES {
            out.messages.push(unfolded(*flag, message));
        } else {
            return None;
        }
    }
    body.is_empty().then_some(out)
}

/// A message behind its compression, which shows by itself: gzip or zlib.
fn unfolded(flag: u8, message: &[u8]) -> Message<'_> {
    if flag != COMPRESSED {
        return Message::plain(message);
    }
    match body::unfold(message).or_else(|| body::unfold_zlib(message)) {
        Some(plain) => Message::plain(plain),
        None => Message { bytes: Cow::Borrowed(message), folded: true },
    }
}

fn web_trailers(text: &[u8]) -> Vec<Header> {
    let text = String::from_utf8_lossy(text);
    let fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| Header {
            name: name.trim().to_ascii_lowercase(),
            value: value.trim().to_owned().into(),
        })
        .collect()
}

/// The text form of gRPC-Web may be several pieces of base64, each with its own padding.
fn base64_frames(text: &[u8]) -> Option<Vec<u8>> {
    // The flags of all frames make the first character `A` or `g`.
    if !matches!(text.first(), Some(b'A' | b'g')) || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'=').unwrap_or(rest.len());
        let padding = rest.iter().skip(end).take_while(|byte| **byte == b'=').count();
        let (piece, tail) = rest.split_at_checked(end + padding)?;
        STANDARD.decode_vec(piece, &mut out).ok()?;
        rest = tail;
    }
    Some(out)
}

fn forms(body: &[u8]) -> Option<Messages<'static>> {
    let form: Json = serde_json::from_slice(body).ok()?;
    let one = |form: &Json| protobuf::form::encode(form).map(Message::plain);
    let messages = match &form {
        Json::Array(forms) => forms.iter().map(one).collect::<Option<Vec<_>>>()?,
        form => vec![one(form)?],
    };
    Some(Messages { messages, ..Messages::default() })
}

/// How a body takes part in a signature.
pub(crate) fn key(body: &[u8]) -> BodyKey {
    let Some(messages) = read(body) else { return BodyKey::Hash(body::sha256(body)) };
    // Some recorders leave a message without fields out altogether.
    if messages.messages.iter().all(|message| message.bytes.is_empty()) {
        return BodyKey::None;
    }
    let form = messages.form(false, Purpose::Compare);
    if form.len() > MAX_KEY { BodyKey::Hash(body::sha256(&form)) } else { BodyKey::Json(form) }
}

/// The frames of a body, or the body itself where it holds none.
pub(crate) fn normal(body: &[u8]) -> Option<Bytes> {
    let messages = read(body)?;
    let as_it_is = messages.framed && body.first() == Some(&0) && messages.trailers.is_empty();
    let unfolded = !has_compressed(body);
    if as_it_is && unfolded { None } else { Some(messages.to_frames()) }
}

/// Each frame of a body by itself.
pub(crate) fn split(body: &Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = body.clone();
    while let Some(([_, length @ ..], _)) = rest.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let length = length.saturating_add(5).min(rest.len());
        frames.push(rest.split_to(length));
    }
    frames
}

/// Whether frames hold compressed messages.
pub(crate) fn has_compressed(mut body: &[u8]) -> bool {
    while let Some(([flag, length @ ..], rest)) = body.split_first_chunk::<5>() {
        if *flag == COMPRESSED {
            return true;
        }
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        body = rest.get(length..).unwrap_or_default();
    }
    false
}

fn is_call_live(request: &Request<'_>) -> bool {
    let content_type = request.headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| is_grpc(value.as_bytes()))
}

/// Whether a call's body may hold text that does not show in its bytes.
pub(crate) fn hides_text(request: &Request<'_>) -> bool {
    is_call_live(request) && (request.body.first() != Some(&0) || has_compressed(request.body))
}

/// The text of a request's body: what compression hides, and of a call the form of its messages.
pub(crate) fn text_of<'r>(request: &Request<'r>) -> Cow<'r, [u8]> {
    let form = is_call_live(request).then(|| to_form(request.body, false)).flatten();
    form.map_or_else(|| body::unfolded(request.body), Cow::Owned)
}

/// The JSON form of a body, to be changed.
pub(crate) fn to_form(body: &[u8], listed: bool) -> Option<Vec<u8>> {
    Some(read(body)?.form(listed, Purpose::Edit))
}

/// The frames behind a JSON form.
pub(crate) fn of_form(form: &[u8]) -> Option<Bytes> {
    Some(forms(form)?.to_frames())
}

/// What an edit of its JSON form makes of a body.
pub(crate) fn edited(
    body: &[u8],
    listed: bool,
    edit: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    of_form(&edit(&to_form(body, listed)?)?).map(Vec::from)
}

/// Whether a pair is a call of gRPC.
pub(crate) fn is_call(pair: &RrPair) -> bool {
    let grpc = |headers: &[Header]| header(headers, "content-type").is_some_and(|t| is_grpc(t));
    grpc(&pair.response.headers) || pair.request.as_ref().is_some_and(|r| grpc(&r.headers))
}

#[cfg(test)]
mod tests;
