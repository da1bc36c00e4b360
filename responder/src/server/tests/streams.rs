//! WebSockets and events through a socket.

use countersign_engine::snapshot::Header;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, handshake::client::Response},
};

use super::*;

const ID: [u8; 16] = [7; 16];

fn handshake(path: &str) -> RrPair {
    let mut pair = pair(path, "");
    pair.uuid = Some(ID);
    pair.response.status = 101;
    let field =
        |name: &str, value: &str| Header { name: name.into(), value: value.to_owned().into() };
    pair.request.as_mut().unwrap().headers = vec![field("Upgrade", "websocket")];
    pair.response.headers = vec![
        field("Upgrade", "websocket"),
        field("Sec-WebSocket-Accept", "of another key"),
        field("Sec-WebSocket-Extensions", "permessage-deflate"),
        field("Sec-WebSocket-Protocol", "chat"),
        field("X-Kept", "yes"),
    ];
    pair
}

/// A message and its answer in the connection of [`handshake`].
fn exchange(nth: u32, said: &str, answer: &[u8]) -> RrPair {
    let mut pair = pair("/ws", answer.to_vec());
    pair.response.status = 101;
    pair.request.as_mut().unwrap().body = said.to_owned().into();
    let id = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, ID);
    pair.extra_json = format!(r#"{{"partOfStreamUUID":"{id}","streamSeqNum":"{nth}"}}"#);
    pair
}

async fn connect(node: &Node) -> (WebSocketStream<TcpStream>, Response) {
    let mut request = "ws://api/ws".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "other, chat".parse().unwrap());
    client_async(request, node.connect().await).await.unwrap()
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(20), socket.next());
    next.await.expect("the server should speak").unwrap().unwrap()
}

#[tokio::test]
async fn a_recorded_server_speaks_on_a_websocket() {
    let recorded = vec![
        handshake("/ws"),
        exchange(1, "", b"welcome"),
        exchange(3, "bye", b"\xff\x00"),
        exchange(2, r#"{"a":1,"b":2}"#, b"first"),
        exchange(2, "", b"second"),
    ];
    let node = Node::serving(Limits::default(), recorded);
    for _ in 0..2 {
        // The library has verified the fresh Sec-WebSocket-Accept.
        let (mut socket, answer) = connect(&node).await;
        assert_eq!(answer.headers()["x-kept"], "yes");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        assert!(!answer.headers().contains_key("sec-websocket-extensions"));
        assert_eq!(next(&mut socket).await, Message::text("welcome"));
        socket.send(Message::text("never said")).await.unwrap();
        socket.send(Message::text(r#"{ "b": 2, "a": 1 }"#)).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("first"));
        assert_eq!(next(&mut socket).await, Message::text("second"));
        socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from_static(b"x")));
        socket.send(Message::text("bye")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::binary(&b"\xff\x00"[..]));
        socket.close(None).await.unwrap();
        assert!(matches!(next(&mut socket).await, Message::Close(_)));
    }
    // Whoever does not ask for a WebSocket gets none.
    let text = node.exchange("GET /ws HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 502"), "{text}");
}

#[tokio::test]
async fn a_websocket_outlives_the_time_for_a_head_and_is_bounded() {
    let recorded = || vec![handshake("/ws"), exchange(1, "a", b"A")];
    let node = Node::serving(with(|limits| limits.head = SHORT), recorded());
    let (mut socket, _) = connect(&node).await;
    for _ in 0..3 {
        // A message begins, and waits for longer than a head may.
        tokio::time::timeout(2 * SHORT, socket.next()).await.unwrap_err();
        socket.send(Message::text("a")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("A"));
    }
    // A silent peer is asked whether it is there, and then left.
    let node = Node::serving(with(|limits| limits.idle = SHORT), recorded());
    let mut stream = node.connect().await;
    let head = "GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let all = stream.read_to_end(&mut seen);
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("it should end").unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
    assert!(seen.ends_with(&[0x89, 0]), "a ping is the last that it heard: {seen:x?}");
}

#[tokio::test]
async fn events_are_sent_one_by_one_where_time_is_kept() {
    let body = "data: 1\n\ndata: 2\n\n";
    let mut events = pair("/events", body);
    events.duration = 20_000_000;
    events.response.headers =
        vec![Header { name: "Content-Type".into(), value: "text/event-stream".into() }];
    let ask = "GET /events HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";
    let node = Node::serving(Limits::default(), vec![events.clone()]);
    let text = node.exchange(ask).await;
    assert!(text.contains("content-length: 18\r\n") && text.ends_with(body), "{text}");
    let timing = r#"{"id":"t","responder":{"timing":"recorded"}}"#;
    let node = Node::with(Limits::default(), &compiled_by(vec![events], timing));
    let text = node.exchange(ask).await;
    assert!(text.ends_with("9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"), "{text}");
}
