//! A table of every place that a token may stand in.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::snapshot::{HttpRequest, HttpResponse};

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln";
const OTHER: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ2In0.c2ln";

fn headers(fields: &[(&str, &str)]) -> Vec<Header> {
    fields
        .iter()
        .map(|(name, value)| Header {
            name: (*name).into(),
            value: Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

fn told(hits: Vec<Hit>) -> Vec<String> {
    hits.into_iter()
        .map(|hit| match hit.seen {
            Seen::Token(token) => match token.kind.form {
                token::Form::Opaque => format!("{} opaque", hit.place),
                _ => format!("{} {}", hit.place, token.sub),
            },
            Seen::FalseFriend { shown, why } => format!("{}: {shown} is {why}", hit.place),
        })
        .collect()
}

fn request(query: &str, fields: &[(&str, &str)], body: &str) -> Vec<String> {
    let request = HttpRequest {
        path: "/x".into(),
        query: query.into(),
        headers: headers(fields),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..HttpRequest::default()
    };
    told(in_request(&RrPair { request: Some(request), ..RrPair::default() }).0)
}

fn response(fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<String> {
    let response = HttpResponse {
        headers: headers(fields),
        body: Bytes::copy_from_slice(body.as_ref()),
        ..HttpResponse::default()
    };
    told(in_response(&RrPair { response, ..RrPair::default() }).0)
}

#[test]
fn header_fields_and_cookies() {
    let bearer = format!("Bearer {JWT}");
    let double = format!("bearer  {JWT}");
    let both = format!("Token a={JWT}, b=\"{OTHER}\"");
    let basic = format!("Basic {}", STANDARD.encode(format!("x-token:{JWT}")));
    for (fields, expected) in [
        (vec![("Authorization", bearer.as_str())], vec!["header authorization Bearer u"]),
        (vec![("authorization", &double)], vec!["header authorization bearer u"]),
        (vec![("X-T", JWT), ("x-t", OTHER)], vec!["header x-t u", "header x-t #2 v"]),
        (
            vec![("X-T", both.as_str())],
            vec!["header x-t → text after a= u", "header x-t → text after b=\" v"],
        ),
        (
            vec![("Authorization", &basic)],
            vec!["header authorization Basic → base64 → text after x-token: u"],
        ),
        (
            vec![("Authorization", "Bearer sk_live_0123456789")],
            vec!["header authorization Bearer opaque"],
        ),
        (vec![("Authorization", "Basic dXNlcjpwYXNzd29yZA==")], vec![]),
        (vec![("Host", "api.nasa.gov")], vec!["header host: api.nasa.gov is a host name"]),
        (vec![("User-Agent", "node/1.2.3 (linux)")], vec![]),
    ] {
        assert_eq!(request("", &fields, ""), expected, "{fields:?}");
    }
    let cookies = format!("a=1; session=\"{JWT}\";t={OTHER}");
    assert_eq!(request("", &[("Cookie", &cookies)], ""), ["cookie session → text u", "cookie t v"]);
    let set = format!("sid={JWT}; Path=/; HttpOnly");
    let encoded = format!("auth=Bearer%20{OTHER}; Path=/");
    assert_eq!(
        response(&[("Set-Cookie", &set), ("set-cookie", &encoded)], ""),
        ["cookie sid u", "cookie auth → percent-encoded Bearer v"]
    );
}

#[test]
fn queries_paths_and_forms() {
    assert_eq!(request(&format!("a=b&access_token={JWT}"), &[], ""), ["query access_token u"]);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(
        request("", &form, &format!("grant_type=x&assertion={JWT}&refresh_token=opaque-123")),
        ["form assertion u", "form refresh_token opaque"]
    );
    assert_eq!(response(&form, format!("access_token={JWT}&x=1")), ["form access_token u"]);
    let path = HttpRequest { path: format!("/verify/{JWT}"), ..HttpRequest::default() };
    let pair = RrPair { request: Some(path), ..RrPair::default() };
    assert_eq!(told(in_request(&pair).0), ["path u"]);
}

#[test]
fn redirects() {
    let link = format!("https://app.example/cb#access_token={JWT}&state=a%20b&id_token={OTHER}");
    assert_eq!(
        response(&[("Location", &link)], ""),
        ["header location → parameter access_token u", "header location → parameter id_token v"]
    );
    let link = format!("/cb?x=1&t=Bearer+{JWT}");
    assert_eq!(response(&[("Location", &link)], ""), ["header location → parameter t Bearer u"]);
}

#[test]
fn bodies_of_json() {
    let inner = serde_json::json!({"data": {"jwt": JWT}}).to_string();
    let wrapped = STANDARD.encode(serde_json::json!({"t": JWT}).to_string());
    let url_safe = URL_SAFE_NO_PAD.encode(format!("ÿÿ?>{JWT}"));
    let body = serde_json::json!({
        "access_token": JWT,
        "a.b": {"deep": [[{"x": OTHER}]]},
        "payload": inner,
        "wrapped": wrapped,
        "url_safe": url_safe,
        "prefixed": format!("Bearer {JWT}"),
        "note": format!("your token is {JWT}."),
        "refresh_token": "0123456789abcdef",
        "version": "1.2.3",
        "short": "x",
    });
    let mut found = response(&[], body.to_string());
    found.sort();
    assert_eq!(
        found,
        [
            r"body a\.b.deep.#.#.x v",
            "body access_token u",
            "body note → text u",
            "body payload → json data.jwt u",
            "body prefixed Bearer u",
            "body refresh_token opaque",
            "body url_safe → base64url → text u",
            "body version: 1.2.3 is a version number",
            "body wrapped → base64 → json t u",
        ]
    );
}

#[test]
fn elements_of_arrays_become_one_place_where_all_hold_tokens() {
    let each = serde_json::json!({"items": [{"t": JWT}, {"t": OTHER}]}).to_string();
    assert_eq!(response(&[], &each), ["body items.#.t u", "body items.#.t v"]);
    let mixed = serde_json::json!({"items": [{"t": JWT}, {"t": "opaque"}]}).to_string();
    assert_eq!(response(&[], &mixed), ["body items.0.t u"]);
    assert_eq!(request("", &[], &mixed), ["body items.#.t u"], "nothing is written to a request");
    assert_eq!(response(&[], serde_json::json!([JWT]).to_string()), ["body # u"]);
}

#[test]
fn bodies_of_text_and_of_bytes() {
    for (body, expected) in [
        (JWT.to_owned(), "body u"),
        (format!(" {JWT}\n"), "body → text u"),
        (format!("\"{JWT}\""), "body → text u"),
        (format!("<r><ns:token>{JWT}</ns:token></r>"), "body → text after ns:token> u"),
        (format!("<input name=t value='{JWT}'>"), "body → text after value=' u"),
        (format!("data: {{\"t\":\"{JWT}\"}}\n\n"), "body → text after t\":\" u"),
        (format!("{{\"broken\": \"{JWT}\""), "body → text after broken\": \" u"),
    ] {
        assert_eq!(response(&[], &body), [expected], "{body}");
    }
    let length = u8::try_from(JWT.len()).unwrap();
    let mut grpc = vec![0, 0, 0, 0, 48, 0x0a, length];
    grpc.extend_from_slice(JWT.as_bytes());
    grpc.extend_from_slice(b"2\x01x");
    let found = response(&[("content-type", "application/grpc+proto")], &grpc);
    assert_eq!(found, ["binary body → text u"]);
    let (hits, _) = {
        let body = Bytes::from(grpc);
        let headers = headers(&[("content-type", "application/grpc")]);
        let response = HttpResponse { headers, body, ..HttpResponse::default() };
        in_response(&RrPair { response, ..RrPair::default() })
    };
    let Seen::Token(token) = &hits[0].seen else { panic!("{hits:?}") };
    assert_eq!(token.id, token::TokenId::of(JWT.as_bytes()), "what follows is no part of it");
}

#[test]
fn the_number_of_finds_is_bounded() {
    let many = serde_json::json!(vec![JWT; 1000]).to_string();
    let response = HttpResponse { body: many.into(), ..HttpResponse::default() };
    let (hits, left_out) = in_response(&RrPair { response, ..RrPair::default() });
    assert_eq!((hits.len(), left_out), (512, 488));
    let layers =
        (0..20).fold(JWT.to_owned(), |inner, _| serde_json::json!({ "x": inner }).to_string());
    assert_eq!(self::response(&[], layers), [""; 0], "too deep");
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        text in r#"[\[{"]{0,3}.{0,40}(eyJhbGciOiJIUzI1NiJ9\.e30\.)?.{0,40}["}\]]{0,3}"#,
        name in "(authorization|cookie|set-cookie|location|x)",
        query in ".{0,60}",
    ) {
        let fields = headers(&[(&name, &text)]);
        for body in [Bytes::from(body), Bytes::from(text)] {
            let request = HttpRequest {
                query: query.clone(),
                headers: fields.clone(),
                body: body.clone(),
                ..HttpRequest::default()
            };
            let response = HttpResponse { headers: fields.clone(), body, ..HttpResponse::default() };
            let pair = RrPair { request: Some(request), response, ..RrPair::default() };
            let mut analyzer = crate::lineage::Analyzer::default();
            analyzer.push(&pair);
            let shown = format!("{:?}", analyzer.finish().report());
            prop_assert!(!shown.contains("eyJhbGciOiJIUzI1NiJ9.e30."));
        }
    }
}
