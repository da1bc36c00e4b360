//! Answers that do not come as they should, on the wire.

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

const ASK: &[u8] = b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n";

fn node(rule: &str) -> Node {
    let config = serde_json::json!({"id": "c", "chaos": {"rules": [rule]}}).to_string();
    let config = TestConfig::parse(config.as_bytes()).unwrap();
    let pairs = vec![pair("/a", "recorded")];
    let (compiled, found) = compile(pairs, &Template::default(), &config, Serve::Out);
    assert!(!found.has_errors(), "{:?}", found.as_slice());
    Node::with(Limits::default(), &Arc::new(compiled))
}

/// What comes back, and how the connection ends.
async fn ask(node: &Node) -> (String, Result<()>) {
    let mut stream = node.connect().await;
    stream.write_all(ASK).await.unwrap();
    let mut text = Vec::new();
    let read = async {
        loop {
            match stream.read_buf(&mut text).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(20), read).await.expect("it should end");
    (String::from_utf8(text).unwrap(), end)
}

#[tokio::test]
async fn connections_end_as_they_are_told() {
    for (rule, resets) in
        [("connection=reset", true), ("connection=refuse", true), ("connection=drop", false)]
    {
        let node = node(rule);
        let (text, end) = ask(&node).await;
        assert_eq!(text, "", "{rule}");
        let kind = end.map_err(|error| error.kind());
        assert_eq!(kind, if resets { Err(ErrorKind::ConnectionReset) } else { Ok(()) }, "{rule}");
        let name = rule.split('=').next_back().unwrap();
        let counted = format!("countersign_chaos_total{{effect=\"{name}\"}} 1");
        assert!(node.metrics.render().unwrap().contains(&counted));
    }
}

#[tokio::test]
async fn a_cut_body_promises_more_than_it_holds() {
    let (text, end) = ask(&node("body=truncate:3")).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 8"), "{head}");
    assert!(head.contains("x-speedscale-chaos: effect=truncate;truncate=3;rule=chaos-1"), "{head}");
    assert_eq!((body, end.is_ok()), ("rec", true));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_with_its_client() {
    for rule in ["no-response", "connection=stall"] {
        let node = node(rule);
        let mut stream = node.connect().await;
        stream.write_all(ASK).await.unwrap();
        let hits = || node.metrics.render().unwrap().contains("requests_total{result=\"hit\"} 1");
        until("the request is stalled", hits).await;
        assert_eq!(node.metrics.connections.get(), 1);
        assert!(stream.try_read(&mut [0; 9]).is_err(), "nothing has come");
        drop(stream);
        until("the connection is given up", || node.metrics.connections.get() == 0).await;
    }
}

#[tokio::test]
async fn in_http2_only_the_stream_ends() {
    for (rule, reason) in [
        ("connection=reset", h2::Reason::INTERNAL_ERROR),
        ("connection=drop", h2::Reason::INTERNAL_ERROR),
        ("connection=refuse", h2::Reason::REFUSED_STREAM),
        ("body=truncate:3", h2::Reason::INTERNAL_ERROR),
    ] {
        let node = node(&format!("{rule}, rate=1/2"));
        let io = TokioIo::new(node.connect().await);
        let (mut client, connection) =
            http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.unwrap();
        let connection = tokio::spawn(connection);
        let ask = || http::Request::get("http://api/a").body(Empty::new()).unwrap();
        let error = match client.send_request(ask()).await {
            Err(error) => error,
            Ok(response) => response.into_body().collect().await.unwrap_err(),
        };
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<h2::Error>();
        assert_eq!(source.and_then(h2::Error::reason), Some(reason), "{rule}");
        let whole = client.send_request(ask()).await.unwrap().into_body().collect().await;
        assert_eq!(whole.unwrap().to_bytes(), "recorded", "{rule}");
        drop(client);
        connection.await.unwrap().unwrap();
    }
}
