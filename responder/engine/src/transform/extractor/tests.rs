//! Extractors, one table each: what they read, what they write, and where they stop.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    request::Parts,
    signature::{Edit, Signature},
    snapshot::{Header, RrPair},
    timing::Timing,
    transform::{
        message::Reply,
        testing::{Lab, codes, reply, request},
    },
};

fn typed(kind: &str, config: &str) -> String {
    format!(r#"{{"type":"{kind}","config":{{{config}}}}}"#)
}

fn constant(new: &str) -> String {
    format!(r#"{{"type":"constant","config":{{"new":{}}}}}"#, serde_json::to_string(new).unwrap())
}

/// Reads by storing a variable.
fn read(kind: &str, config: &str, message: &mut Message<'_>) -> Result<String, &'static str> {
    let store = r#"{"type":"var_store","config":{"name":"seen"}}"#;
    let scope = Lab::new().run_on(&typed(kind, config), store, message)?;
    Ok(String::from_utf8(scope.variable("seen").unwrap().to_vec()).unwrap())
}

fn write(
    kind: &str,
    config: &str,
    new: &str,
    message: &mut Message<'_>,
) -> Result<Scope, &'static str> {
    Lab::new().run_on(&typed(kind, config), &constant(new), message)
}

fn asked() -> Parts {
    let mut parts = request("POST", "/a/b%20c/", r#"{"user":{"id":"u1","n":1.50},"ok":true}"#);
    parts.query = vec![("q".to_owned(), "1".to_owned()), ("q".to_owned(), "2".to_owned())];
    parts.headers = vec![
        ("Cookie".to_owned(), "a=1; b=x=y;c=\"q\"".into()),
        ("X-A".to_owned(), "one".into()),
        ("x-a".to_owned(), "two".into()),
        ("cookie".to_owned(), "d=4".into()),
        ("Authorization".to_owned(), "Bearer eyJhIjoxfQ.eyJzdWIiOiJtZSIsIm4iOjF9.c2ln".into()),
    ];
    parts.trailers = vec![("X-Sum".to_owned(), "7".into())];
    parts.upstream = "api.test:8443".to_owned();
    parts.session = "JWT:x".to_owned();
    parts
}

fn answered() -> Reply {
    let mut reply = reply(200, r#"{"access_token":"t","list":[{"a":1}]}"#);
    let field =
        |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned().into() };
    reply.response.status_message = "200 OK".to_owned();
    reply.response.headers = vec![
        field("Content-Type", "application/json"),
        field("Set-Cookie", "sid=abc; Path=/; HttpOnly"),
        field("set-cookie", "lang=de"),
    ];
    reply.trailers = vec![field("X-Sum", "7")];
    reply.recorded_latency = Duration::from_millis(1500);
    reply.about = [("service", "shop"), ("tags.source", "goproxy"), ("http.req.version", "1.1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    reply
}

fn on_request(kind: &str, config: &str) -> Result<String, &'static str> {
    read(kind, config, &mut Message::Request(&mut asked()))
}

fn on_reply(kind: &str, config: &str) -> Result<String, &'static str> {
    read(kind, config, &mut Message::Response(&mut answered()))
}

fn changed(kind: &str, config: &str, new: &str) -> Result<Parts, &'static str> {
    let mut parts = asked();
    let outcome = write(kind, config, new, &mut Message::Request(&mut parts));
    if outcome.is_err() {
        assert_eq!(parts, asked(), "a chain that fails changes nothing");
    }
    outcome.map(|_| parts)
}

fn changed_reply(kind: &str, config: &str, new: &str) -> Result<Reply, &'static str> {
    let mut reply = answered();
    let outcome = write(kind, config, new, &mut Message::Response(&mut reply));
    if outcome.is_err() {
        assert_eq!(reply, answered(), "a chain that fails changes nothing");
    }
    outcome.map(|_| reply)
}

#[test]
fn cookies_without_their_attributes() {
    let name = |name: &str| format!(r#""name":"{name}""#);
    for (cookie, value) in [("a", "1"), ("b", "x=y"), ("c", "\"q\""), ("d", "4")] {
        assert_eq!(on_request("http_req_cookie", &name(cookie)).unwrap(), value);
    }
    assert_eq!(on_request("http_req_cookie", &name("A")), Err("parameter_not_found"));
    let parts = changed("http_req_cookie", &name("b"), "new").unwrap();
    assert_eq!(parts.headers[0].1, "a=1; b=new;c=\"q\"");
    assert_eq!(on_reply("http_res_cookie", &name("sid")).unwrap(), "abc");
    assert_eq!(on_reply("http_res_cookie", &name("Path")), Err("parameter_not_found"));
    let reply = changed_reply("http_res_cookie", &name("sid"), "").unwrap();
    assert_eq!(reply.response.headers[1].value, "sid=; Path=/; HttpOnly");
    let reply = changed_reply("http_res_cookie", &name("lang"), "en").unwrap();
    assert_eq!(reply.response.headers[2].value, "lang=en");
    assert_eq!(codes(&typed("http_req_cookie", ""), &constant("x")), ["missing_field"]);
}

#[test]
fn fields_are_created_when_missing() {
    let config = |name: &str, index: usize| format!(r#""name":"{name}","index":"{index}""#);
    assert_eq!(on_request("http_req_header", &config("X-A", 1)).unwrap(), "two");
    assert_eq!(on_request("http_header", &config("none", 0)).unwrap(), "");
    assert_eq!(on_request("http_req_trailer", &config("x-sum", 0)).unwrap(), "7");
    assert_eq!(on_reply("http_res_trailer", &config("X-Sum", 0)).unwrap(), "7");
    assert_eq!(changed("http_req_trailer", &config("X-Sum", 0), "8").unwrap().trailers[0].1, "8");
    let added = changed("http_req_trailer", &config("X-New", 0), "8").unwrap();
    assert_eq!(added.trailers[1], ("X-New".to_owned(), "8".into()));
    let reply = changed_reply("http_res_trailer", &config("X-New", 0), "8").unwrap();
    assert_eq!((reply.trailers.len(), reply.response.headers.len()), (2, 3));
    let reply = changed_reply("http_res_header", &config("X-New", 0), "8").unwrap();
    assert_eq!(reply.response.headers[3].name, "X-New");
    let emptied = r#""name":"X-A","deleteIfEmpty":"true""#;
    assert_eq!(changed("http_req_header", emptied, "").unwrap().headers[1].1, "two");
    assert_eq!(codes(&typed("http_res_trailer", ""), &constant("x")), ["missing_field"]);
}

#[test]
fn a_path_counts_from_before_its_first_slash() {
    let index = |index: usize| format!(r#""index":"{index}""#);
    assert_eq!(on_request("http_url", "").unwrap(), "/a/b%20c/");
    for (nth, segment) in [(0, ""), (1, "a"), (2, "b%20c"), (3, "")] {
        assert_eq!(on_request("http_url", &index(nth)).unwrap(), segment);
    }
    assert_eq!(on_request("http_url", &index(4)), Err("parameter_not_found"));
    assert_eq!(changed("http_url", &index(1), "x").unwrap().path, "/x/b%20c/");
    assert_eq!(changed("http_url", r#""subdirIndex":"2""#, "x").unwrap().path, "/a/x/");
    assert_eq!(changed("http_url", "", "/new").unwrap().path, "/new");
    assert_eq!(codes(&typed("http_url", r#""index":"one""#), &constant("x")), ["wrong_type"]);
}

#[test]
fn query_parameters_by_name_and_index() {
    assert_eq!(on_request("http_queryparam", r#""name":"q","index":"1""#).unwrap(), "2");
    assert_eq!(
        on_request("http_queryparam", r#""name":"q","index":"2""#),
        Err("parameter_not_found")
    );
    let parts = changed("http_queryparam", r#""name":"q""#, "9").unwrap();
    assert_eq!(parts.query, [("q".to_owned(), "2".to_owned()), ("q".to_owned(), "9".to_owned())]);
}

#[test]
fn a_status_is_a_number_that_can_be_served() {
    assert_eq!(on_reply("http_status_code", "").unwrap(), "200");
    let reply = changed_reply("http_status_code", "", " 503 ").unwrap();
    assert_eq!((reply.response.status, reply.response.status_message.as_str()), (503, "503"));
    assert!(changed_reply("http_status_code", "", "204").unwrap().response.body.is_empty());
    for bad in ["199", "600", "OK", "", "-1", "99999"] {
        assert_eq!(changed_reply("http_status_code", "", bad).unwrap_err(), "bad_status", "{bad}");
    }
}

#[test]
fn latency_is_a_duration() {
    assert_eq!(on_reply("latency", "").unwrap(), "1.5s");
    let reply = changed_reply("latency", "", "100ms").unwrap();
    assert_eq!(
        (reply.latency, reply.delay(Timing::default())),
        (Some(Duration::from_millis(100)), Duration::from_millis(100))
    );
    assert_eq!(changed_reply("latency", "", "2h").unwrap().latency, Some(Duration::from_secs(60)));
    for bad in ["-1s", "5", "", "soon"] {
        assert_eq!(changed_reply("latency", "", bad).unwrap_err(), "bad_duration", "{bad}");
    }
}

#[test]
fn sleeping_on_an_answer_holds_it_back() {
    let mut reply = answered();
    let sleep = r#"{"type":"sleep","config":{"duration":"2s"}}"#;
    let mut message = Message::Response(&mut reply);
    Lab::new().run_on(&typed("res_body", ""), sleep, &mut message).unwrap();
    assert_eq!(reply.delay(Timing::default()), Duration::from_secs(2));
}

#[test]
fn a_session_is_what_was_tagged_or_recorded() {
    assert_eq!(on_request("session", "").unwrap(), "JWT:x");
    let scope = write("session", "", "mine", &mut Message::Request(&mut asked())).unwrap();
    assert_eq!(scope.session.as_deref(), Some(&b"mine"[..]));
}

#[test]
fn a_target_is_host_and_port() {
    assert_eq!(on_request("target_hostname", "").unwrap(), "api.test");
    assert_eq!(on_request("target_port", "").unwrap(), "8443");
    assert_eq!(changed("target_hostname", "", "other").unwrap().upstream, "other:8443");
    assert_eq!(changed("target_port", "", "80").unwrap().upstream, "api.test:80");
    assert_eq!(changed("target_port", "", "http").unwrap_err(), "bad_target");
    let mut bare = Parts { upstream: "api".to_owned(), ..asked() };
    let outcome = read("target_port", "", &mut Message::Request(&mut bare));
    assert_eq!(outcome, Err("parameter_not_found"));
}

#[test]
fn files_and_variables() {
    let lab = Lab::with_files(&[("dataframe:d__x.txt", "text"), ("/etc/f", "f")]);
    let store = r#"{"type":"var_store","config":{"name":"seen"}}"#;
    let mut parts = asked();
    for (name, text) in [("dataframe:d__x.txt", "text"), ("/etc/f", "f")] {
        let file = typed("file", &format!(r#""filename":"{name}""#));
        let steps = format!("{store},{}", constant("thrown away"));
        let scope = lab.run_on(&file, &steps, &mut Message::Request(&mut parts)).unwrap();
        assert_eq!(scope.variable("seen").unwrap(), text);
    }
    assert_eq!(parts, asked());
    assert_eq!(on_request("file", r#""filename":"/none""#), Err("file_not_found"));
    let s3 = typed("file", r#""filename":"s3://b/x""#);
    assert_eq!(codes(&s3, store), ["file_store_missing"]);
    assert_eq!(on_request("variable", r#""variable":"none""#).unwrap(), "");
    let scope =
        write("variable", r#""variable":"v""#, "x", &mut Message::Request(&mut parts)).unwrap();
    assert_eq!(scope.variable("v").unwrap(), "x");
}

fn path(path: &str) -> String {
    format!(r#""path":"{path}""#)
}

#[test]
fn places_of_a_pair_are_read() {
    for (place, value) in [
        ("http.req.method", "POST"),
        ("command", "POST"),
        ("http.req.url", "/a/b%20c/"),
        ("http.req.uri", "/a/b%20c/?q=1&q=2"),
        ("http.req.host", "api"),
        ("http.req.headers.X-A.1", "two"),
        ("http.req.headers.X-A[1]", "two"),
        ("$.http.req.headers.x-a", "one"),
        ("http.req.trailers.X-Sum.0", "7"),
        ("http.req.queryParams.q.1", "2"),
        ("http.req.cookies.3.value", "4"),
        ("http.req.cookies.3.name", "d"),
        ("http.req.body.user.id", "u1"),
        ("http.req.bodyBase64.user.n", "1.50"),
        ("http.req.headers.Authorization.0.jwt.claims.sub", "me"),
        ("http.req.headers.Authorization.0.jwt.header.a", "1"),
        ("network_address", "api.test:8443"),
        ("session", "JWT:x"),
        ("http:method", "POST"),
        ("signature.http:host", "api"),
        ("http:queryparams:q", "1"),
        ("http:requestBodyJSON", r#"{"ok":true,"user":{"id":"u1","n":1.50}}"#),
        ("http:requestBodyJSON.user.id", "u1"),
    ] {
        assert_eq!(on_request("json_path", &path(place)).as_deref(), Ok(value), "{place}");
    }
    for (place, value) in [
        ("http.res.statusCode", "200"),
        ("http.res.statusMessage", "200 OK"),
        ("http.res.contentType", "application/json"),
        ("http.res.headers.Set-Cookie.1", "lang=de"),
        ("http.res.cookies.0.value", "abc"),
        ("http.res.trailers.X-Sum", "7"),
        ("http.res.bodyBase64.access_token", "t"),
        ("http.res.body.list.#(a==1).a", "1"),
        ("http.req.version", "1.1"),
        ("service", "shop"),
        ("tags.source", "goproxy"),
    ] {
        assert_eq!(on_reply("json_path", &path(place)).as_deref(), Ok(value), "{place}");
    }
    for (place, code) in [
        ("http.req.headers.None.0", "parameter_not_found"),
        ("http.req.queryParams.q.7", "parameter_not_found"),
        ("http.req.cookies.9.value", "parameter_not_found"),
        ("http.req.body.none", "path_not_found"),
        ("http.req.headers.X-A.0.deep", "not_json"),
        ("http.req.headers.X-A.0.jwt.claims.sub", "not_a_jwt"),
        ("http:requestBodyXML", "parameter_not_found"),
    ] {
        assert_eq!(on_request("json_path", &path(place)), Err(code), "{place}");
    }
    for place in ["", "http.reqs", "http.req.headers", "netinfo.id", "http.req.body.jwt.nbf", "a|b"]
    {
        let found = codes(&typed("json_path", &path(place)), &constant("x"));
        assert_eq!(found, ["bad_json_path"], "{place}");
    }
}

#[test]
fn places_of_a_pair_are_written() {
    let set = |place: &str, new: &str| changed("json_path", &path(place), new);
    assert_eq!(set("http.req.method", "PUT").unwrap().method, "PUT");
    let moved = set("http.req.uri", "/z?b=%20&a=1").unwrap();
    let query: Vec<_> = moved.query.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!((moved.path.as_str(), query.join("&")), ("/z", "a=1&b= ".to_owned()));
    assert_eq!(set("http.req.headers.X-A.1", "x").unwrap().headers[2].1, "x");
    assert_eq!(set("http.req.cookies.1.value", "x").unwrap().headers[0].1, "a=1; b=x;c=\"q\"");
    assert_eq!(
        set("http.req.body.user.n", "2.0").unwrap().body,
        r#"{"user":{"id":"u1","n":2.0},"ok":true}"#
    );
    assert_eq!(set("http.req.bodyBase64", "eA==").unwrap().body, "x");
    assert_eq!(set("http.req.bodyBase64", "!").unwrap_err(), "not_writable");
    assert_eq!(set("http.req.body.ok", "maybe").unwrap_err(), "not_writable");
    let parts = set("http.req.headers.Authorization.0.jwt.claims.sub", "you").unwrap();
    assert_eq!(parts.headers[4].1, "Bearer eyJhIjoxfQ.eyJzdWIiOiJ5b3UiLCJuIjoxfQ.c2ln");
    assert_eq!(set("http:queryparams:q", "9").unwrap().query[1].1, "9");

    let reply = changed_reply("json_path", &path("http.res.bodyBase64.access_token"), "n").unwrap();
    assert_eq!(reply.response.body, r#"{"access_token":"n","list":[{"a":1}]}"#);
    assert_eq!(
        changed_reply("json_path", &path("http.res.statusCode"), "418").unwrap().response.status,
        418
    );
    assert_eq!(
        changed_reply("json_path", &path("http.res.statusCode"), "x").unwrap_err(),
        "bad_status"
    );
    assert_eq!(changed_reply("json_path", &path("service"), "x").unwrap_err(), "not_writable");
}

#[test]
fn a_pattern_picks_a_part() {
    let sub = r#""path":"http.req.headers.Authorization.0.jwt.claims.sub","regex":"^(?i)Bearer (.*)(?-i)""#;
    assert_eq!(on_request("json_path", sub).unwrap(), "me");
    let part = r#""path":"http.req.headers.Cookie.0","regex":"b=(\\w)""#;
    assert_eq!(on_request("json_path", part).unwrap(), "x");
    assert_eq!(changed("json_path", part, "z").unwrap().headers[0].1, "a=1; b=z=y;c=\"q\"");
    let whole = r#""path":"http.req.body.user.id","regex":"u.""#;
    assert_eq!(on_request("json_path", whole).unwrap(), "u1");
    let none = r#""path":"http.req.host","regex":"zzz""#;
    assert_eq!(on_request("json_path", none), Err("path_not_found"));
    let bad = typed("json_path", r#""path":"http.req.host","regex":"(""#);
    assert_eq!(codes(&bad, &constant("x")), ["bad_regex"]);
}

#[test]
fn names_of_the_signature_are_edited_there() {
    let scope =
        write("json_path", &path("http:requestBodyJSON"), "*", &mut Message::Request(&mut asked()))
            .unwrap();
    let edit = Edit::Store { key: Some("http:requestBodyJSON".to_owned()), value: b"*".to_vec() };
    assert_eq!(scope.edits, [edit]);
    let signature = Signature::of(&asked(), &scope.edits);
    assert!(signature.entries().any(|entry| entry == ("http:requestBodyJSON", &b"*"[..])));
}

#[test]
fn a_reply_knows_its_pair() {
    let pair = RrPair {
        service: "shop".to_owned(),
        duration: 3_000_000,
        tags: [("k".to_owned(), "v".to_owned())].into(),
        extra_json: r#"{"http":{"res":{"trailers":{"X-Sum":["7"]}}}}"#.to_owned(),
        ..RrPair::default()
    };
    let mut reply = Reply::of(&pair);
    assert_eq!(reply.trailers[0].value, "7");
    for (place, value) in
        [("service", "shop"), ("tags.k", "v"), ("duration", "3"), ("direction", "OUT")]
    {
        let seen = read("json_path", &path(place), &mut Message::Response(&mut reply));
        assert_eq!(seen.as_deref(), Ok(value), "{place}");
    }
    let unknown = read("json_path", &path("uuid"), &mut Message::Response(&mut reply));
    assert_eq!(unknown, Err("parameter_not_found"));
}

/// Every type and alias of the compatibility reference.
const DOCUMENTED: [&str; 22] = [
    "empty",
    "file",
    "http_queryparam",
    "http_req_cookie",
    "http_res_cookie",
    "http_req_header",
    "http_header",
    "http_res_header",
    "http_req_trailer",
    "http_res_trailer",
    "http_status_code",
    "http_url",
    "json_path",
    "latency",
    "req_body",
    "http_req_body",
    "res_body",
    "http_res_body",
    "session",
    "target_hostname",
    "target_port",
    "variable",
];

#[test]
fn every_documented_extractor_is_known() {
    let known: BTreeSet<&str> =
        KINDS.iter().flat_map(|kind| kind.aliases.iter().copied().chain([kind.name])).collect();
    for name in DOCUMENTED {
        assert!(known.contains(name), "{name}");
    }
    assert!(KINDS.is_sorted_by_key(|kind| kind.name));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(new in "[!-:<-~ ]{1,12}", nth in 0..8_usize) {
        let (kind, config) = [
            ("http_req_header", r#""name":"X-A""#),
            ("http_req_trailer", r#""name":"new""#),
            ("http_req_cookie", r#""name":"b""#),
            ("req_body", ""),
            ("json_path", r#""path":"http.req.body.user.id""#),
            ("json_path", r#""path":"http.req.headers.Authorization.0.jwt.claims.sub""#),
            ("json_path", r#""path":"http.req.headers.None""#),
            ("http_url", ""),
        ][nth];
        let new = new.trim();
        let mut parts = asked();
        // A place that is not there cannot be written by its path.
        match write(kind, config, new, &mut Message::Request(&mut parts)) {
            Ok(_) => prop_assert_eq!(read(kind, config, &mut Message::Request(&mut parts)), Ok(new.to_owned())),
            Err(_) => prop_assert_eq!(parts, asked()),
        }
    }
}
