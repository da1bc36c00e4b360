//! Each kind of rule, and what holds for all of them.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    body,
    request::{Parts, Request},
    signature::Signature,
    snapshot::{Header, HttpRequest, HttpResponse, RrPair, header},
};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhdmFAZXhhbXBsZS5jb20ifQ.c2ln";

fn redactor(config: &str) -> Redactor {
    let (config, found) = DlpConfig::parse(config.as_bytes());
    assert!(found.as_slice().is_empty(), "{found:?}");
    Redactor::new(config, RedactionKey::from_seed(b"test"))
}

fn standard() -> Redactor {
    redactor(r#"{"extends":"standard"}"#)
}

/// Marks with only the first digits of their hashes, so that a test can be read.
fn short(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find("REDACTED-") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = mark::pattern().unwrap().find(from.as_bytes()).unwrap().end();
        let (mark, after) = from.split_at(end);
        out.push_str(&format!("<{}>", mark::parse(mark.as_bytes()).unwrap().0));
        rest = after;
    }
    out + rest
}

fn body_of(redactor: &Redactor, content_type: &str, body: &str) -> String {
    let new = Pass::new(redactor, &mut Tally::off()).body(content_type.as_bytes(), body.as_bytes());
    new.map_or_else(|| "same".to_owned(), |new| short(&new))
}

