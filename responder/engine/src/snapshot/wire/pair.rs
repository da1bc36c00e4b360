//! Reading an encoded pair, or a part of it, without the generated types between: a million of them are read when a snapshot is compiled.
//!
//! What is not written as [`super::encode_pair`] and prost write it is left to the generated decoder, which knows all that protobuf allows.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use countersign_proto::snapshot::v1 as proto;
use prost::Message as _;

use super::{
    NANOS, NANOS_SIGNED, WireError, decode_pair,
    field::{Field, Value},
};
use crate::snapshot::{Direction, Header, HttpRequest, HttpResponse, RrPair};

/// What is read of a pair. The rest of it is left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Request and response, and nothing besides.
    Messages,
    /// The response; of the request what tells its protocol.
    Response,
}

/// What tells the protocol of a message.
const PROTOCOL: [&[u8]; 2] = [b"content-type", b"upgrade"];

/// Reads a part of a pair of a chunk into one whose room is used again, whatever it held. Bodies and values are slices of the chunk. One that
/// cannot be read leaves it empty.
pub(crate) fn read_into(
    chunk: &Bytes,
    pair: &[u8],
    part: Part,
    into: &mut RrPair,
) -> Result<(), WireError> {
    if quickly(chunk, pair, part, into).is_some() {
        return Ok(());
    }
    *into = RrPair::default();
    let decoded = proto::RrPair::decode(chunk.slice_ref(pair))
        .map_err(|source| WireError::Decode { what: "chunk", source })?;
    *into = decode_pair(decoded)?;
    Ok(())
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

/// Whether a chunk is written as expected.
pub(crate) fn is_plain(chunk: &[u8]) -> bool {
    let mut rest = chunk;
    loop {
        match Field::next(&mut rest) {
            Some(None) => return true,
            Some(Some(Field { number: 1, value: Value::Bytes(_) })) => {}
            _ => return false,
        }
    }
}

/// Where the pairs of a chunk lie that is written as expected.
pub(crate) fn spans(chunk: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut rest = chunk;
    std::iter::from_fn(move || {
        let pair = Field::next(&mut rest)??.value.bytes()?;
        let end = chunk.len() - rest.len();
        Some(end - pair.len()..end)
    })
}

fn way(number: u64) -> Option<Direction> {
    let inbound = i32::try_from(number).ok()? == i32::from(proto::Direction::In);
    Some(if inbound { Direction::In } else { Direction::Out })
}

/// Leaves nothing of another pair but its room, and texts, fields and maps: they are mostly the same in the next, and renewed where not.
fn begin(pair: &mut RrPair) {
    let RrPair { uuid, ts, direction, duration, ordinal, stub, response, .. } = pair;
    (*uuid, *ts, *direction, *duration) = (None, None, Direction::default(), 0);
    (*ordinal, *stub, response.status, response.body) = (0, None, 0, Bytes::new());
}

/// Clears the texts whose fields, which are one bit each in `read`, did not come.
fn clear_unread(pair: &mut RrPair, read: u32) {
    for (number, text) in [
        (5, &mut pair.l7protocol),
        (6, &mut pair.service),
        (7, &mut pair.cluster),
        (8, &mut pair.namespace),
        (9, &mut pair.tech),
        (10, &mut pair.network_address),
        (11, &mut pair.command),
        (12, &mut pair.location),
        (13, &mut pair.status),
        (15, &mut pair.session),
        (19, &mut pair.extra_json),
    ] {
        if read & 1 << number == 0 {
            text.clear();
        }
    }
    if read & 1 << 17 == 0 {
        pair.response.headers.clear();
        pair.response.status_message.clear();
    }
}

fn quickly(whole: &Bytes, bytes: &[u8], part: Part, pair: &mut RrPair) -> Option<()> {
    begin(pair);
    let mut old_request = pair.request.take();
    let (mut tags, mut signature, mut read) = (&[][..], &[][..], 0_u32);
    let (mut rest, mut last) = (bytes, 0);
    loop {
        let here = rest;
        let Some(Field { number, value }) = Field::next(&mut rest)? else { break };
        // A message that comes twice is merged, which is not done here.
        if number < last || (number == last && ![14, 18].contains(&number)) {
            return None;
        }
        let first = number != last;
        last = number;
        let wanted = part == Part::Whole || [12, 16, 17].contains(&number);
        read |= u32::from(wanted).checked_shl(u32::try_from(number).ok()?).unwrap_or_default();
        match number {
            16 => {
                let mut old = old_request.take().unwrap_or_default();
                request(whole, value.bytes()?, part, &mut old)?;
                pair.request = Some(old);
            }
            17 => response(whole, value.bytes()?, &mut pair.response)?,
            12 => value.text(&mut pair.location)?,
            _ if part != Part::Whole => {}
            1 => pair.uuid = <[u8; 16]>::try_from(value.bytes()?).ok(),
            2 => pair.ts = Some(moment(value.bytes()?)?),
            3 => pair.direction = way(value.number()?)?,
            4 => pair.duration = duration(value.bytes()?)?,
            5 => value.text(&mut pair.l7protocol)?,
            6 => value.text(&mut pair.service)?,
            7 => value.text(&mut pair.cluster)?,
            8 => value.text(&mut pair.namespace)?,
            9 => value.text(&mut pair.tech)?,
            10 => value.text(&mut pair.network_address)?,
            11 => value.text(&mut pair.command)?,
            13 => value.text(&mut pair.status)?,
            14 if first => tags = here,
            18 if first => signature = here,
            14 | 18 => {}
            15 => value.text(&mut pair.session)?,
            19 => value.text(&mut pair.extra_json)?,
            20 => pair.ordinal = value.number()?,
            _ => return None,
        }
    }
    clear_unread(pair, read);
    renew(tags, 14, &mut pair.tags, |bytes, text: &mut String| Value::Bytes(bytes).text(text))?;
    renew(signature, 18, &mut pair.signature, |bytes, value: &mut Bytes| {
        renew_bytes(whole, bytes, value);
        Some(())
    })
}

/// Reads the entries of a map, which are the fields of this number at the start of `rest`. Pairs of one recording mostly have the same
/// keys, so a map that has them already is used again.
fn renew<V: Default>(
    rest: &[u8],
    number: u64,
    map: &mut BTreeMap<String, V>,
    set: impl Fn(&[u8], &mut V) -> Option<()>,
) -> Option<()> {
    let mut left = rest;
    let mut next = || match Field::next(&mut left) {
        Some(Some(field)) if field.number == number => Some(entry(field.value.bytes()?)),
        _ => None,
    };
    let mut known = map.iter_mut();
    let same = loop {
        match (next(), known.next()) {
            (None, None) => break true,
            (Some(found), Some((key, value))) => {
                let (name, bytes) = found?;
                if key.as_bytes() != name {
                    break false;
                }
                set(bytes, value)?;
            }
            _ => break false,
        }
    };
    if same {
        return Some(());
    }
    map.clear();
    let mut left = rest;
    while let Some(Some(field)) = Field::next(&mut left)
        && field.number == number
    {
        let (name, bytes) = entry(field.value.bytes()?)?;
        let mut value = V::default();
        set(bytes, &mut value)?;
        map.insert(std::str::from_utf8(name).ok()?.to_owned(), value);
    }
    Some(())
}

/// Puts a slice in the place of other bytes, unless they are the same: to count who holds a chunk takes longer than to compare.
fn renew_bytes(whole: &Bytes, part: &[u8], bytes: &mut Bytes) {
    if **bytes != *part {
        *bytes = slice(whole, part);
    }
}

fn slice(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

fn request(whole: &Bytes, mut rest: &[u8], part: Part, request: &mut HttpRequest) -> Option<()> {
    let HttpRequest { method, path, query, version, host, headers, body } = request;
    *body = Bytes::new();
    let (mut fields, all, mut read) = (Fields::of(headers), part != Part::Response, 0_u32);
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        if all && number < 6 {
            read |= 1 << number;
        }
        match number {
            6 => fields.add(whole, value.bytes()?, all)?,
            _ if !all => {}
            1 => value.text(method)?,
            2 => value.text(path)?,
            3 => value.text(query)?,
            4 => value.text(version)?,
            5 => value.text(host)?,
            7 => *body = slice(whole, value.bytes()?),
            _ => return None,
        }
    }
    fields.end();
    for (number, text) in (1..).zip([method, path, query, version, host]) {
        if read & 1 << number == 0 {
            text.clear();
        }
    }
    Some(())
}

fn response(whole: &Bytes, mut rest: &[u8], response: &mut HttpResponse) -> Option<()> {
    let (mut fields, mut message) = (Fields::of(&mut response.headers), false);
    while let Some(Field { number, value }) = Field::next(&mut rest)? {
        match number {
            // The generated decoder cuts larger numbers off.
            1 => response.status = u16::try_from(value.number()?).ok()?,
            2 => {
                value.text(&mut response.status_message)?;
                message = true;
            }
            3 => fields.add(whole, value.bytes()?, true)?,
            4 => response.body = slice(whole, value.bytes()?),
            _ => return None,
        }
    }
    fields.end();
    if !message {
        response.status_message.clear();
    }
    Some(())
}

/// Header fields that take the place of others.
struct Fields<'p> {
    headers: &'p mut Vec<Header>,
    read: usize,
}

