//! What a client is told that speaks without TLS where only TLS is spoken: in its own protocol, as the answer to what it asked, so that it
//! can say why it fails.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink},
    net::TcpStream,
    time::timeout,
};

/// The first byte of a TLS record with a handshake in it.
const HANDSHAKE: u8 = 0x16;
/// How the first line of HTTP/2 begins, and how long the lines before the first frame are.
const HTTP2: &[u8] = b"PRI ";
const PREFACE: usize = 24;
const TOLD: &str = "this port speaks TLS only; use https://";
/// How long a client may take to ask, and then to hear the answer: closed at once, it might not hear it at all.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much it may say meanwhile.
const HEARD: u64 = 64 * 1024;

/// An empty frame of settings, with which a server begins.
const SETTINGS: [u8; 9] = [0, 0, 0, 0x4, 0, 0, 0, 0, 0];
/// The type of a frame that opens a stream.
const HEADERS: u8 = 0x1;
/// The whole message is in this one frame.
const END: u8 = 0x1 | 0x4;
const GOAWAY: u8 = 0x7;
/// The reason: the transport is not secure enough.
const INADEQUATE_SECURITY: u32 = 0xc;
/// What stands for `:status: 200`.
const STATUS_200: u8 = 0x88;

/// Whether a connection that begins with these bytes may be TLS.
pub(crate) fn is_tls(first: &[u8]) -> bool {
    first.first() == Some(&HANDSHAKE)
}

/// Tells it, and closes.
pub(crate) async fn refuse(mut stream: TcpStream, first: &[u8]) -> io::Result<()> {
    if first.starts_with(HTTP2) {
        stream.write_all(&SETTINGS).await?;
        let asked = timeout(PATIENCE, first_stream(&mut stream)).await;
        let asked = asked.ok().and_then(Result::ok);
        if let Some(asked) = asked {
            stream.write_all(&frame(HEADERS, END, asked, &refusal())).await?;
        }
        let mut farewell = asked.unwrap_or_default().to_be_bytes().to_vec();
        farewell.extend(INADEQUATE_SECURITY.to_be_bytes());
        farewell.extend(TOLD.as_bytes());
        stream.write_all(&frame(GOAWAY, 0, 0, &farewell)).await?;
    } else {
        stream.write_all(http1().as_bytes()).await?;
    }
    stream.shutdown().await?;
    // However that ends, it was told.
    drop(timeout(PATIENCE, copy(&mut stream.take(HEARD), &mut sink())).await);
    Ok(())
}

/// The number of the first stream that the client opens.
async fn first_stream(stream: &mut TcpStream) -> io::Result<u32> {
    stream.read_exact(&mut [0; PREFACE]).await?;
    let mut heard = 0;
    while heard < HEARD {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, _flags, id @ ..] = head;
        if kind == HEADERS {
            return Ok(u32::from_be_bytes(id) & (u32::MAX >> 1));
        }
        let length = u64::from(u32::from_be_bytes([0, a, b, c]));
        copy(&mut (&mut *stream).take(length), &mut sink()).await?;
        heard += length.saturating_add(9);
    }
    Err(io::Error::other("it asks for nothing"))
}

/// An answer of gRPC that is a status only: `FAILED_PRECONDITION`.
fn refusal() -> Vec<u8> {
    let mut fields = vec![STATUS_200];
    for (name, value) in
        [("content-type", "application/grpc"), ("grpc-status", "9"), ("grpc-message", TOLD)]
    {
        // A field as it stands, that nobody is to remember.
        fields.push(0);
        for text in [name, value] {
            fields.push(u8::try_from(text.len()).unwrap_or_default());
            fields.extend(text.as_bytes());
        }
    }
    fields
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn http1() -> String {
    let length = TOLD.len() + 1;
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{TOLD}\n"
    )
}
