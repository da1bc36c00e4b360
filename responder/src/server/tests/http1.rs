//! HTTP/1 byte by byte: framing, pipelining, expectations, answers without a body, and requests that mean two things.

use countersign_engine::snapshot::Header;

use super::*;

const GET_A: &str = "GET /a HTTP/1.1\r\nHost: api\r\n\r\n";
const LAST_A: &str = "GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";

/// `POST /form` with this body.
fn posted(body: &'static str) -> RrPair {
    let mut pair = pair("/form", "taken");
    let request = pair.request.as_mut().unwrap();
    request.method = "POST".to_owned();
    request.body = Bytes::from_static(body.as_bytes());
    request.headers = vec![Header { name: "content-type".into(), value: "text/plain".into() }];
    pair
}

fn answered(path: &str, status: u16, body: &'static str) -> RrPair {
    let mut pair = pair(path, body);
    pair.response.status = status;
    pair
}

/// The statuses of responses, in order.
fn statuses(text: &str) -> Vec<&str> {
    let statuses = text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5));
    statuses.filter(|status| status.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let paths = ["/1", "/2", "/3", "/4"];
    let pairs = paths.iter().rev().map(|path| pair(path, format!("<{path}>"))).collect();
    let node = Node::serving(Limits::default(), pairs);
    let mut requests = String::new();
    for path in paths {
        requests += &format!("GET {path} HTTP/1.1\r\nHost: api\r\n\r\n");
    }
    let text = node.exchange(&(requests + LAST_A)).await;
    let at: Vec<usize> =
        paths.iter().map(|path| text.find(&format!("<{path}>")).unwrap()).collect();
    assert!(at.is_sorted(), "{text}");
    assert_eq!(statuses(&text), ["200", "200", "200", "200", "404"]);
}

#[tokio::test]
async fn chunks_may_have_extensions_and_trailers() {
    let node =
        Node::serving(Limits::default(), vec![posted("hello world"), pair("/a", "recorded")]);
    let head = "POST /form HTTP/1.1\r\nHost: api\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "5;a=b;c=\"d\"\r\nhello\r\n006\r\n world\r\n0;end\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n";
    let text = node.exchange(&format!("{head}{body}{LAST_A}")).await;
    assert_eq!(statuses(&text), ["200", "200"], "{text}");
    assert!(text.contains("taken") && text.contains("recorded"), "{text}");
    // The same, a byte at a time.
    let mut stream = node.connect().await;
    for byte in format!("{head}{body}{LAST_A}").as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(statuses(&rest(stream).await), ["200", "200"]);
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let node = Node::serving(with(|limits| limits.body = 11), vec![posted("hello world")]);
    let head = |length: usize, expect: &str| {
        format!(
            "POST /form HTTP/1.1\r\nHost: api\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nExpect: {expect}\r\n\r\n"
        )
    };
    let mut stream = node.connect().await;
    stream.write_all(head(11, "100-continue").as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello world").await.unwrap();
    assert!(read_until(&mut stream, "taken").await.starts_with("HTTP/1.1 200"));

    for (request, status) in [
        (head(12, "100-continue"), "413"),
        (head(11, "the unexpected"), "417"),
        (head(11, "100-continue").replace("Host: api\r\n", ""), "400"),
    ] {
        let text = node.exchange(&request).await;
        assert_eq!(statuses(&text), [status], "{text}");
        assert!(text.contains("connection: close"), "{text}");
    }
    // No expectation can be met in HTTP/1.0, which knows no interim responses.
    let old = head(11, "100-continue").replace("HTTP/1.1", "HTTP/1.0") + "hello world";
    assert_eq!(statuses(&node.exchange(&old).await), ["200"]);
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let mut recorded = answered("/own", 404, "no such thing");
    recorded.request.as_mut().unwrap().method = "HEAD".to_owned();
    let node = Node::serving(
        Limits::default(),
        vec![recorded, pair("/own", "12345"), pair("/a", "recorded")],
    );
    let head = |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: api\r\n\r\n");
    let text = node.exchange(&(head("/a") + &head("/own") + &head("/none") + LAST_A)).await;
    assert_eq!(statuses(&text), ["200", "404", "404", "200"], "{text}");
    assert_eq!(text.matches("content-length: 8\r\n").count(), 2, "{text}");
    assert_eq!(text.matches("recorded").count(), 1, "{text}");
}

#[tokio::test]
async fn no_content_and_not_modified_have_no_body() {
    let pairs =
        vec![answered("/204", 204, "odd"), answered("/304", 304, "odd"), pair("/a", "recorded")];
    let node = Node::serving(Limits::default(), pairs);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api\r\n\r\n");
    let text = node.exchange(&(get("/204") + &get("/304") + LAST_A)).await;
    assert_eq!(statuses(&text), ["204", "304", "200"], "{text}");
    assert!(!text.contains("odd"), "{text}");
    let (before, _) = text.split_once("HTTP/1.1 304").unwrap();
    assert!(!before.contains("content-length") && !before.contains("chunked"), "{text}");
}

#[tokio::test]
async fn old_clients_need_no_host_and_are_left_unless_they_ask_to_stay() {
    let node = Node::new(Limits::default());
    let text = node.exchange("GET /a HTTP/1.0\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.0 200") && text.ends_with("recorded"), "{text}");
    assert!(text.contains("content-length: 8"), "{text}");
    let staying = "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let text = node.exchange(&format!("{staying}GET /a HTTP/1.0\r\n\r\n")).await;
    assert_eq!(statuses(&text), ["200", "200"]);
    assert!(text.to_ascii_lowercase().contains("connection: keep-alive"), "{text}");
}

