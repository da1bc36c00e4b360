//! Reading an encoded pair, or a part of it, without the generated types between: a million of them are read when a snapshot is compiled.
//!
//! What is not written as [`super::encode_pair`] and prost write it is left to the generated decoder, which knows all that protobuf allows.

use bytes::Bytes;
use countersign_proto::snapshot::v1 as proto;
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};

use super::{NANOS, NANOS_SIGNED, WireError, decode_pair};
use crate::snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair};

/// What is read of a pair. The rest of it is left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// The request; of the response what tells its protocol.
    Request,
    /// The response; of the request what tells its protocol.
    Response,
}

/// What tells the protocol of a message.
const PROTOCOL: [&[u8]; 2] = [b"content-type", b"upgrade"];

/// Reads a part of a pair; bodies and values are slices of the bytes.
pub(crate) fn read(bytes: &Bytes, part: Part) -> Result<RrPair, WireError> {
    if let Some(pair) = quickly(bytes, part) {
        return Ok(pair);
    }
    let decoded = proto::RrPair::decode(bytes.clone())
        .map_err(|source| WireError::Decode { what: "chunk", source })?;
    decode_pair(decoded)
}

/// Where a pair belongs: its ordinal, and which way it went. `None` when it is not written as expected.
pub(crate) fn place(bytes: &[u8]) -> Option<(u64, Direction)> {
    let (mut rest, mut ordinal, mut direction) = (bytes, 0, 0);
    while let Some(field) = Field::next(&mut rest)? {
        match (field.number, field.value) {
            (3, Value::Number(number)) => direction = number,
            (20, Value::Number(number)) => ordinal = number,
            (3 | 20, Value::Bytes(_)) => return None,
            _ => {}
        }
    }
    Some((ordinal, way(direction)?))
}

/// The encoded pairs of a chunk. `None` when it is not written as expected.
pub(crate) fn of_chunk(chunk: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut pairs) = (chunk, Vec::new());
    while let Some(field) = Field::next(&mut rest)? {
        match field {
            Field { number: 1, value: Value::Bytes(pair) } => pairs.push(pair),
            _ => return None,
        }
    }
    Some(pairs)
}

fn way(number: u64) -> Option<Direction> {
    let inbound = i32::try_from(number).ok()? == i32::from(proto::Direction::In);
    Some(if inbound { Direction::In } else { Direction::Out })
}

struct Field<'b> {
    number: u32,
    value: Value<'b>,
}

enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    /// The next field; `Some(None)` at the end, `None` when the generated decoder has to look.
    fn next(rest: &mut &'b [u8]) -> Option<Option<Self>> {
        if rest.is_empty() {
            return Some(None);
        }
        let (number, kind) = decode_key(rest).ok()?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(rest).ok()?),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(rest).ok()?).ok()?;
                let (value, behind) = rest.split_at_checked(len)?;
                *rest = behind;
                Value::Bytes(value)
            }
            _ => return None,
        };
        Some(Some(Self { number, value }))
    }
}

impl<'b> Value<'b> {
    fn number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    fn bytes(&self) -> Option<&'b [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn text(&self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }
}

fn quickly(whole: &Bytes, part: Part) -> Option<RrPair> {
    let mut pair = RrPair::default();
    let (mut rest, mut last) = (&**whole, 0);
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        // A message that comes twice is merged, which is not done here.
        if number < last || (number == last && ![14, 18].contains(&number)) {
            return None;
        }
        last = number;
        match number {
            16 => pair.request = Some(request(whole, value.bytes()?, part)?),
            17 => pair.response = response(whole, value.bytes()?, part)?,
            12 => pair.location = value.text()?,
            _ if part != Part::Whole => {}
            1 => pair.uuid = <[u8; 16]>::try_from(value.bytes()?).ok(),
            2 => pair.ts = Some(moment(value.bytes()?)?),
            3 => pair.direction = way(value.number()?)?,
            4 => pair.duration = duration(value.bytes()?)?,
            5 => pair.l7protocol = value.text()?,
            6 => pair.service = value.text()?,
            7 => pair.cluster = value.text()?,
            8 => pair.namespace = value.text()?,
            9 => pair.tech = value.text()?,
            10 => pair.network_address = value.text()?,
            11 => pair.command = value.text()?,
            13 => pair.status = value.text()?,
            14 => {
                let (key, value) = entry(value.bytes()?)?;
                let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
                pair.tags.insert(text(key)?, text(value)?);
            }
            15 => pair.session = value.text()?,
            18 => {
                let (key, value) = entry(value.bytes()?)?;
                let key = std::str::from_utf8(key).ok()?.to_owned();
                pair.signature.insert(key, slice(whole, value));
            }
            19 => pair.extra_json = value.text()?,
            20 => pair.ordinal = value.number()?,
            _ => return None,
        }
    }
    Some(pair)
}

fn slice(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

fn request(whole: &Bytes, mut rest: &[u8], part: Part) -> Option<HttpRequest> {
    let mut request = HttpRequest::default();
    let all = part != Part::Response;
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        match number {
            6 => request.headers.extend(field(whole, value.bytes()?, all)?),
            _ if !all => {}
            1 => request.method = value.text()?,
            2 => request.path = value.text()?,
            3 => request.query = value.text()?,
            4 => request.version = value.text()?,
            5 => request.host = value.text()?,
            7 => request.body = slice(whole, value.bytes()?),
            _ => return None,
        }
    }
    Some(request)
}

