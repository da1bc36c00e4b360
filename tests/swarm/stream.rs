//! One call of gRPC that streams both ways, on a connection of its own: what a simulated responder needs of gRPC, and no more.
//!
//! A swarm shares its machine with the server that it measures, so that it is written against h2 itself.

use std::future::poll_fn;

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use http::{HeaderMap, Request, Version};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

/// As a responder has it: acknowledgements are small but many.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The flag and the length before each message.
const PREFIX: usize = 5;
/// The largest message.
const LARGEST: usize = 1024 * 1024;

/// An open call.
pub(crate) struct Call {
    outbound: SendStream<Bytes>,
    inbound: RecvStream,
    buffer: BytesMut,
    connection: JoinHandle<()>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Call {
    /// Opens it. The server answers once it has heard something, so that the first message goes along.
    pub(crate) async fn open<S>(io: S, path: &str, first: &impl Message) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = client::Builder::new();
        builder.initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
        let (sender, connection) = builder.handshake::<_, Bytes>(io).await?;
        // Whatever ends it ends the call, too.
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = Request::post(format!("http://swarm{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut sender = sender.ready().await?;
        let (response, mut outbound) = sender.send_request(request, false)?;
        outbound.send_data(frame(first), false)?;
        let (head, inbound) = response.await?.into_parts();
        refused(&head.headers)?;
        Ok(Self { outbound, inbound, buffer: BytesMut::new(), connection })
    }

    /// Says something.
    pub(crate) fn say(&mut self, message: &impl Message) -> anyhow::Result<()> {
        Ok(self.outbound.send_data(frame(message), false)?)
    }

    /// The next message; `None` when the server has ended the call.
    pub(crate) async fn hear<M: Message + Default>(&mut self) -> anyhow::Result<Option<M>> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(M::decode(message)?));
            }
            let Some(data) = poll_fn(|cx| self.inbound.poll_data(cx)).await else {
                if let Some(trailers) = self.inbound.trailers().await? {
                    refused(&trailers)?;
                }
                return Ok(None);
            };
            let data = data?;
            self.inbound.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    fn whole(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(length) = self.buffer.get(1..PREFIX).and_then(|it| it.try_into().ok()) else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(length))?;
        anyhow::ensure!(length <= LARGEST, "a message of {length} bytes");
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // Thousands of these wait for hours.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put(message.encode_to_vec().as_slice());
    frame.freeze()
}

/// The status of gRPC, unless all is well.
fn refused(headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => {
            Err(anyhow::anyhow!("gRPC status {code}: {}", text("grpc-message").unwrap_or_default()))
                .context("the call was refused")
        }
    }
}