#[tokio::test]
async fn the_asterisk_is_a_target_like_others() {
    let mut options = pair("*", "");
    options.request.as_mut().unwrap().method = "OPTIONS".to_owned();
    options.response.headers = vec![Header { name: "allow".into(), value: "GET".into() }];
    let node = Node::serving(Limits::default(), vec![options, pair("/a", "recorded")]);
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: api\r\n\r\n";
    let text = node.exchange(&format!("{asterisk}{LAST_A}")).await;
    assert_eq!(statuses(&text), ["200", "200"], "{text}");
    assert!(text.contains("allow: GET"), "{text}");
    let other = Node::new(Limits::default());
    let text = other.exchange(&format!("{asterisk}{LAST_A}")).await;
    assert_eq!(statuses(&text), ["404", "200"], "{text}");
}

#[tokio::test]
async fn offers_to_change_the_protocol_are_passed_over() {
    let node = Node::new(Limits::default());
    for offer in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Upgrade: anything\r\n",
    ] {
        let request = format!("GET /a HTTP/1.1\r\nHost: api\r\n{offer}\r\n");
        let text = node.exchange(&format!("{request}{LAST_A}")).await;
        assert_eq!(statuses(&text), ["200", "200"], "{offer}: {text}");
    }
}

/// Fields of a head that two readers could take for different requests, or that are none.
const FIELDS: &[&str] = &[
    // Two opinions about the length.
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "content-length: 5\r\nX: y\r\ntransfer-encoding: chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 0\r\nContent-Length: 35\r\n",
    "Content-Length: 5, 6\r\n",
    "Content-Length: 5, 5\r\n",
    // No length.
    "Content-Length: +5\r\n",
    "Content-Length: -5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length: 5;\r\n",
    "Content-Length: 5.0\r\n",
    "Content-Length: five\r\n",
    "Content-Length:\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length : 5\r\n",
    "Content-Length\t: 5\r\n",
    "Content-Length\r\n",
    " Content-Length: 5\r\n",
    // No coding that we know.
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    " Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: chun\r\n ked\r\n",
    // Folded lines, bare line ends, and bytes that are allowed nowhere.
    "X: y\r\n folded: z\r\n",
    "X: y\r\n\tfolded: z\r\n",
    "X: y\nZ: z\r\n",
    "X: y\n\r\n",
    "X: y\rZ: z\r\n",
    "X: y\r\r\n",
    "X: y\0z\r\n",
    "X\0: y\r\n",
    "X y: z\r\n",
    ": y\r\n",
    "X\r\n",
    "Host: evil\r\n",
];

/// Heads, and beginnings of bodies, that two readers could take for different requests, or that are none.
fn ambiguous() -> Vec<String> {
    let post = |fields: &str| format!("POST /x HTTP/1.1\r\nHost: api\r\n{fields}\r\n");
    let mut all = Vec::new();
    for fields in FIELDS {
        all.push(post(fields));
    }
    for body in [
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-1\r\n",
        "\r\n",
        "g\r\n",
        "ffffffffffffffff1\r\n",
        "5\nhello\r\n",
    ] {
        all.push(post("Transfer-Encoding: chunked\r\n") + body);
    }
    for body in ["5;x\nhello\r\n", "5\r\nhelloXX0\r\n\r\n", "0\r\nX: y\n\r\n", "5 5\r\nhello\r\n"] {
        all.push(post("Transfer-Encoding: chunked\r\n") + body);
    }
    for head in [
        "POST /x HTTP/1.0\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /x HTTP/1.1\nHost: api\n\n",
        "\nGET /x HTTP/1.1\r\nHost: api\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: api\r\n\r\n",
        "GET /x\r\nHost: api\r\n\r\n",
        "GET /x HTTP/1.2\r\nHost: api\r\n\r\n",
        "GET /x HTTP/9.9\r\nHost: api\r\n\r\n",
        "GET /\0x HTTP/1.1\r\nHost: api\r\n\r\n",
        "GET /x y HTTP/1.1\r\nHost: api\r\n\r\n",
        "G\tT /x HTTP/1.1\r\nHost: api\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: api\r\n\r\n",
        "GET /x HTTP/1.1\r\n\r\n",
        "CONNECT /x HTTP/1.1\r\nHost: api\r\n\r\n",
        "CONNECT api HTTP/1.1\r\nHost: api\r\n\r\n",
    ] {
        all.push(head.to_owned());
    }
    all
}

#[tokio::test]
async fn what_could_be_two_requests_is_none() {
    let node = Node::new(Limits::default());
    let cases = ambiguous();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in cases {
        let text = node.exchange(&format!("{case}{GET_A}{GET_A}")).await;
        let good = matches!(statuses(&text)[..], ["400" | "501"]);
        assert!(good && !text.contains("recorded"), "{case:?} got {text:?}");
        // What came before is answered all the same.
        let text = node.exchange(&format!("{GET_A}{case}{GET_A}")).await;
        let good = matches!(statuses(&text)[..], ["200", "400" | "501"]);
        assert!(good && text.matches("recorded").count() == 1, "{case:?} got {text:?}");
    }
}

#[tokio::test]
async fn a_node_that_leaves_closes_each_connection_with_its_next_response() {
    let node = Node::new(Limits::default());
    let mut stream = node.connect().await;
    stream.write_all(GET_A.as_bytes()).await.unwrap();
    let stays = read_until(&mut stream, "recorded").await;
    assert!(!stays.to_lowercase().contains("connection:"), "{stays}");
    node.drain.leave();
    stream.write_all(GET_A.as_bytes()).await.unwrap();
    // Also one that comes now is answered.
    for last in [rest(stream).await, node.exchange(GET_A).await] {
        assert!(last.contains("connection: close") && last.ends_with("recorded"), "{last}");
    }
}
