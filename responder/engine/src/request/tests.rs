//! Requests: recorded and live ones in one form.

use super::*;
use crate::snapshot::HttpRequest;

fn recorded(query: &str, body: &str, signature: &[(&str, &str)]) -> Parts {
    Parts::of_recorded(&RrPair {
        request: Some(HttpRequest {
            method: "POST".into(),
            host: "api:8080".into(),
            path: "/p".into(),
            query: query.into(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..HttpRequest::default()
        }),
        signature: signature
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Bytes::copy_from_slice(v.as_bytes())))
            .collect(),
        ..RrPair::default()
    })
}

#[test]
fn old_and_new_query_shapes_mean_the_same() {
    let plain = recorded("b=2&a=x%20y", "", &[]);
    assert_eq!(
        plain,
        recorded("b=2&a=x%20y", "", &[("http:queryparams", "a=x y&b=2"), ("http:host", "api")])
    );
    assert_eq!(
        plain,
        recorded("b=2&a=x%20y", "", &[("http:queryparams:a", "x y"), ("http:queryparams:b", "2")])
    );
}

#[test]
fn an_edited_signature_wins() {
    let edited = recorded(
        "a=1",
        "",
        &[("http:url", "/other"), ("http:queryparams", "a=9"), ("http:host", "else")],
    );
    assert_eq!((edited.path.as_str(), edited.host.as_str()), ("/other", "else"));
    assert_eq!(edited.query, [("a".to_owned(), "9".to_owned())]);
    assert_eq!(
        recorded("", r#"{"a":1}"#, &[("http:requestBodyJSON", r#"{"a":2}"#)]).body,
        r#"{"a":2}"#
    );
}

#[test]
fn notation_is_no_edit() {
    let body = r#"{"b":"<é>","a":1.0}"#;
    let parts =
        recorded("", body, &[("http:requestBodyJSON", "{\"a\":1,\"b\":\"\\u003cé\\u003e\"}")]);
    assert_eq!(parts.body, body);
}

#[test]
fn escapes_in_paths_are_notation() {
    for (path, normal) in [
        ("/a b", "/a b"),
        ("/a%20b", "/a b"),
        ("/%7euser/%C3%A9", "/~user/é"),
        ("/a%2fb/100%25", "/a%2Fb/100%25"),
        ("/%00", "/%00"),
        ("/%zz%", "/%zz%"),
        ("/%ff", "/%ff"),
    ] {
        assert_eq!(normal_path(path), normal);
        assert_eq!(normal_path(normal), normal, "once is enough");
    }
}

#[test]
fn ports_are_cut_off_hosts_only() {
    for (host, bare) in
        [("api:80", "api"), ("api", "api"), ("[::1]:80", "[::1]"), ("::1", "::1"), ("a:b", "a:b")]
    {
        assert_eq!(without_port(host), bare);
    }
}
