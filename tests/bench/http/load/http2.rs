//! A connection of HTTP/2 without TLS, with several streams: each asks one request after the other. With gRPC the status in the trailers
//! counts, too.

use std::{rc::Rc, time::Instant};

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;

use super::{Loop, Seen, connect};
use crate::http::ask::Ask;

/// Room for responses, so that no stream waits for another.
const WINDOW: u32 = 1 << 20;

/// Asks until the loop has ended.
pub(super) async fn connection(state: Rc<Loop>, nth: usize) -> anyhow::Result<Vec<Seen>> {
    let stream = connect(&state.plan).await?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW << 4);
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let requests: Rc<[_]> = (0..state.plan.targets)
        .map(|target| request(&state.plan.ask, target))
        .collect::<anyhow::Result<Vec<_>>>()?
        .into();
    // It ends when the last stream lets go of it.
    let connection = tokio::task::spawn_local(connection);
    let of = state.plan.connections * state.plan.streams;
    let mut streams = JoinSet::new();
    for stream in 0..state.plan.streams {
        let nth = nth * state.plan.streams + stream;
        streams.spawn_local(ask(
            Rc::clone(&state),
            client.clone(),
            Rc::clone(&requests),
            (nth, of),
        ));
    }
    drop(client);
    let mut all = Vec::new();
    while let Some(seen) = streams.join_next().await {
        all.push(seen??);
    }
    connection.abort();
    Ok(all)
}

type Asked = (http::Request<()>, Option<Bytes>);

fn request(ask: &Ask, target: usize) -> anyhow::Result<Asked> {
    let uri = format!("http://{}{}", ask.host(), ask.target(target));
    let body = ask.body(target).map(Bytes::from);
    let mut request = http::Request::builder().uri(uri);
    if let Some(body) = &body {
        request = request.method(http::Method::POST).header("content-type", ask.content_type());
        request = match ask {
            Ask::Call => request.header("te", "trailers"),
            _ => request.header("content-length", body.len()),
        };
    }
    Ok((request.body(())?, body))
}

async fn ask(
    state: Rc<Loop>,
    mut client: SendRequest<Bytes>,
    requests: Rc<[Asked]>,
    (nth, of): (usize, usize),
) -> anyhow::Result<Seen> {
    let mut seen = Seen { latencies: Vec::with_capacity(1 << 16), last: None };
    let mut body = Vec::with_capacity(1024);
    let grpc = matches!(state.plan.ask, Ask::Call);
    for target in state.turns(nth, of) {
        let (request, sent) = requests.get(target).context("a target")?.clone();
        let begin = Instant::now();
        client = client.ready().await?;
        let (response, mut stream) = client.send_request(request, sent.is_none())?;
        if let Some(sent) = sent {
            stream.send_data(sent, true)?;
        }
        let (head, mut received) = response.await?.into_parts();
        body.clear();
        while let Some(data) = received.data().await {
            let data = data?;
            received.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        if grpc {
            let trailers = received.trailers().await?.context("gRPC ends with trailers")?;
            let status = trailers.get("grpc-status").map(|status| status.as_bytes());
            anyhow::ensure!(status == Some(b"0"), "grpc-status {status:?}");
        }
        state.check(head.status.as_u16(), body.len())?;
        state.note(begin, &mut seen);
        if state.ended.get() {
            seen.last = Some((target, body));
            break;
        }
    }
    Ok(seen)
}