fn response(whole: &Bytes, mut rest: &[u8], part: Part) -> Option<HttpResponse> {
    let mut response = HttpResponse::default();
    let all = part != Part::Request;
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        match number {
            // The generated decoder cuts larger numbers off.
            1 => response.status = u16::try_from(value.number()?).ok()?,
            2 if all => response.status_message = value.text()?,
            2 => {}
            3 => response.headers.extend(field(whole, value.bytes()?, all)?),
            4 => response.body = slice(whole, value.bytes()?),
            _ => return None,
        }
    }
    Some(response)
}

/// A header field; `Some(None)` when it is not asked for.
fn field(whole: &Bytes, bytes: &[u8], all: bool) -> Option<Option<Header>> {
    let (name, value) = entry(bytes)?;
    if !all && !PROTOCOL.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
        return Some(None);
    }
    let name = std::str::from_utf8(name).ok()?.to_owned();
    Some(Some(Header { name, value: slice(whole, value) }))
}

/// A message of a key and a value.
fn entry(mut rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut text) = (&[][..], &[][..]);
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        match number {
            1 => key = value.bytes()?,
            2 => text = value.bytes()?,
            _ => return None,
        }
    }
    Some((key, text))
}

/// Whole seconds and the nanoseconds beside them.
fn time(mut rest: &[u8]) -> Option<(u64, u64)> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        match number {
            1 => seconds = value.number()?,
            2 => nanos = value.number()?,
            _ => return None,
        }
    }
    // What is beyond is negative, or no part of a second.
    (nanos < NANOS && seconds <= u64::from(u32::MAX)).then_some((seconds, nanos))
}

fn moment(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanos) = time(bytes)?;
    i64::try_from(seconds).ok()?.checked_mul(NANOS_SIGNED)?.checked_add(i64::try_from(nanos).ok()?)
}

fn duration(bytes: &[u8]) -> Option<u64> {
    let (seconds, nanos) = time(bytes)?;
    Some(seconds.saturating_mul(NANOS).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::snapshot::wire::encode_pair;

    fn headers() -> impl Strategy<Value = Vec<Header>> {
        let name = prop_oneof!["[a-zé-]{0,5}", Just("Content-Type".to_owned())];
        let field = (name, vec(any::<u8>(), 0..5));
        vec(field.prop_map(|(name, value)| Header { name, value: value.into() }), 0..4)
    }

    fn pair() -> impl Strategy<Value = RrPair> {
        let texts = vec("[a-z/é]{0,6}", 18);
        let messages = (headers(), headers(), vec(any::<u8>(), 0..9), any::<u16>());
        let rest = (any::<Option<[u8; 16]>>(), any::<Option<i64>>(), any::<u64>(), any::<u64>());
        let maps = (vec(("[a-c]{1,2}", "[a-c]{0,2}"), 0..4), any::<[bool; 3]>());
        (texts, messages, rest, maps).prop_map(|(texts, messages, rest, (tags, flags))| {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().unwrap_or_default();
            let request = HttpRequest {
                method: text(),
                path: text(),
                query: text(),
                version: text(),
                host: text(),
                headers: messages.0,
                body: messages.2.clone().into(),
            };
            RrPair {
                uuid: rest.0,
                ts: rest.1,
                direction: if flags[0] { Direction::In } else { Direction::Out },
                duration: rest.2,
                l7protocol: text(),
                service: text(),
                cluster: text(),
                namespace: text(),
                tech: text(),
                network_address: text(),
                command: text(),
                location: text(),
                status: text(),
                tags: tags.iter().cloned().collect(),
                session: text(),
                request: flags[1].then_some(request),
                response: HttpResponse {
                    status: messages.3,
                    status_message: text(),
                    headers: messages.1,
                    body: messages.2.into(),
                },
                signature: tags.into_iter().map(|(k, v)| (k, v.into())).collect(),
                extra_json: text(),
                ordinal: rest.3,
                stub: flags[2].then(Box::default),
            }
        })
    }

    /// What the generated decoder reads.
    fn generated(bytes: &Bytes) -> Option<RrPair> {
        decode_pair(proto::RrPair::decode(bytes.clone()).ok()?).ok()
    }

    proptest! {
        #[test]
        fn reads_what_the_generated_decoder_reads(pair in pair()) {
            let bytes = Bytes::from(encode_pair(pair).encode_to_vec());
            let expected = generated(&bytes).unwrap();
            prop_assert_eq!(place(&bytes), Some((expected.ordinal, expected.direction)));
            let request = read(&bytes, Part::Request).unwrap();
            prop_assert_eq!(&request.request, &expected.request);
            prop_assert_eq!(&request.response.body, &expected.response.body);
            let response = read(&bytes, Part::Response).unwrap();
            prop_assert_eq!(&response.response, &expected.response);
            prop_assert_eq!(read(&bytes, Part::Whole).unwrap(), expected);
        }

        #[test]
        fn bytes_of_anybody_are_read_like_the_generated_decoder_does(
            pair in pair(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode_pair(pair).encode_to_vec();
            if let Some(place) = (!bytes.is_empty()).then(|| at.index(bytes.len())) {
                bytes[place] = byte;
            }
            let bytes = Bytes::from(bytes);
            prop_assert_eq!(read(&bytes, Part::Whole).ok(), generated(&bytes));
        }
    }

    #[test]
    fn ordinary_pairs_are_read_quickly() {
        let pair = RrPair { ts: Some(1_704_164_645_000_000_678), ..RrPair::default() };
        let bytes = Bytes::from(encode_pair(pair.clone()).encode_to_vec());
        assert_eq!(quickly(&bytes, Part::Whole), Some(pair));
    }
}
