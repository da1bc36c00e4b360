//! A keep-alive connection of HTTP/1.1, with or without TLS: one request after the other.

use std::{rc::Rc, sync::Arc, time::Instant};

use anyhow::Context as _;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::{Loop, Seen, Speak, connect};
use crate::http::ask::{Ask, rewrite};

/// Asks until the loop has ended.
pub(super) async fn connection(state: Rc<Loop>, nth: usize) -> anyhow::Result<Vec<Seen>> {
    let stream = connect(&state.plan).await?;
    let seen = if state.plan.speak == Speak::Tls {
        let ca = state.plan.ca.as_deref().context("TLS needs somebody to trust")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("api.example")?;
        ask(&state, TlsConnector::from(Arc::new(config)).connect(name, stream).await?, nth).await
    } else {
        ask(&state, stream, nth).await
    };
    Ok(vec![seen?])
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    state: &Loop,
    stream: S,
    nth: usize,
) -> anyhow::Result<Seen> {
    let mut wire = Wire::new(stream);
    let mut seen = Seen { latencies: Vec::with_capacity(1 << 16), last: None };
    let mut request = Vec::with_capacity(2048);
    for target in state.turns(nth, state.plan.connections) {
        request.clear();
        state.plan.ask.write(target, &mut request)?;
        if matches!(state.plan.ask, Ask::Rewritten) {
            // No two connections ever send the same.
            let sent = u64::try_from(seen.latencies.len() * state.plan.connections + nth)?;
            let head = request.windows(4).position(|window| window == b"\r\n\r\n");
            rewrite(request.get_mut(head.context("a head")? + 4..).unwrap_or_default(), sent);
        }
        let begin = Instant::now();
        wire.stream.write_all(&request).await?;
        let status = wire.read_response().await?;
        state.check(status, wire.whole - wire.head)?;
        state.note(begin, &mut seen);
        if state.ended.get() {
            seen.last = Some((target, wire.body().to_vec()));
            break;
        }
    }
    Ok(seen)
}

/// A stream, and where the parts of the response at hand are.
struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    /// The end of the head.
    head: usize,
    /// The end of the body.
    whole: usize,
    /// Where the head says how long the body is.
    length_at: (usize, usize),
    /// What stood there.
    length: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        let buffer = vec![0; 64 * 1024];
        Self { stream, buffer, head: 0, whole: 0, length_at: (0, 0), length: Vec::new() }
    }

    fn body(&self) -> &[u8] {
        self.buffer.get(self.head..self.whole).unwrap_or_default()
    }

    /// Reads one response by its content length; tells its status.
    async fn read_response(&mut self) -> anyhow::Result<u16> {
        let (mut filled, mut known) = (0, false);
        loop {
            let room = self.buffer.get_mut(filled..).filter(|room| !room.is_empty());
            let read = self.stream.read(room.context("the response is too large")?).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            filled += read;
            known = known || self.is_like_the_last(filled) || self.read_head(filled)?;
            if known && filled >= self.whole {
                anyhow::ensure!(filled == self.whole, "more came than the response");
                let status = self.buffer.get(9..12).unwrap_or_default();
                return Ok(std::str::from_utf8(status)?.parse()?);
            }
        }
    }

    /// Most heads are laid out as the one before: then nothing has to be searched for.
    fn is_like_the_last(&self, filled: usize) -> bool {
        let (from, to) = self.length_at;
        self.head > 0
            && filled >= self.head
            && self.buffer.get(self.head - 4..self.head) == Some(b"\r\n\r\n")
            && self.buffer.get(from..to) == Some(&self.length)
    }

    fn read_head(&mut self, filled: usize) -> anyhow::Result<bool> {
        const FIELD: &[u8] = b"\r\ncontent-length: ";
        let so_far = self.buffer.get(..filled).unwrap_or_default();
        let Some(end) = so_far.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = so_far.get(..end + 2).unwrap_or_default();
        anyhow::ensure!(head.starts_with(b"HTTP/1.1 "), "no response of HTTP/1.1");
        let at = head.windows(FIELD.len()).position(|window| window.eq_ignore_ascii_case(FIELD));
        let at = at.context("a content-length")?;
        let from = at + FIELD.len();
        let rest = head.get(from..).unwrap_or_default();
        let digits = rest.iter().position(|byte| *byte == b'\r').context("a whole head")?;
        let length: usize =
            std::str::from_utf8(rest.get(..digits).unwrap_or_default())?.trim().parse()?;
        // With the name and the line's end, or a longer number might pass for it.
        self.length_at = (at, from + digits + 1);
        self.length = head.get(at..=from + digits).unwrap_or_default().to_vec();
        (self.head, self.whole) = (end + 4, end + 4 + length);
        Ok(true)
    }
}