#[test]
fn json_by_name_path_and_pattern() {
    let redactor = redactor(
        r##"{"keys":["password","pin","credentials"],"jsonPaths":["user.name","list.#.v","#.w","list.0.x"],
            "patterns":["email","ssn",{"name":"order","regex":"ORD-(\\d+)"}],"ignore":["note"]}"##,
    );
    for (body, expected) in [
        (
            r#"{ "PassWord" : "x" , "pass_word":"\u0041\n","n":1}"#,
            r#"{ "PassWord" : "<PASSWORD>" , "pass_word":"<PASSWORD>","n":1}"#,
        ),
        (r#"{"password":""}"#, "same"),
        (r#"{"password":null,"pin":true}"#, "same"),
        (
            r#"{"credentials":{"a":["x",null,{"b":"y"}]}}"#,
            r#"{"credentials":{"a":["<CREDENTIALS>",null,{"b":"<CREDENTIALS>"}]}}"#,
        ),
        (
            r#"{"user":{"name":"Ava","x":{"name":"n"}},"name":"n"}"#,
            r#"{"user":{"name":"<NAME>","x":{"name":"n"}},"name":"n"}"#,
        ),
        (
            r#"{"list":[{"v":"a","x":"b"},{"v":"c","x":"d"}]}"#,
            r#"{"list":[{"v":"<V>","x":"<X>"},{"v":"<V>","x":"d"}]}"#,
        ),
        (r#"[{"w":"a"},{"w":"b"}]"#, r#"[{"w":"<W>"},{"w":"<W>"}]"#),
        (
            r#"{"t":"mail \"ava@example.com\" or 123-45-6789"}"#,
            r#"{"t":"mail \"<EMAIL>\" or <SSN>"}"#,
        ),
        (r#"{"t":"\u0061va@example.com"}"#, r#"{"t":"<EMAIL>"}"#),
        (r#"{"t":"ORD-77"}"#, r#"{"t":"ORD-<ORDER>"}"#),
        (r#"{"ava@example.com":{"n":1}}"#, r#"{"<EMAIL>":{"n":1}}"#),
        (r#"{"note":"ava@example.com","note2":"x"}"#, "same"),
        (
            r#"{"s":"{\"password\":\"x\",\"k\":\"\\u0061va@example.com\"}"}"#,
            r#"{"s":"{\"password\":\"<PASSWORD>\",\"k\":\"<EMAIL>\"}"}"#,
        ),
        (r#"{"password":"ava@example.com"}"#, r#"{"password":"<EMAIL>"}"#),
        (
            r#"{"password":"a","password":"b"}"#,
            r#"{"password":"<PASSWORD>","password":"<PASSWORD>"}"#,
        ),
        (r#"{"a":"x"}"#, "same"),
    ] {
        assert_eq!(body_of(&redactor, "application/json", body), expected, "{body}");
        assert_eq!(body_of(&redactor, "", body), expected, "known by its look: {body}");
    }
}

#[test]
fn numbers_stay_numbers() {
    let redactor = redactor(r#"{"keys":["pin"],"patterns":["credit_card"]}"#);
    let body = br#"{"pin":1234,"card":4111111111111111,"n":4111111111111112}"#;
    let new = redactor.json(body).unwrap();
    let old: serde_json::Value = serde_json::from_slice(body).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&new).unwrap();
    assert!(value["pin"].is_u64() && value["pin"] != old["pin"]);
    assert!(value["card"].is_u64() && value["card"] != old["card"]);
    assert_eq!(value["n"], old["n"]);
    assert_eq!(new.len(), body.len());
}

#[test]
fn forms_xml_text_and_lines() {
    let redactor = redactor(
        r#"{"keys":["password","clientSecret"],"jsonPaths":["who"],"patterns":["email"],"ignore":["note"]}"#,
    );
    for (content_type, body, expected) in [
        (
            "application/x-www-form-urlencoded",
            "user=a%20b&client_secret=s%2Bt&who=x&password=&note=a%40b.cc",
            "user=a%20b&client_secret=<CLIENTSECRET>&who=<WHO>&password=&note=a%40b.cc",
        ),
        ("application/x-www-form-urlencoded", "m=to+ava%40example.com&x", "m=to%20<EMAIL>&x"),
        (
            "text/xml",
            r#"<a><w:Password Type="x"> s3c </w:Password><p password="q" x='1'>ava@example.com</p></a>"#,
            r#"<a><w:Password Type="x"> <PASSWORD> </w:Password><p password="<PASSWORD>" x='1'><EMAIL></p></a>"#,
        ),
        (
            "",
            "<password><![CDATA[s3c]]></password><note>ava@example.com</note>",
            "<password><![CDATA[<PASSWORD>]]></password><note>ava@example.com</note>",
        ),
        ("text/plain", "password is ava@example.com", "password is <EMAIL>"),
        (
            "text/event-stream",
            "event: x\ndata: {\"password\":\"p\"}\n\ndata: ava@example.com\n",
            "event: x\ndata: {\"password\":\"<PASSWORD>\"}\n\ndata: <EMAIL>\n",
        ),
        (
            "application/x-ndjson",
            "{\"password\":\"p\"}\n{\"password\":\"q\"}",
            "{\"password\":\"<PASSWORD>\"}\n{\"password\":\"<PASSWORD>\"}",
        ),
        ("application/json", "{\"mail\":\"ava@example.com\"", "{\"mail\":\"<EMAIL>\""),
        ("text/plain", "nothing", "same"),
        ("text/plain", "", "same"),
    ] {
        let expected = expected.replace("CLIENTSECRET", &mark::category("clientSecret"));
        assert_eq!(body_of(&redactor, content_type, body), expected, "{body}");
    }
    let binary = [b"\xff\xfe ava@example.com".as_slice(), &[0; 9]].concat();
    assert_eq!(Pass::new(&redactor, &mut Tally::off()).body(b"image/png", &binary), None);
}

#[test]
fn headers_cookies_and_queries() {
    let redactor = redactor(
        r#"{"keys":["token"],"headers":["Authorization","X-Api-Key"],"query":["key"],"cookies":["sid"],"patterns":["email"]}"#,
    );
    for (name, value, expected) in [
        ("authorization", "Basic dTpw", "Basic <BASIC>"),
        ("Authorization", "Bearer opaque", "Bearer <TOKEN>"),
        ("Authorization", "opaque", "<AUTHORIZATION>"),
        ("Authorization", "Digest username=\"x\", realm=\"y\"", "Digest <AUTHORIZATION>"),
        ("Authorization", &format!("Bearer {TOKEN}"), "same"),
        ("x-api_key", "k", "<X_API_KEY>"),
        ("Cookie", "a=1; sid=abc;m=ava%40example.com", "a=1; sid=<SID>;m=<EMAIL>"),
        ("Set-Cookie", "sid=abc; Path=/; sid=x", "sid=<SID>; Path=/; sid=x"),
        ("Cookie", &format!("sid={TOKEN}"), "same"),
        (
            "Location",
            "https://ava@example.com/cb/ava@example.com?token=t&s=1#key=k",
            "https://ava@example.com/cb/<EMAIL>?token=<TOKEN>&s=1#key=<KEY>",
        ),
        ("Location", "/plain?x=1", "same"),
        ("X-User", "Ava <ava@example.com>", "Ava <<EMAIL>>"),
        ("Host", "ava@example.com", "same"),
    ] {
        let new = Pass::new(&redactor, &mut Tally::off()).header(name, value.as_bytes());
        assert_eq!(
            new.map_or_else(|| "same".to_owned(), |new| short(&new)),
            expected,
            "{name}: {value}"
        );
    }
}

#[test]
fn tokens_are_left_unless_they_are_named() {
    let body = format!(
        r#"{{"access_token":"{TOKEN}","text":"{TOKEN} of ava@example.com","refresh_token":"opaque"}}"#
    );
    assert_eq!(
        body_of(&standard(), "", &body),
        format!(
            r#"{{"access_token":"{TOKEN}","text":"{TOKEN} of <EMAIL>","refresh_token":"<TOKEN>"}}"#
        )
    );
    let all = redactor(r#"{"extends":"standard","patterns":["jwt"]}"#);
    assert_eq!(
        body_of(&all, "", &body),
        r#"{"access_token":"<JWT>","text":"<JWT> of <EMAIL>","refresh_token":"<TOKEN>"}"#
    );
}

#[test]
fn gzipped_bodies_are_unfolded_and_folded_again() {
    let plain = br#"{"password":"x","a":1}"#;
    let new = standard().json(&message::fold(plain).unwrap()).unwrap();
    assert!(body::is_gzip(&new));
    assert_eq!(short(&body::unfolded(&new)), r#"{"password":"<PASSWORD>","a":1}"#);
    assert_eq!(new, standard().json(&message::fold(plain).unwrap()).unwrap());
    let bomb = message::fold(&vec![b' '; 80 * 1024 * 1024]).unwrap();
    let mut tally = Tally::new(standard().config());
    assert_eq!(Pass::new(&standard(), &mut tally).body(b"", &bomb), None);
    assert_eq!(tally.report(standard().config()).unread.unwrap().values, 1);
}

#[test]
fn what_a_client_sends_back_stays_or_takes_the_category_of_the_place() {
    let redactor =
        redactor(r#"{"keys":["opaque"],"headers":["authorization"],"patterns":["email"]}"#);
    let issued = redactor.json(br#"{"opaque":"abc"}"#).unwrap();
    assert_eq!(redactor.json(&issued), None, "once is enough");
    let issued: serde_json::Value = serde_json::from_slice(&issued).unwrap();
    let presented = format!("Bearer {}", issued["opaque"].as_str().unwrap());
    let header = |value: &str| {
        Pass::new(&redactor, &mut Tally::off()).header("Authorization", value.as_bytes())
    };
    assert_eq!(header(&presented), header("Bearer abc"), "correlates");
    let mail = redactor.json(br#"{"opaque":"ava@example.com"}"#).unwrap();
    assert_eq!(redactor.json(&mail), None, "what a pattern tells keeps its category");
}

#[test]
fn fields_and_invented_values() {
    let plain = standard();
    assert_eq!(short(&plain.field("e-mail", b"a")), "<E_MAIL>");
    assert_eq!(plain.field("x", b""), b"");
    assert_eq!(plain.field("y", &plain.field("x", b"a")), plain.field("x", b"a"));
    assert!(plain.invented("email", b"a@b.cc").ends_with(b"@redacted.example"));
    assert_eq!(short(&plain.invented("password", b"a")), "<PASSWORD>");
    let reverse = redactor(r#"{"extends":"standard","reverse":true}"#);
    let body = br#"{"email":"ava@example.com","card":"4111 1111 1111 1111","ssn":"123-45-6789","password":"p"}"#;
    let new = reverse.json(body).unwrap();
    assert!(
        short(&new).contains("@redacted.example") && short(&new).contains("<PASSWORD>"),
        "{}",
        short(&new)
    );
    assert_eq!(reverse.json(&new), None, "once is enough");
    assert_eq!(
        reverse.field("EMAIL", b"ava@example.com"),
        plain.invented("EMAIL", b"ava@example.com")
    );
}

fn pair() -> RrPair {
    let text = |text: &str| Header {
        name: "Content-Type".into(),
        value: Bytes::copy_from_slice(text.as_bytes()),
    };
    let body = r#"{"user":{"email":"ava@example.com"},"password":"p","n":1.0}"#;
    let request = HttpRequest {
        method: "POST".into(),
        path: "/users/ava%40example.com/x%20y".into(),
        query: "token=t&b=1&a=ava@example.com".into(),
        host: "api".into(),
        headers: vec![
            text("application/json"),
            Header { name: "Authorization".into(), value: Bytes::from(format!("Bearer {TOKEN}")) },
            Header { name: "Content-Length".into(), value: body.len().to_string().into() },
        ],
        body: body.into(),
        ..HttpRequest::default()
    };
    RrPair {
        location: request.path.clone(),
        signature: [
            ("http:url", "/users/ava%40example.com/x%20y"),
            ("http:queryparams", "a=ava@example.com&b=1&token=t"),
            ("http:requestBodyJSON", r#"{"n":1,"password":"p","user":{"email":"ava@example.com"}}"#),
            ("http:method", "POST"),
            ("http:host", "api"),
        ]
        .map(|(key, value)| (key.to_owned(), Bytes::from(value)))
        .into(),
        request: Some(request),
        response: HttpResponse {
            status: 200,
            headers: vec![text("application/json"), Header { name: "Digest".into(), value: "sha-256=x".into() }],
            body: r#"{"email":"ava@example.com"}"#.into(),
            ..HttpResponse::default()
        },
        tags: [("user".to_owned(), "ava@example.com".to_owned())].into(),
        session: "ava@example.com".into(),
        extra_json: r#"{"mutableSignature":{"a":"ava@example.com"},"netinfo":{"who":"ava@example.com"},"http":{"req":{"cookies":[{"name":"a","value":"secret"}]}}}"#.into(),
        ..RrPair::default()
    }
}

fn live_signature(redactor: &Redactor, request: &HttpRequest) -> Signature {
    let headers = request
        .headers
        .iter()
        .map(|h| {
            (
                http::HeaderName::try_from(&h.name).unwrap(),
                http::HeaderValue::from_bytes(&h.value).unwrap(),
            )
        })
        .collect();
    let mut parts = Parts::of_live(&Request {
        method: &request.method,
        host: &request.host,
        path: &request.path,
        query: &request.query,
        headers: &headers,
        body: &request.body,
        ..Request::default()
    });
    redactor.redact_request(&mut parts);
    Signature::of(&parts, &[])
}

#[test]
fn a_pair_is_redacted_everywhere_and_still_matches() {
    let redactor = standard();
    let recorded = pair();
    let mut redacted = recorded.clone();
    let mut tally = Tally::new(redactor.config());
    assert!(redactor.redact_pair(&mut redacted, &mut tally));
    let shown = format!("{redacted:?}");
    assert!(!shown.contains("ava") && !shown.contains("secret"), "{}", short(shown.as_bytes()));
    assert!(shown.contains(TOKEN), "the token is left");
    let request = redacted.request.as_ref().unwrap();
    let length = header(&request.headers, "content-length").unwrap();
    assert_eq!(*length, request.body.len().to_string());
    assert_eq!(header(&redacted.response.headers, "digest"), None);
    let extra: serde_json::Value = serde_json::from_str(&redacted.extra_json).unwrap();
    assert_eq!(
        (extra["dlpModified"].as_bool(), extra["dlpRule"].as_str()),
        (Some(true), Some("custom"))
    );
    let live = live_signature(&redactor, recorded.request.as_ref().unwrap());
    assert_eq!(Signature::of(&Parts::of_recorded(&redacted), &[]), live);
    let report = tally.report(redactor.config());
    let places: Vec<&str> =
        report.rules.iter().flat_map(|row| &row.places).map(|place| place.0.as_str()).collect();
    assert!(
        places.contains(&"request.body.user.email") && places.contains(&"response.body.email"),
        "{places:?}"
    );
    assert_eq!(report.tokens_left.unwrap().values, 1);
    assert!(
        !redactor.redact_pair(&mut redacted.clone(), &mut tally) || {
            let mut again = redacted.clone();
            redactor.redact_pair(&mut again, &mut tally);
            again == redacted
        }
    );
}

#[test]
fn a_config_without_requests_leaves_what_is_matched() {
    let redactor = redactor(r#"{"extends":"standard","requests":false}"#);
    let mut redacted = pair();
    assert!(redactor.redact_pair(&mut redacted, &mut Tally::off()));
    let recorded = pair();
    assert_eq!(redacted.signature, recorded.signature);
    assert_eq!(redacted.request.as_ref().unwrap().body, recorded.request.as_ref().unwrap().body);
    assert_ne!(redacted.response.body, recorded.response.body);
    let live = live_signature(&redactor, recorded.request.as_ref().unwrap());
    assert_eq!(Signature::of(&Parts::of_recorded(&redacted), &[]), live);
}

#[test]
fn pairs_without_requests_match_by_their_redacted_signature() {
    let redactor = standard();
    let mut redacted = RrPair { request: None, ..pair() };
    assert!(redactor.redact_pair(&mut redacted, &mut Tally::off()));
    let live = live_signature(&redactor, pair().request.as_ref().unwrap());
    let mut request = pair().request.unwrap();
    request.body =
        Bytes::from_static(br#"{"n":1,"password":"p","user":{"email":"ava@example.com"}}"#);
    assert_ne!(live, Signature::default());
    assert_eq!(
        Signature::of(&Parts::of_recorded(&redacted), &[]),
        live_signature(&redactor, &request)
    );
}

#[test]
fn nothing_is_done_without_rules() {
    let none = Redactor::new(DlpConfig::built_in("none").unwrap(), RedactionKey::from_seed(b""));
    let mut same = pair();
    assert!(!none.redact_pair(&mut same, &mut Tally::off()));
    assert_eq!(same, pair());
}

/// Texts that have something to redact more often than chance would give.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ava@example.com".to_owned()),
        Just("4111111111111111".to_owned()),
        Just("123-45-6789".to_owned()),
        Just(TOKEN.to_owned()),
        Just("é\\u0041\"&=%".to_owned()),
        "[a-z ]{0,6}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..4).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("password".to_owned()), Just("email".to_owned()), "[a-c]{1,2}"]
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic_and_once_is_enough(
        content_type in prop::sample::select(vec!["", "application/json", "application/x-www-form-urlencoded", "text/xml", "text/event-stream", "text/plain"]),
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..80), text().prop_map(String::into_bytes)],
    ) {
        let redactor = standard();
        let redact = |body: &[u8]| Pass::new(&redactor, &mut Tally::off()).body(content_type.as_bytes(), body);
        if let Some(once) = redact(&body) {
            prop_assert_eq!(redact(&body), Some(once));
        }
        let _header = Pass::new(&redactor, &mut Tally::off()).header("cookie", &body);
        let _header = Pass::new(&redactor, &mut Tally::off()).header("location", &body);
        let _header = Pass::new(&redactor, &mut Tally::off()).header("x", &body);
    }

    #[test]
    fn what_is_not_replaced_stays_byte_for_byte(
        members in prop::collection::vec((name(), text(), "[ \n]{0,2}"), 0..5),
    ) {
        let redactor = redactor(r#"{"keys":["password"]}"#);
        let quote = |text: &str| serde_json::to_string(text).unwrap();
        let document = |value: &dyn Fn(&str, &str) -> String| {
            let members: Vec<String> = members.iter()
                .map(|(name, text, blank)| format!("{blank}{}{blank}: {}{blank}", quote(name), value(name, text)))
                .collect();
            format!("{{{}}}", members.join(","))
        };
        let recorded = document(&|_, text| quote(text));
        let expected = document(&|name, text| {
            // Letters before a token may make another word of it.
            let token = !token::find(text.as_bytes()).is_empty();
            let redacted = name == "password" && !text.is_empty() && !token;
            if redacted { quote(&mark::mark(redactor.key(), "PASSWORD", text.as_bytes())) } else { quote(text) }
        });
        let new = redactor.json(recorded.as_bytes()).map_or_else(|| recorded.clone(), |new| String::from_utf8(new).unwrap());
        prop_assert_eq!(new, expected);
    }

    #[test]
    fn a_redacted_recording_matches_the_live_request(
        members in prop::collection::vec((name(), text()), 0..4),
        query in prop::collection::vec((name(), text()), 0..3),
        segment in text(),
        form in any::<bool>(),
        folded in any::<bool>(),
        signed in any::<bool>(),
    ) {
        let redactor = standard();
        let fields = |fields: &[(String, String)]| -> String {
            let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
            fields.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect::<Vec<_>>().join("&")
        };
        let object: serde_json::Map<String, serde_json::Value> =
            members.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let (content_type, plain) = if form {
            ("application/x-www-form-urlencoded", fields(&members).into_bytes())
        } else {
            ("application/json", serde_json::to_vec(&object).unwrap())
        };
        let request = HttpRequest {
            method: "POST".into(),
            host: "api".into(),
            path: format!("/a/{}", percent_encoding::utf8_percent_encode(&segment, percent_encoding::NON_ALPHANUMERIC)),
            query: fields(&query),
            headers: vec![Header { name: "content-type".into(), value: content_type.into() }],
            body: if folded { message::fold(&plain).unwrap().into() } else { plain.into() },
            ..HttpRequest::default()
        };
        let mut pair = RrPair { request: Some(request.clone()), ..RrPair::default() };
        if signed {
            pair.signature = Signature::of(&Parts::of_recorded(&pair), &[]).entries()
                .map(|(key, value)| (key.to_owned(), Bytes::copy_from_slice(value))).collect();
        }
        redactor.redact_pair(&mut pair, &mut Tally::off());
        prop_assert_eq!(Signature::of(&Parts::of_recorded(&pair), &[]), live_signature(&redactor, &request));
    }
}
