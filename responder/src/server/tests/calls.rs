//! Calls of gRPC through a socket, by a client that knows nothing of the recording.

use std::result::Result;

use bytes::{Buf as _, BufMut as _};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use super::*;

/// Messages as bytes.
#[derive(Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A text as the only field of a message.
fn message(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).unwrap();
    [&[0x0a, length], text.as_bytes()].concat().into()
}

fn frames(texts: &[&str]) -> Bytes {
    let frame = |text: &&str| {
        let message = message(text);
        [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat()
    };
    texts.iter().flat_map(frame).collect()
}

fn call(method: &str, asked: &[&str], answered: &[&str], end: &str) -> RrPair {
    let mut pair = pair(&format!("/t.S/{method}"), frames(answered));
    let grpc = || countersign_engine::snapshot::Header {
        name: "Content-Type".to_owned(),
        value: "application/grpc".into(),
    };
    let request = pair.request.as_mut().unwrap();
    request.method = "POST".to_owned();
    request.headers = vec![grpc()];
    request.body = frames(asked);
    pair.response.headers = vec![grpc()];
    pair.extra_json = format!(r#"{{"http":{{"res":{{"trailers":{{{end}}}}}}}}}"#);
    pair
}

const FINE: &str = r#""grpc-status":["0"]"#;

fn recording() -> Vec<RrPair> {
    vec![
        call("One", &["a"], &["A"], FINE),
        call("One", &["no"], &[], r#""grpc-status":["7"],"grpc-message":["not%20you"]"#),
        call("Down", &["a"], &["1", "2", "3"], FINE),
        call("Up", &["a", "b"], &["both"], FINE),
        call("Talk", &["hi", "a"], &["hello", "A"], FINE),
        call("Talk", &["hi", "b"], &["hello", "B"], FINE),
        call("Talk", &["go", "on"], &["1", "2", "3", "4"], FINE),
    ]
}

async fn client(node: &Node) -> Grpc<Channel> {
    let channel = tonic::transport::Endpoint::new(format!("http://{}", node.addr)).unwrap();
    let mut client = Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/t.S/{method}").parse().unwrap()
}

async fn one(client: &mut Grpc<Channel>, method: &str, text: &str) -> Result<Bytes, Status> {
    client.ready().await.unwrap();
    let asked = Request::new(message(text));
    client.unary(asked, path(method), Raw).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn calls_are_answered_and_end_as_recorded() {
    let node = Node::serving(Limits::default(), recording());
    let mut client = client(&node).await;
    assert_eq!(one(&mut client, "One", "a").await.unwrap(), message("A"));
    let status = one(&mut client, "One", "no").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not you"));
    let status = one(&mut client, "One", "else").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("no_recorded_response"), "{}", status.message());
    assert_eq!(one(&mut client, "Never", "a").await.unwrap_err().code(), Code::Unimplemented);
    let asked = Request::new(message("a"));
    client.ready().await.unwrap();
    let mut down = client.server_streaming(asked, path("Down"), Raw).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = down.message().await.unwrap() {
        seen.push(message);
    }
    assert_eq!(seen, ["1", "2", "3"].map(message));
    let asked = tokio_stream::iter(["a", "b"].map(message));
    client.ready().await.unwrap();
    let up = client.client_streaming(Request::new(asked), path("Up"), Raw).await.unwrap();
    assert_eq!(up.into_inner(), message("both"));
}

/// A call whose client sends what the test says, when it says so.
fn talk(
    client: &Grpc<Channel>,
    method: &str,
) -> (tokio::sync::mpsc::Sender<Bytes>, impl Future<Output = Result<tonic::Streaming<Bytes>, Status>>)
{
    let (sender, said) = tokio::sync::mpsc::channel(4);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let (mut client, path) = (client.clone(), path(method));
    let call = async move {
        client.ready().await.unwrap();
        let call = client.streaming(Request::new(said), path, Raw).await;
        call.map(tonic::Response::into_inner)
    };
    (sender, call)
}

#[tokio::test]
async fn both_sides_speak_in_turn() {
    let node = Node::serving(Limits::default(), recording());
    let client = client(&node).await;
    for (second, answer) in [("b", "B"), ("a", "A")] {
        let (sender, call) = talk(&client, "Talk");
        sender.send(message("hi")).await.unwrap();
        let mut answers = call.await.unwrap();
        assert_eq!(answers.message().await.unwrap(), Some(message("hello")));
        sender.send(message(second)).await.unwrap();
        assert_eq!(answers.message().await.unwrap(), Some(message(answer)));
        // The client has not ended its side, and need not.
        assert_eq!(answers.message().await.unwrap(), None);
    }
    let (sender, call) = talk(&client, "Talk");
    sender.send(message("what?")).await.unwrap();
    assert_eq!(call.await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_client_that_waits_for_more_than_is_due_gets_it() {
    let node = Node::serving(Limits::default(), recording());
    let client = client(&node).await;
    let (sender, call) = talk(&client, "Talk");
    sender.send(message("go")).await.unwrap();
    let mut answers = call.await.unwrap();
    for text in ["1", "2", "3"] {
        assert_eq!(answers.message().await.unwrap(), Some(message(text)));
    }
    sender.send(message("on")).await.unwrap();
    assert_eq!(answers.message().await.unwrap(), Some(message("4")));
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn one_message_is_enough_where_no_call_had_more() {
    let node = Node::serving(Limits::default(), recording());
    let client = client(&node).await;
    let (sender, call) = talk(&client, "One");
    sender.send(message("a")).await.unwrap();
    let mut answers = call.await.unwrap();
    assert_eq!(answers.message().await.unwrap(), Some(message("A")));
    drop(sender);
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_deadline_is_its_end() {
    let late = RrPair { duration: 60_000_000_000, ..call("Late", &["a"], &["A"], FINE) };
    let node = Node::with(
        Limits::default(),
        &compiled_by(vec![late], r#"{"id":"t","responder":{"timing":"recorded"}}"#),
    );
    let mut client = client(&node).await;
    let mut asked = Request::new(message("a"));
    asked.set_timeout(Duration::from_millis(50));
    let status = client.unary(asked, path("Late"), Raw).await.unwrap_err();
    // The client's own clock runs as well, and may be the first.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test]
async fn a_page_speaks_grpc_web() {
    let node = Node::serving(Limits::default(), recording());
    let head =
        "POST /t.S/One HTTP/1.1\r\nHost: api\r\nConnection: close\r\nOrigin: http://page\r\n";
    let text = node
        .exchange(&format!(
            "{head}Content-Type: application/grpc-web-text\r\nContent-Length: 12\r\n\r\nAAAAAAMKAWE="
        ))
        .await;
    assert!(text.ends_with("\r\n\r\nAAAAAAMKAUGAAAAAEGdycGMtc3RhdHVzOiAwDQo="), "{text}");
    assert!(text.contains("content-type: application/grpc-web-text\r\n"), "{text}");
    assert!(text.contains("access-control-allow-origin: http://page\r\n"), "{text}");
    let asked = "OPTIONS /t.S/One HTTP/1.1\r\nHost: api\r\nConnection: close\r\nOrigin: http://page\r\n\
        Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-grpc-web\r\n\r\n";
    let text = node.exchange(asked).await;
    assert!(text.starts_with("HTTP/1.1 204"), "{text}");
    assert!(text.contains("access-control-allow-headers: x-grpc-web\r\n"), "{text}");
    let text = node.exchange(&asked.replace("/t.S/One", "/other")).await;
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
}

#[tokio::test]
async fn a_call_can_ask_for_a_version() {
    let node = Node::serving(Limits::default(), recording());
    let mut client = client(&node).await;
    let ask = |method: &str, version: &str| {
        let mut asked = Request::new(tokio_stream::iter([message("hi"), message("a")]));
        asked.metadata_mut().insert("x-countersign-bundle", version.parse().unwrap());
        (asked, path(method))
    };
    let served = assignment().bundle.to_hex();
    let (asked, to) = ask("Talk", served.get(..12).unwrap());
    let answer = client.streaming(asked, to, Raw).await.unwrap();
    assert_eq!(answer.metadata().get("x-countersign-bundle").unwrap(), served.as_str());
    client.ready().await.unwrap();
    let (asked, to) = ask("Talk", "0123456789ab");
    let refused = client.streaming(asked, to, Raw).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("bundle_not_served"), "{}", refused.message());
}
