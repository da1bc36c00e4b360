//! Calls of gRPC: matched by their messages, answered with their end behind them, with fresh tokens inside and beside them.

use super::*;
use crate::{grpc::write_frame, protobuf::tests::made};

fn framed(messages: &[Value]) -> Bytes {
    let mut out = Vec::new();
    messages.iter().for_each(|message| write_frame(0, &made(message), &mut out));
    out.into()
}

fn messages(body: &[u8]) -> Value {
    serde_json::from_slice(&crate::grpc::to_form(body, true).unwrap()).unwrap()
}

fn field(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned().into() }
}

/// A call of `/shop.Cart/Get` with these bodies.
fn call(request: Bytes, response: Bytes) -> RrPair {
    let mut pair = pair("POST", "/shop.Cart/Get", "", "");
    let sent = pair.request.as_mut().unwrap();
    sent.headers = vec![field("Content-Type", "application/grpc")];
    sent.body = request;
    pair.response.headers = vec![field("Content-Type", "application/grpc")];
    pair.response.body = response;
    pair.extra_json =
        r#"{"http":{"res":{"trailers":{"grpc-status":["0"],"x-sum":["7"]}}}}"#.to_owned();
    pair
}

fn dial(serving: &Serving, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    let fields = [("content-type", "application/grpc")];
    let headers = fields
        .iter()
        .chain(headers)
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    let request = Request {
        method: "POST",
        host: "api.example",
        path: "/shop.Cart/Get",
        headers: &headers.collect(),
        body,
        ..Request::default()
    };
    serving.answer(&request, seconds(NOW))
}

#[test]
fn a_call_is_matched_by_its_fields_in_any_order_and_shape() {
    let asked = json!({"1:LEN": "a", "2:LEN": {"1:VARINT": 1, "2:LEN": "x\u{1}"}});
    let recorded = vec![
        call(framed(&[json!({"1:LEN": "b"})]), framed(&[json!({"1:LEN": "B"})])),
        call(framed(std::slice::from_ref(&asked)), framed(&[json!({"1:LEN": "A"}), json!({})])),
        // In the human form, as some recorders write it.
        call(r#"{"1:LEN":"c"}"#.into(), r#"{"1:LEN":"C"}"#.into()),
    ];
    let serving = serve(recorded, r#"{"id":"t"}"#, &ring(None));
    let mut other = Vec::new();
    write_frame(0, b"\x12\x06\x12\x02x\x01\x08\x01\x0a\x01a", &mut other);
    for body in [&*framed(&[asked]), &*other] {
        let answer = hit(dial(&serving, &[], body));
        assert_eq!(messages(&answer.body), json!([{"1:LEN": "A"}, {}]));
        let trailers = answer.trailers.unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-sum"]),
            (&"0".parse().unwrap(), &"7".parse().unwrap())
        );
    }
    let answer = hit(dial(&serving, &[], &framed(&[json!({"1:LEN": "c"})])));
    assert_eq!(answer.body, framed(&[json!({"1:LEN": "C"})]));
    assert!(matches!(dial(&serving, &[], &framed(&[json!({"1:LEN": "d"})])), Answer::Miss));
    let method = serving.snapshot().method("/shop.Cart/Get").unwrap();
    assert_eq!((method.requests, method.responses), (1, 2));
    assert_eq!(serving.snapshot().method("/shop.Cart/Put"), None);
}

#[test]
fn tokens_inside_and_beside_messages_are_made_anew() {
    let token = recorded_token(&json!({"sub": "a", "iat": RECORDED_AT, "exp": RECORDED_AT + 60}));
    let answer = json!({"1:LEN": {"1:LEN": token, "2:LEN": "x"}, "2:VARINT": 3});
    let mut pair = call(framed(&[json!({"1:LEN": "login"})]), framed(&[answer]));
    pair.response.headers.push(field("x-token", &token));
    pair.extra_json = format!(
        r#"{{"http":{{"res":{{"trailers":{{"grpc-status":["0"],"x-late":["{token}"]}}}}}}}}"#
    );
    let resign = r#"{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#;
    let template = format!(
        r#"{{"id":"t","responder":[
        {{"extractor":{{"type":"res_body"}},"transforms":[{{"type":"json_path","config":{{"path":"1:LEN.1:LEN"}}}},{resign}]}},
        {{"extractor":{{"type":"http_res_header","config":{{"name":"x-token"}}}},"transforms":[{resign}]}},
        {{"extractor":{{"type":"http_res_trailer","config":{{"name":"x-late"}}}},"transforms":[{resign}]}}]}}"#
    );
    let serving = serve(vec![pair], &template, &ring(Some(KEY)));
    assert!(codes(serving.diagnostics()).is_empty(), "{:?}", serving.diagnostics());
    let answer = hit(dial(&serving, &[], &framed(&[json!({"1:LEN": "login"})])));
    let message = messages(&answer.body);
    assert_eq!((&message[0]["1:LEN"]["2:LEN"], &message[0]["2:VARINT"]), (&json!("x"), &json!(3)));
    let trailers = answer.trailers.unwrap();
    for fresh in [
        message[0]["1:LEN"]["1:LEN"].as_str().unwrap(),
        answer.headers["x-token"].to_str().unwrap(),
        trailers["x-late"].to_str().unwrap(),
    ] {
        assert_eq!(verified(fresh)["exp"], json!(NOW + 60));
    }
    assert_eq!(answer.resigned, 3);
}

