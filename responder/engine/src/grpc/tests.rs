//! Bodies in each shape in which they are recorded or sent.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    protobuf::tests::made,
    snapshot::{HttpRequest, HttpResponse},
    transform::message::Reply,
};

fn framed(messages: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| write_frame(0, message, &mut out));
    out
}

fn form(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(&read(body).unwrap().form(false, Purpose::Edit)).unwrap()
}

#[test]
fn content_types_are_told_apart() {
    for (content_type, grpc, as_web) in [
        ("application/grpc", true, None),
        ("Application/gRPC+proto", true, None),
        ("application/grpc; charset=x", true, None),
        ("application/grpc-web", true, Some(false)),
        ("application/grpc-web+proto", true, Some(false)),
        ("application/grpc-web-text+proto", true, Some(true)),
        ("application/grpcx", false, None),
        ("application/json", false, None),
    ] {
        let told = (is_grpc(content_type.as_bytes()), web(content_type.as_bytes()));
        assert_eq!(told, (grpc, as_web), "{content_type}");
    }
}

#[test]
fn every_shape_of_a_body_means_the_same() {
    let message = made(&json!({"1:LEN": "abc", "2:VARINT": 7}));
    let wire = framed(&[&message]);
    let mut gzip = Vec::new();
    write_frame(1, &body::fold(&message).unwrap(), &mut gzip);
    let human = br#"{"1:LEN":"abc","2:VARINT":7}"#.to_vec();
    let text = STANDARD.encode(&wire).into_bytes();
    let mut web = wire.clone();
    write_frame(0x80, b"grpc-status: 0\r\n", &mut web);
    let web_text = [STANDARD.encode(&wire), STANDARD.encode(&web[wire.len()..])].concat();
    for body in [wire.clone(), gzip, human, text, web, message.clone(), web_text.into_bytes()] {
        assert_eq!(form(&body), json!({"1:LEN": "abc", "2:VARINT": 7}), "{body:x?}");
        assert_eq!(key(&body), key(&wire));
        assert_eq!(normal(&body).unwrap_or_else(|| body.into()), wire);
    }
    assert_eq!(key(b""), key(&framed(&[b""])), "a message without fields is like none");
    assert_eq!(form(&framed(&[&message, b""])), json!([{"1:LEN": "abc", "2:VARINT": 7}, {}]));
    assert_eq!(read(&wire[..wire.len() - 1]), None);
    assert_eq!(read(b"\x02\x00\x00\x00\x00"), None);
}

#[test]
fn lengths_follow_an_edit() {
    let wire = framed(&[&made(&json!({"1:LEN": {"2:LEN": "old\u{1}", "4:LEN": "x"}}))]);
    let edit = |form: &[u8]| {
        Some(String::from_utf8(form.to_vec()).unwrap().replace("\"x\"", "\"much longer\"").into())
    };
    let edited = edited(&wire, false, edit).unwrap();
    assert_eq!(form(&edited), json!({"1:LEN": {"2:LEN": "old\u{1}", "4:LEN": "much longer"}}));
}

#[test]
fn a_bomb_stays_folded() {
    let mut bomb = Vec::new();
    write_frame(1, &body::fold(&vec![0; 80 * 1024 * 1024]).unwrap(), &mut bomb);
    assert!(read(&bomb).unwrap().messages[0].folded);
}

fn field(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned().into() }
}

/// Header fields, trailers and body of an answer as it is served.
fn settled(
    headers: &[(&str, &str)],
    trailers: &str,
    body: &[u8],
) -> (Vec<String>, Vec<String>, Bytes) {
    let pair = RrPair {
        request: Some(HttpRequest { body: "{}".into(), ..HttpRequest::default() }),
        response: HttpResponse {
            status: 200,
            headers: headers.iter().map(|(name, value)| field(name, value)).collect(),
            body: body.to_vec().into(),
            ..HttpResponse::default()
        },
        extra_json: format!(r#"{{"http":{{"res":{{"trailers":{{{trailers}}}}}}}}}"#),
        ..RrPair::default()
    };
    let mut reply = Reply::of(&pair);
    settle(&pair, &mut reply);
    let tell = |fields: &[Header]| {
        let tell = |f: &Header| format!("{}: {}", f.name, String::from_utf8_lossy(&f.value));
        fields.iter().map(tell).collect::<Vec<_>>()
    };
    (tell(&reply.response.headers), tell(&reply.trailers), reply.response.body)
}

#[test]
fn an_answer_is_served_with_its_end_behind_it() {
    let grpc = ("Content-Type", "application/grpc");
    let wire = framed(&[b"\x08\x01"]);
    let ok = vec!["grpc-status: 0".to_owned()];
    let plain =
        (vec!["Content-Type: application/grpc".to_owned()], ok.clone(), wire.clone().into());
    assert_eq!(settled(&[grpc], r#""grpc-status":["0"]"#, &wire), plain);
    assert_eq!(settled(&[grpc], "", &wire), plain, "an end is made where none was recorded");
    assert_eq!(settled(&[("grpc-status", "0"), grpc], "", &wire), plain);
    assert_eq!(settled(&[grpc, ("grpc-encoding", "gzip")], "", b"\x08\x01"), plain);
    // Without messages the headers may be the end.
    let only = settled(&[("grpc-status", "5"), grpc], "", b"");
    assert_eq!(only.0, ["grpc-status: 5", "Content-Type: application/grpc"]);
    assert_eq!((only.1.len(), only.2.len()), (0, 0));
    // Where messages are recorded without frames, an empty one leaves nothing.
    assert_eq!(settled(&[grpc], "", b"").2, framed(&[b""]));
    // gRPC-Web.
    let mut web = wire;
    write_frame(0x80, b"Grpc-Status: 0\r\n", &mut web);
    let (headers, trailers, body) =
        settled(&[("Content-Type", "application/grpc-web+proto")], "", &web);
    assert_eq!((headers, trailers), (vec!["Content-Type: application/grpc+proto".to_owned()], ok));
    assert_eq!(body, framed(&[b"\x08\x01"]));
}

proptest! {
    #[test]
    fn any_body_has_a_key_and_one_normal_form(body in prop::collection::vec(any::<u8>(), 0..80), framing in any::<bool>()) {
        let body = if framing { framed(&[&body, &body]) } else { body };
        let normal = normal(&body).unwrap_or_else(|| body.clone().into());
        if read(&body).is_some() {
            prop_assert_eq!(key(&normal), key(&body));
            prop_assert!(super::normal(&normal).is_none_or(|again| again == normal));
        }
    }
}