impl<'p> Fields<'p> {
    fn of(headers: &'p mut Vec<Header>) -> Self {
        Self { headers, read: 0 }
    }

    /// Adds a field if it is asked for.
    fn add(&mut self, whole: &Bytes, bytes: &[u8], all: bool) -> Option<()> {
        let (name, value) = entry(bytes)?;
        if !all && !PROTOCOL.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)) {
            return Some(());
        }
        match self.headers.get_mut(self.read) {
            Some(field) => {
                renew_bytes(whole, value, &mut field.value);
                Value::Bytes(name).text(&mut field.name)?;
            }
            None => {
                let name = std::str::from_utf8(name).ok()?.to_owned();
                self.headers.push(Header { name, value: slice(whole, value) });
            }
        }
        self.read += 1;
        Some(())
    }

    /// No more fields come.
    fn end(self) {
        self.headers.truncate(self.read);
    }
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

    fn read(bytes: &Bytes, part: Part) -> Result<RrPair, WireError> {
        let mut pair = RrPair::default();
        read_into(bytes, bytes, part, &mut pair)?;
        Ok(pair)
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
            let messages = read(&bytes, Part::Messages).unwrap();
            prop_assert_eq!(&messages.request, &expected.request);
            prop_assert_eq!(&messages.response, &expected.response);
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

        #[test]
        fn nothing_is_left_of_the_pair_before(pairs in vec(pair(), 1..6)) {
            let mut room = RrPair::default();
            for pair in pairs {
                let bytes = Bytes::from(encode_pair(pair).encode_to_vec());
                for part in [Part::Messages, Part::Response, Part::Whole] {
                    let expected = read(&bytes, part).ok();
                    let again = read_into(&bytes, &bytes, part, &mut room).ok();
                    prop_assert_eq!(again.map(|()| &room), expected.as_ref());
                }
            }
        }
    }

    #[test]
    fn ordinary_pairs_are_read_quickly() {
        let pair = RrPair { ts: Some(1_704_164_645_000_000_678), ..RrPair::default() };
        let bytes = Bytes::from(encode_pair(pair.clone()).encode_to_vec());
        let mut read = RrPair::default();
        assert_eq!(quickly(&bytes, &bytes, Part::Whole, &mut read), Some(()));
        assert_eq!(read, pair);
    }
}