#[test]
fn a_caller_is_known_by_a_token_in_metadata_and_one_in_a_message_is_compared_by_whose_it_is() {
    let token =
        |sub: &str, at: i64| recorded_token(&json!({"sub": sub, "iat": at, "exp": at + 60}));
    let mut pairs = Vec::new();
    for user in ["alice", "bob"] {
        let mut mine = call(framed(&[json!({"1:LEN": "mine"})]), framed(&[json!({"1:LEN": user})]));
        let bearer = format!("Bearer {}", token(user, RECORDED_AT));
        mine.request.as_mut().unwrap().headers.push(field("authorization", &bearer));
        pairs.push(mine);
        let asked = json!({"1:LEN": "who", "2:LEN": token(user, RECORDED_AT)});
        pairs.push(call(framed(&[asked]), framed(&[json!({"1:LEN": user, "2:VARINT": 1})])));
    }
    let serving = serve(pairs, r#"{"id":"t"}"#, &ring(None));
    for user in ["bob", "alice", "bob"] {
        let fresh = token(user, NOW);
        let mine = framed(&[json!({"1:LEN": "mine"})]);
        let answer = hit(dial(&serving, &[("authorization", &format!("Bearer {fresh}"))], &mine));
        assert_eq!(messages(&answer.body), json!([{"1:LEN": user}]));
        let mut folded = Vec::new();
        let asked = made(&json!({"1:LEN": "who", "2:LEN": fresh}));
        write_frame(1, &crate::body::fold(&asked).unwrap(), &mut folded);
        let answer = hit(dial(&serving, &[], &folded));
        assert_eq!(messages(&answer.body), json!([{"1:LEN": user, "2:VARINT": 1}]));
    }
}

#[test]
fn chains_on_requests_mask_a_field() {
    let template = r#"{"id":"t","responder":[{"extractor":{"type":"req_body"},"transforms":[
        {"type":"json_path","config":{"path":"2:LEN"}},{"type":"constant","config":{"new":"*"}}]}]}"#;
    let recorded = call(
        framed(&[json!({"1:LEN": "a", "2:LEN": "nonce-1"})]),
        framed(&[json!({"1:LEN": "A"})]),
    );
    let serving = serve(vec![recorded], template, &ring(None));
    let asked =
        |name: &str| dial(&serving, &[], &framed(&[json!({"1:LEN": name, "2:LEN": "other"})]));
    assert!(matches!((asked("a"), asked("b")), (Answer::Hit(_), Answer::Miss)));
}

#[test]
fn a_recorded_signature_in_the_human_form_is_the_message_itself() {
    let asked = json!({"1:LEN": "a"});
    let mut edited = call(framed(&[json!({"1:LEN": "z"})]), framed(&[json!({"1:LEN": "A"})]));
    edited.signature.insert("http:requestBodyJSON".to_owned(), r#"{ "1:LEN": "a" }"#.into());
    let mut alone = call(framed(&[json!({})]), framed(&[json!({"1:LEN": "B"})]));
    alone.request = None;
    for (key, value) in [
        ("http:method", "POST"),
        ("http:host", "api.example"),
        ("http:url", "/shop.Cart/Get"),
        ("http:queryparams", ""),
        (
            "http:requestBodyJSON",
            r#"{"fieldsMap":{"1":{"fields":[{"asString":"b","id":"1","type":"PROTOBUF_FIELD_TYPE_LENGTH_DELIM"}]}}}"#,
        ),
    ] {
        alone.signature.insert(key.to_owned(), value.to_owned().into());
    }
    let serving = serve(vec![edited, alone], r#"{"id":"t"}"#, &ring(None));
    let answer = hit(dial(&serving, &[], &framed(&[asked])));
    assert_eq!(messages(&answer.body), json!([{"1:LEN": "A"}]));
    let answer = hit(dial(&serving, &[], &framed(&[json!({"1:LEN": "b"})])));
    assert_eq!(messages(&answer.body), json!([{"1:LEN": "B"}]));
}

#[test]
fn a_dialogue_follows_what_the_client_says() {
    let line = |text: &str| json!({"1:LEN": text});
    let talk = |asked: [&str; 2], answered: [&str; 2]| {
        call(framed(&asked.map(line)), framed(&answered.map(line)))
    };
    let recorded = vec![talk(["hi", "a"], ["hello", "A"]), talk(["hi", "b"], ["hello", "B"])];
    let serving = serve(recorded, r#"{"id":"t"}"#, &ring(None));
    let headers = HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    )]);
    let hear = |said: &[&str], ended: bool, before: Option<crate::serving::Line>| {
        let said: Vec<Value> = said.iter().map(|text| line(text)).collect();
        let request = Request {
            method: "POST",
            host: "localhost",
            path: "/shop.Cart/Get",
            headers: &headers,
            body: &framed(&said),
            ..Request::default()
        };
        serving.listen(&request, ended, before, seconds(NOW))
    };
    let first = hear(&["hi"], false, None).unwrap();
    assert_eq!((first.requests, first.due(1), first.due(2), first.open), (2, 1, 2, true));
    assert_eq!(messages(&first.answers.concat()), json!([{"1:LEN": "hello"}, {"1:LEN": "A"}]));
    let second = hear(&["hi", "b"], false, Some(first.clone())).unwrap();
    assert_eq!(messages(&second.answers[1]), json!([{"1:LEN": "B"}]));
    assert!(!second.open);
    let same = hear(&["hi", "a"], true, Some(first)).unwrap();
    assert_eq!(messages(&same.answers[1]), json!([{"1:LEN": "A"}]));
    assert!(hear(&["hi"], true, None).is_none() && hear(&["ho"], false, None).is_none());
    // Before a word was said the first call is as good as any.
    assert_eq!(hear(&[], false, None).unwrap().due(0), 0);
}
