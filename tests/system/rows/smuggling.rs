//! H4: requests that two readers could understand differently. Behind or within each stands another one, the marker, which must never be answered.

use super::{
    raw::{responses, status},
    *,
};

/// What is smuggled.
const MARKER: &str = "GET /marker HTTP/1.1\r\nHost: api.example\r\n\r\n";

/// Heads that are refused, by what is wrong with them. `~` stands for the end of a line, and the marker follows.
const REFUSED: &[(&str, &str)] = &[
    (
        "length and chunks",
        "POST /f HTTP/1.1~Host: a~Content-Length: 4~Transfer-Encoding: chunked~~0~~",
    ),
    (
        "chunks and length",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~Content-Length: 4~~0~~",
    ),
    (
        "a space before the colon",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding : chunked~Content-Length: 5~~0~~",
    ),
    (
        "a tab before the colon",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding\t: chunked~Content-Length: 5~~0~~",
    ),
    ("a space before the colon of a length", "POST /f HTTP/1.1~Host: a~Content-Length : 4~~"),
    ("a coding that is not known", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: xchunked~~0~~"),
    (
        "a coding behind chunked",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked, identity~~0~~",
    ),
    ("a coding before chunked", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: gzip, chunked~~0~~"),
    ("identity", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: identity~Content-Length: 3~~"),
    (
        "chunked twice",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~",
    ),
    (
        "chunked twice in a list",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked, chunked~~0~~",
    ),
    (
        "chunked and then identity",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~Transfer-Encoding: identity~~0~~",
    ),
    (
        "identity and then chunked",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: identity~Transfer-Encoding: chunked~~0~~",
    ),
    ("chunked in quotes", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: \"chunked\"~~0~~"),
    ("chunked with a parameter", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked;a=b~~0~~"),
    ("an empty coding", "POST /f HTTP/1.1~Host: a~Transfer-Encoding:~~0~~"),
    ("a comma behind chunked", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked,~~0~~"),
    (
        "a vertical tab before chunked",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: \u{b}chunked~~0~~",
    ),
    (
        "a vertical tab behind chunked",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked\u{b}~~0~~",
    ),
    ("chunked on a line that goes on", "POST /f HTTP/1.1~Host: a~Transfer-Encoding:~ chunked~~0~~"),
    ("a field that goes on", "POST /f HTTP/1.1~Host: a~X: y~ Transfer-Encoding: chunked~~0~~"),
    ("a field that goes on with a tab", "POST /f HTTP/1.1~Host: a~X: y~\tContent-Length: 9~~"),
    ("a space before the first field", "POST /f HTTP/1.1~ Host: a~Content-Length: 0~~"),
    ("a length with a sign", "POST /f HTTP/1.1~Host: a~Content-Length: +5~~"),
    ("a length below zero", "POST /f HTTP/1.1~Host: a~Content-Length: -1~~"),
    ("a length twice in a list", "POST /f HTTP/1.1~Host: a~Content-Length: 5, 5~~"),
    ("two equal lengths", "POST /f HTTP/1.1~Host: a~Content-Length: 0~Content-Length: 0~~"),
    ("two lengths", "POST /f HTTP/1.1~Host: a~Content-Length: 0~Content-Length: 46~~"),
    (
        "two lengths, the large one first",
        "POST /f HTTP/1.1~Host: a~Content-Length: 46~Content-Length: 0~~",
    ),
    ("a length with a space", "POST /f HTTP/1.1~Host: a~Content-Length: 4 6~~"),
    ("a length in base 16", "POST /f HTTP/1.1~Host: a~Content-Length: 0x2e~~"),
    ("a length with a fraction", "POST /f HTTP/1.1~Host: a~Content-Length: 0.0~~"),
    ("a length with an exponent", "POST /f HTTP/1.1~Host: a~Content-Length: 0e1~~"),
    ("an empty length", "POST /f HTTP/1.1~Host: a~Content-Length:~~"),
    ("a length of other digits", "POST /f HTTP/1.1~Host: a~Content-Length: \u{ff15}~~"),
    (
        "a length beyond all numbers",
        "POST /f HTTP/1.1~Host: a~Content-Length: 18446744073709551617~~",
    ),
    ("a length with a comma", "POST /f HTTP/1.1~Host: a~Content-Length: 0,~~"),
    ("a length in quotes", "POST /f HTTP/1.1~Host: a~Content-Length: \"0\"~~"),
    ("a NUL in a length", "POST /f HTTP/1.1~Host: a~Content-Length: 0\u{0}~~"),
    ("a NUL in a value", "GET /f HTTP/1.1~Host: a~X: a\u{0}b~~"),
    ("a NUL in a name", "GET /f HTTP/1.1~Host: a~X\u{0}Y: b~~"),
    ("a NUL in the target", "GET /f\u{0} HTTP/1.1~Host: a~~"),
    ("a carriage return alone in a value", "GET /f HTTP/1.1~Host: a~X: a\rY: b~~"),
    ("a carriage return alone in a name", "GET /f HTTP/1.1~Host: a~X\rY: b~~"),
    ("a line feed alone behind the request line", "GET /f HTTP/1.1\nHost: a~~"),
    ("a line feed alone behind a field", "GET /f HTTP/1.1~Host: a\n~"),
    ("a line feed alone at the end of the head", "GET /f HTTP/1.1~Host: a~\n"),
    ("a line feed alone before the request", "\nGET /f HTTP/1.1~Host: a~~"),
    ("a line feed alone hides a length", "POST /f HTTP/1.1~Host: a~X: y\nContent-Length: 46~~"),
    ("no colon", "GET /f HTTP/1.1~Host: a~nonsense~~"),
    ("no name", "GET /f HTTP/1.1~Host: a~: value~~"),
    ("a space in a name", "POST /f HTTP/1.1~Host: a~Content Length: 46~~"),
    ("a bracket in a name", "GET /f HTTP/1.1~Host: a~X[]: b~~"),
    ("an old client with chunks", "POST /f HTTP/1.0~Host: a~Transfer-Encoding: chunked~~0~~"),
    ("no version", "GET /f~Host: a~~"),
    ("a version that is none", "GET /f HTTP/1.2~Host: a~~"),
    ("a version of long ago", "GET /f HTTP/0.9~Host: a~~"),
    ("a version to come", "GET /f HTTP/3.0~Host: a~~"),
    ("a version in small letters", "GET /f http/1.1~Host: a~~"),
    ("tabs in the request line", "GET\t/f\tHTTP/1.1~Host: a~~"),
    ("two spaces in the request line", "GET  /f HTTP/1.1~Host: a~~"),
    ("a space in the target", "GET /f /g HTTP/1.1~Host: a~~"),
    ("two hosts", "GET /f HTTP/1.1~Host: a~Host: b~~"),
    ("two equal hosts", "GET /f HTTP/1.1~Host: a~Host: a~~"),
    ("no host", "GET /f HTTP/1.1~X: y~~"),
    ("a tunnel through a path", "CONNECT /f HTTP/1.1~Host: a~~"),
    ("a target of a host alone", "GET a.example:80 HTTP/1.1~Host: a~~"),
    (
        "a chunk's size beyond all numbers",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~fffffffffffffffff~",
    ),
    (
        "a chunk's size that wraps around",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~10000000000000000~",
    ),
    ("a chunk's size with 0x", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0x0~~"),
    ("a chunk's size with a sign", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~+0~~"),
    ("a chunk's size below zero", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~-1~~"),
    ("a space before a chunk's size", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~ 0~~"),
    ("no chunk's size", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~~~"),
    (
        "a chunk's size that is no number",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~g~~",
    ),
    (
        "a line feed alone behind a chunk's size",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0\n~",
    ),
    (
        "a line feed alone behind an extension",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~1;x\na~0~~",
    ),
    (
        "a line feed alone in the last chunk's extension",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0;x\n0~X: y~~",
    ),
    (
        "a line feed alone that ends the last chunk",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0;x\n~~",
    ),
    (
        "a line feed alone behind a chunk",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~1~a\n0~~",
    ),
    (
        "a line feed alone behind the last chunk",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0~\n",
    ),
    (
        "a chunk that is longer than its size",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~1~ab~0~~",
    ),
    ("a chunk without its end", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~1~a0~~"),
    (
        "a carriage return alone behind a size",
        "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0\rX~~",
    ),
    ("a trailer that goes on", "POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0~X: y\n Z~~"),
];

/// Requests whose body is the marker: whoever reads the length that they have answers one request. `{}` is its length, `@` the marker.
const BODIES: &[(&str, &str)] = &[
    ("a body of a GET", "GET /f HTTP/1.1~Host: a~Connection: close~Content-Length: {}~~@"),
    ("a body of a HEAD", "HEAD /f HTTP/1.1~Host: a~Connection: close~Content-Length: {}~~@"),
    ("a body of a DELETE", "DELETE /f HTTP/1.1~Host: a~Connection: close~Content-Length: {}~~@"),
    (
        "zeros before a length",
        "POST /f HTTP/1.1~Host: a~Connection: close~Content-Length: 000{}~~@",
    ),
    (
        "a field that looks like the coding",
        "POST /f HTTP/1.1~Host: a~Connection: close~Transfer_Encoding: chunked~Content-Length: {}~~@",
    ),
    (
        "the coding asked for",
        "POST /f HTTP/1.1~Host: a~Connection: close~TE: chunked~Content-Length: {}~~@",
    ),
    ("an old client with a length", "POST /f HTTP/1.0~Host: a~Content-Length: {}~~@"),
    ("a chunk", "POST /f HTTP/1.1~Host: a~Connection: close~Transfer-Encoding: cHuNkEd~~{x}~@~0~~"),
    (
        "a chunk with zeros before its size",
        "POST /f HTTP/1.1~Host: a~Connection: close~Transfer-Encoding: chunked~~000{x}~@~0~~",
    ),
    (
        "a chunk with an extension",
        "POST /f HTTP/1.1~Host: a~Connection: close~Transfer-Encoding: chunked~~{x};a=\"b\"~@~0~~",
    ),
    (
        "a length in the trailers",
        "POST /f HTTP/1.1~Host: a~Connection: close~Transfer-Encoding: chunked~~0~Content-Length: 5~~",
    ),
    (
        "a coding in the trailers",
        "POST /f HTTP/1.1~Host: a~Connection: close~Transfer-Encoding: chunked~~{x}~@~0~Transfer-Encoding: chunked~~",
    ),
    (
        "an upgrade with a body",
        "POST /f HTTP/1.1~Host: a~Connection: close, upgrade~Upgrade: h2c~Content-Length: {}~~@",
    ),
    (
        "a field that is for this hop only",
        "POST /f HTTP/1.1~Host: a~Connection: close, content-length~Content-Length: {}~~@",
    ),
];

fn lines(text: &str) -> String {
    text.replace('~', "\r\n")
}

async fn world() -> World {
    let setup = Setup::flags("--journal 65536").line("/marker", &json!("MARKER"));
    World::serve_with(Vec::new(), &setup).await
}

/// Refused with 400 or 501, once, and the connection is closed; it may also end without a word.
async fn refused(world: &World, name: &str, bytes: &str) {
    let text = world.exchange(bytes).await;
    assert!(["400", "501"].contains(&status(&text)), "{name}: {text}");
    assert_eq!(responses(&text), 1, "{name}: {text}");
}

#[tokio::test]
async fn h04_what_two_readers_could_read_differently_is_refused_and_nothing_behind_it_is_answered()
{
    assert!(REFUSED.len() + BODIES.len() >= 60);
    let world = world().await;
    for (name, head) in REFUSED {
        refused(&world, name, &format!("{}{MARKER}", lines(head))).await;
    }
    let head = lines("POST /f HTTP/1.1~Host: a~Transfer-Encoding: chunked~~");
    for size in ["1;", "0;"] {
        let long = format!("{size}{}", "x".repeat(1 << 20));
        refused(&world, "an extension of 1 MiB", &format!("{head}{long}\r\n\r\n{MARKER}")).await;
    }
    let size = format!("{:0200}", 1);
    refused(&world, "a size of 200 digits", &format!("{head}{size}\r\na\r\n0\r\n\r\n{MARKER}"))
        .await;
    // What follows a CONNECT would belong to the tunnel that there is not.
    let connect = lines("CONNECT a.example HTTP/1.1~Host: a.example~~");
    refused(&world, "a tunnel without a port", &format!("{connect}{MARKER}")).await;
    for (name, request) in BODIES {
        let length = MARKER.len();
        let request = lines(request).replace("{}", &length.to_string());
        let request = request.replace("{x}", &format!("{length:x}")).replace('@', MARKER);
        let text = world.exchange(format!("{request}{MARKER}")).await;
        assert_eq!((responses(&text), status(&text)), (1, "404"), "{name}: {text}");
    }
    assert_eq!(world.noted("/marker").await, Vec::<Value>::new(), "the marker was answered");
    assert!(world.noted("/f").await.len() >= BODIES.len(), "the journal has what was answered");
    // The marker is answered, and noted, where it is a request.
    let plain = "GET /f HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = MARKER.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let text = world.exchange(format!("{plain}{last}")).await;
    assert!(responses(&text) == 2 && text.contains("MARKER"), "{text}");
    assert_eq!(world.noted("/marker").await.len(), 1);
    drop(world.end().await);
}

#[tokio::test]
async fn h04_an_upgrade_that_is_not_taken_makes_no_tunnel_and_what_follows_is_a_request() {
    // RFC 9110, section 7.8: who does not switch goes on in HTTP/1.1. Java's client asks each server for h2c this way and goes on on the same
    // connection, so that it is not closed. Nothing is passed on to anybody, so that nobody can take the bytes for something else.
    let world = world().await;
    for upgrade in ["h2c", "websocket", "TLS/1.0", "foo"] {
        let head = format!(
            "GET /f HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let last = MARKER.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let text = world.exchange(format!("{head}{last}")).await;
        assert_eq!((responses(&text), status(&text)), (2, "404"), "{upgrade}: {text}");
        assert!(!text.contains("HTTP/1.1 101") && text.contains("MARKER"), "{upgrade}: {text}");
    }
    drop(world.end().await);
}
