//! What a client is told that speaks without TLS where only TLS is spoken: in its own protocol, so that it can say why it fails.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The first byte of a TLS record with a handshake in it.
const HANDSHAKE: u8 = 0x16;
/// How the first line of HTTP/2 begins.
const HTTP2: &[u8] = b"PRI ";
const TOLD: &str = "this port speaks TLS only; use https://";
/// How long a client may take to hear it, and how much it may say meanwhile: closed at once, it might not hear it at all.
const PATIENCE: Duration = Duration::from_secs(1);
const HEARD: u64 = 64 * 1024;

/// Whether a connection that begins with these bytes may be TLS.
pub(crate) fn is_tls(first: &[u8]) -> bool {
    first.first() == Some(&HANDSHAKE)
}

/// Tells it, and closes.
pub(crate) async fn refuse(mut stream: TcpStream, first: &[u8]) -> io::Result<()> {
    let said = if first.starts_with(HTTP2) { http2() } else { http1() };
    stream.write_all(&said).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(HEARD);
    // However that ends, it was told.
    drop(timeout(PATIENCE, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await);
    Ok(())
}

/// Empty settings, then a farewell with the reason `INADEQUATE_SECURITY`.
fn http2() -> Vec<u8> {
    let mut frames = vec![0, 0, 0, 0x4, 0, 0, 0, 0, 0];
    let length = u8::try_from(8 + TOLD.len()).unwrap_or(8);
    frames.extend([0, 0, length, 0x7, 0, 0, 0, 0, 0]);
    frames.extend([0, 0, 0, 0, 0, 0, 0, 0xc]);
    frames.extend(TOLD.as_bytes());
    frames
}

fn http1() -> Vec<u8> {
    let length = TOLD.len() + 1;
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{TOLD}\n"
    )
    .into_bytes()
}
