//! Frames of HTTP/2, made by hand.

/// What every connection starts with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A piece of a body.
pub const DATA: u8 = 0;
/// The beginning of a head.
pub const HEADERS: u8 = 1;
/// What nobody heeds any more.
pub const PRIORITY: u8 = 2;
/// The end of a stream.
pub const RST_STREAM: u8 = 3;
/// What one side wants.
pub const SETTINGS: u8 = 4;
/// Something to send back.
pub const PING: u8 = 6;
/// The end of a connection.
pub const GOAWAY: u8 = 7;
/// Credit.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a head.
pub const CONTINUATION: u8 = 9;

/// The flags of `HEADERS`.
pub const END_STREAM: u8 = 1;
/// The head ends here.
pub const END_HEADERS: u8 = 4;

/// One frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// How a connection opens: the preface and empty settings.
#[must_use]
pub fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A length of HPACK with a prefix of seven bits.
fn length(of: usize) -> Vec<u8> {
    if of < 127 {
        return vec![u8::try_from(of).unwrap()];
    }
    let (mut out, mut left) = (vec![127], of - 127);
    while left >= 128 {
        out.push(u8::try_from(left % 128 + 128).unwrap());
        left /= 128;
    }
    out.push(u8::try_from(left).unwrap());
    out
}

/// Fields of HPACK, each written out and not remembered.
#[must_use]
pub fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    all.iter().flat_map(|(name, value)| field(0, name, value)).collect()
}

/// One that the other side has to remember.
#[must_use]
pub fn remembered(name: &str, value: &str) -> Vec<u8> {
    field(0x40, name, value)
}

fn field(kind: u8, name: &str, value: &str) -> Vec<u8> {
    [&[kind][..], &length(name.len()), name.as_bytes(), &length(value.len()), value.as_bytes()]
        .concat()
}

/// The fields of a GET.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)])
}

/// The kind, the flags, the stream and the payload of each whole frame.
#[must_use]
pub fn read(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(([a, b, c, kind, flags, stream @ ..], rest)) = bytes.split_first_chunk::<9>() {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        let Some((payload, after)) = rest.split_at_checked(length) else { break };
        all.push((*kind, *flags, u32::from_be_bytes(*stream), payload.to_vec()));
        bytes = after;
    }
    all
}
