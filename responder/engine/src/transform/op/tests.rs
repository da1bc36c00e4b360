//! Steps, one table each: what they make of a value, where they stop, and what is wrong with their config.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

mod dates;
mod windows;

use super::*;
use crate::{
    body,
    transform::{
        Bodies, Chain, Side, World,
        testing::{Lab, Marks, chain, codes},
    },
};

const BODY: &str = r#"{"type":"res_body"}"#;

fn step(kind: &str, config: &str) -> String {
    format!(r#"{{"type":"{kind}","config":{{{config}}}}}"#)
}

fn constant(new: &str) -> String {
    step("constant", &format!(r#""new":"{new}""#))
}

fn made(steps: &[String], value: &str) -> Result<String, &'static str> {
    Lab::new().run(&steps.join(","), value)
}

fn ok(kind: &str, config: &str, value: &str) -> String {
    made(&[step(kind, config)], value).unwrap()
}

/// A step around a constant.
fn around(kind: &str, config: &str, new: &str, value: &str) -> Result<String, &'static str> {
    made(&[step(kind, config), constant(new)], value)
}

fn refused(kind: &str, config: &str) -> Vec<&'static str> {
    codes(BODY, &step(kind, config))
}

#[test]
fn replace_is_literal() {
    assert_eq!(ok("replace", r#""old":"a.","new":"${{x}}""#, "a.ba.b"), "${{x}}b${{x}}b");
    assert_eq!(ok("replace", r#""old":"a","new":"aa","count":"2""#, "aaa"), "aaaaa");
    assert_eq!(ok("replace", r#""old":"a","new":"b","count":"0""#, "aaa"), "aaa");
    assert_eq!(refused("replace", r#""old":"","new":"b""#), ["wrong_type"]);
    assert_eq!(refused("replace", r#""old":"a""#), ["missing_field"]);
    assert_eq!(refused("replace", r#""old":"a","new":"b","count":"all""#), ["wrong_type"]);
    let long = "a".repeat(1024 * 1024);
    let config = format!(r#""old":"a","new":"{}""#, "b".repeat(100));
    assert_eq!(made(&[step("replace", &config)], &long), Err("output_too_large"));
}

#[test]
fn trim_takes_once() {
    assert_eq!(ok("trim", "", " \t x y\n"), "x y");
    assert_eq!(ok("trim", r#""type":"left","value":"ab""#, "ababx"), "abx");
    assert_eq!(ok("trim", r#""type":"right""#, "x  "), "x ");
    assert_eq!(ok("trim", r#""type":"left","value":"ab""#, "xab"), "xab");
    assert_eq!(refused("trim", r#""type":"middle""#), ["wrong_type"]);
}

#[test]
fn url_escapes_are_those_of_a_segment() {
    assert_eq!(ok("url_encode", "", "a b/é+$&=:@~;,?%"), "a%20b%2F%C3%A9+$&=:@~%3B%2C%3F%25");
    assert_eq!(ok("url_decode", "", "a%20b%2f%C3%A9+"), "a b/é+");
    for bad in ["%", "a%2", "%zz", "%%20"] {
        assert_eq!(made(&[step("url_decode", "")], bad), Err("bad_escape"), "{bad}");
    }
}

#[test]
fn random_text_fits_its_pattern() {
    let text = ok("rand_string", r#""pattern":"[a-f]{4}-\\d+""#, "x");
    assert!(
        ::regex::bytes::Regex::new(r"^[a-f]{4}-\d+$").unwrap().is_match(text.as_bytes()),
        "{text}"
    );
    assert_eq!(refused("rand_string", r#""pattern":"[""#), ["bad_regex"]);
    assert_eq!(refused("rand_string", ""), ["missing_field"]);
}

#[test]
fn one_of_takes_turns_and_overrides_what_came_before() {
    let lab = Lab::new();
    let both = chain(BODY, &[step("one_of", r#""options":"a,b,${{v}}""#), constant("x")].join(","));
    let run = || {
        let mut effects = Marks::new(lab.scope());
        String::from_utf8(apply(&both.ops, b"in", &mut effects).unwrap()).unwrap()
    };
    assert_eq!([run(), run(), run(), run()], ["a", "b", "${{v}}", "a"]);
    let chosen = ok("one_of", r#""options":"a,b","strategy":"random""#, "in");
    assert!(["a", "b"].contains(&chosen.as_str()));
    let bad = codes(BODY, &step("one_of", r#""options":"a","strategy":"best""#));
    assert_eq!(bad, ["wrong_type"]);
}

#[test]
fn sleep_adds_up_to_a_minute() {
    let held = |steps: &[String]| {
        let mut effects = Marks::default();
        apply(&chain(BODY, &steps.join(",")).ops, b"x", &mut effects).unwrap();
        effects.scope.delay
    };
    assert_eq!(held(&[step("sleep", "")]), Duration::from_secs(1));
    let two = [step("sleep", r#""duration":"1m30ms""#), step("sleep", r#""duration":"5ms""#)];
    assert_eq!(codes(BODY, &two[0]), ["delay_cut"]);
    let parts = [step("sleep", r#""duration":"50s""#), step("sleep", r#""duration":"50s""#)];
    assert_eq!(held(&parts), Duration::from_secs(60));
    for bad in ["soon", "-1s", "5"] {
        let config = format!(r#""duration":"{bad}""#);
        assert_eq!(refused("sleep", &config), ["wrong_type"], "{bad}");
    }
}

#[test]
fn scrub_hides_the_value_in_the_body() {
    let body = r#"{"id":"a-7","note":"see a-7!","n":7,"keep":"a-7","list":["a-7"]}"#;
    let scrubbed = |config: &str, side: Side| {
        let lab = Lab::new();
        let mut effects = Marks::new(lab.scope());
        let steps = format!("{},{}", step("json_path", r#""path":"id""#), step("scrub", config));
        apply(&chain(BODY, &steps).ops, body.as_bytes(), &mut effects).unwrap();
        let finalizer = effects.scope.finalizers.pop().unwrap();
        let own = if side == Side::Request { Bodies::Request } else { Bodies::Response };
        let made = (finalizer.of == own || finalizer.of == Bodies::Both)
            .then(|| (finalizer.edit)(body.as_bytes()));
        assert_eq!((finalizer.edit)(b"<a-7/>"), None, "JSON only");
        made.flatten().map(|text| String::from_utf8(text).unwrap())
    };
    let starred = r#"{"id":"*","note":"see *!","n":7,"keep":"*","list":["*"]}"#;
    assert_eq!(scrubbed("", Side::Request).unwrap(), starred);
    assert_eq!(scrubbed("", Side::Response), None);
    assert_eq!(scrubbed(r#""selector":"both""#, Side::Response).unwrap(), starred);
    assert_eq!(
        scrubbed(r#""selector":"response","new":"-","ignorePaths":"keep, x.list""#, Side::Response)
            .unwrap(),
        r#"{"id":"-","note":"see -!","n":7,"keep":"a-7","list":["a-7"]}"#
    );
    assert_eq!(refused("scrub", r#""selector":"all""#), ["wrong_type"]);
}

#[test]
fn scrub_date_hides_dates_in_strings() {
    let doc = r#"{ "at":"2024-05-01T10:20:30.5Z","day":"2024-05-01", "n":1700000000,"keep":"2024-05-01","s":"1700000000"}"#;
    assert_eq!(
        ok("scrub_date", r#""ignorePaths":"keep""#, doc),
        r#"{ "at":"*","day":"*", "n":1700000000,"keep":"2024-05-01","s":"1700000000"}"#
    );
    assert_eq!(made(&[step("scrub_date", "")], "2024-05-01"), Err("not_json"));
}

#[test]
fn variables_come_back() {
    let lab = Lab::new();
    assert_eq!(lab.run(&step("var_store", r#""name":"v""#), "one").unwrap(), "one");
    assert_eq!(lab.run(&step("var_load", r#""name":"v""#), "in").unwrap(), "one");
    let both = [step("var_load", r#""name":"v""#), constant("x")].join(",");
    assert_eq!(lab.run(&both, "in").unwrap(), "one", "the second phase wins");
    assert_eq!(lab.run(&step("variable_load", r#""name":"unknown""#), "in").unwrap(), "");
    assert_eq!(refused("var_store", ""), ["missing_field"]);
}

/// The JOSE header `{"alg":"HS256"}` and a JWS signature that nobody checks.
fn token(claims: &str) -> String {
    use ::base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn jwt_claim_opens_the_claims() {
    let claims = r#"{ "uid":7, "name":"x","a":{"b":true}, "a.b":"dot" }"#;
    let (before, claim) = (token(claims), |name: &str| format!(r#""claim":"{name}""#));
    for (name, new, after) in [
        ("uid", "8", claims.replace('7', "8")),
        ("name", "y", claims.replace("\"x\"", "\"y\"")),
        ("a.b", "d", claims.replace("dot", "d")),
        ("uid", "7", claims.to_owned()),
    ] {
        let made = around("jwt_claim", &claim(name), new, &before).unwrap();
        assert_eq!(made, token(&after), "{name}");
    }
    let stored = [step("jwt_claim", &claim("uid")), step("var_store", r#""name":"v""#)].join(",");
    let lab = Lab::new();
    lab.run(&stored, &format!("Bearer {before}")).unwrap();
    assert_eq!(lab.run(&step("var_load", r#""name":"v""#), "").unwrap(), "7");
    assert_eq!(around("jwt_claim", &claim("sub"), "x", &before), Err("path_not_found"));
    assert_eq!(around("jwt_claim", &claim("sub"), "x", "opaque"), Err("not_a_jwt"));
}

#[test]
fn tag_session_names_the_session() {
    let mut effects = Marks::default();
    apply(&chain(BODY, &step("tag_session", "")).ops, b"u7", &mut effects).unwrap();
    assert_eq!(effects.scope.session.as_deref(), Some(&b"u7"[..]));
}

#[test]
fn http_auth_gives_other_credentials() {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let table = "user,replay_user,replay_password\nann,bob,s3\n";
    let lab = Lab::with_files(&[("dataframe:creds__payload.csv", table)]);
    let config = r#""user":"u","password":"p","user_value":"${{dataframe:creds:${{u}}:replay_user}}","password_value":"${{dataframe:creds:${{u}}:replay_password}}""#;
    assert_eq!(lab.run(&step("http_auth", config), &basic("ann:x:y")).unwrap(), basic("bob:s3"));
    assert_eq!(lab.run(&step("var_load", r#""name":"p""#), "").unwrap(), "x:y");
    assert_eq!(
        lab.run(&step("http_auth", config), &basic("eve:x")).unwrap(),
        basic("eve:x"),
        "nothing is known of her"
    );
    let blank = r#""user":"u","password":"p","user_value":" ","password_value":"n""#;
    assert_eq!(lab.run(&step("http_auth", blank), &basic("ann:x")).unwrap(), basic("ann:n"));
    for other in ["Bearer x", "Basic !", "Basic YQ==", ""] {
        assert_eq!(lab.run(&step("http_auth", config), other), Err("not_basic_auth"), "{other}");
    }
    let learning = chain(BODY, &step("http_auth", r#""user_value":"b","smart_replace":"true""#));
    assert!(learning.ops[0].learns());
}

#[test]
fn grpc_fields_of_both_generations() {
    let old = r#"{"fieldsMap":{"1":{"fields":[{"asString":"4","id":"1","type":"T"}]},"2":{"fields":[{"asMessage":{"fieldsMap":{"3":{"fields":[{"asString":"in"}]}}}}]}}}"#;
    let new = r#"{"1:LEN":"4","2:LEN":{"3:LEN":"in"},"3:VARINT":7}"#;
    let field = |number: &str| format!(r#""field":"{number}""#);
    for doc in [old, new] {
        assert_eq!(
            around("grpc_field", &field("1"), "9", doc).unwrap(),
            doc.replace("\"4\"", "\"9\"")
        );
        let inner = [
            step("grpc_field", &field("2")),
            step("grpc_field", r#""field":"3","embedded":"true""#),
            constant("x"),
        ];
        assert_eq!(made(&inner, doc).unwrap(), doc.replace("\"in\"", "\"x\""));
        assert_eq!(around("grpc_field", &field("9"), "x", doc), Err("path_not_found"));
    }
    assert_eq!(around("grpc_field", &field("3"), "8", new).unwrap(), new.replace('7', "8"));
    assert_eq!(around("grpc_field", &field("1"), "8", "\0"), Err("not_json"));
    assert_eq!(refused("grpc_field", r#""field":"one""#), ["wrong_type"]);
}

#[test]
fn json_selector_loses_types_of_scalars_only() {
    let doc = r#"{"p":{"x":{"zip":1,"t":"a"},"y":{"zip":2, "id":5}}}"#;
    let config = |text: &str| format!(r#""match":"{text}","recursive":"true""#);
    assert_eq!(
        around("json_selector", &config("zip==2"), "9", doc).unwrap(),
        doc.replace('2', "\"9\"")
    );
    assert_eq!(around("json_selector", &config("zip"), "1", doc).unwrap(), doc, "nothing changed");
    let up = format!(r#"{},"levelsUp":"1""#, config("zip=2"));
    assert_eq!(
        around("json_selector", &up, "[0]", doc).unwrap(),
        doc.replace(r#"{"zip":2, "id":5}"#, "[0]")
    );
    assert_eq!(around("json_selector", &config("none"), "x", doc), Err("path_not_found"));
    assert_eq!(around("json_selector", r#""match":"zip""#, "x", doc), Err("path_not_found"));
    assert_eq!(
        around("json_selector", r#""match":"p.x.t""#, "b", doc).unwrap(),
        doc.replace("\"a\"", "\"b\"")
    );
    assert_eq!(around("json_selector", &config("zip"), "x", "no"), Err("not_json"));
    assert_eq!(refused("json_selector", r#""match":"a.#.b""#), ["bad_json_path"]);
}

#[test]
fn json_delete_ends_the_chain() {
    let doc = r#"{"a":1, "b":{"c":2}}"#;
    assert_eq!(around("json_delete", r#""path":"b.c""#, "x", doc).unwrap(), r#"{"a":1, "b":{}}"#);
    assert_eq!(ok("json_delete", r#""path":"z""#, doc), doc);
    assert_eq!(made(&[step("json_delete", r#""path":"z""#)], "no"), Err("not_json"));
    assert_eq!(refused("json_delete", r#""path":"a|b""#), ["bad_json_path"]);
}

#[test]
fn json_paths_of_both_notations() {
    let doc = r#"{ "list":[{"n":"a","v":1.50},{"n":"b","v":2}], "list":"twice", "o":{} }"#;
    let path = |text: &str| format!(r#""path":"{text}""#);
    for text in [
        "$.list[1].v",
        "$['list'][1].v",
        "$.list[?@.n=='b'].v",
        "list.1.v",
        r#"list.#(n==\"b\").v"#,
    ] {
        // Of a repeated member the first is worked on, wherever a query has found it.
        let doc = doc.replace(r#""list":"twice", "#, "");
        assert_eq!(
            around("json_path", &path(text), "3", &doc).unwrap(),
            doc.replace("\"v\":2", "\"v\":3"),
            "{text}"
        );
    }
    assert_eq!(
        around("json_path", &path("$.o.new"), "x", doc).unwrap(),
        doc.replace("{} }", r#"{"new":"x"} }"#)
    );
    assert_eq!(
        around("json_path", &path("$.o[*]"), "x", doc),
        Err("path_not_found"),
        "not a place"
    );
    assert_eq!(
        around("json_path", &format!(r#"{},"create":"false""#, path("z")), "x", doc),
        Err("path_not_found")
    );
    assert_eq!(around("json_path", &path("list.0.n"), "x", "<no>"), Err("not_json"));
    assert_eq!(around("json_path", &path("$.a"), "x", "<no>"), Err("not_json"));
    assert_eq!(refused("json_path", &path("$.a[")), ["bad_json_path"]);
}

#[test]
fn a_json_path_may_be_a_variable() {
    let lab = Lab::new();
    let doc = r#"{"a":1,"b":2}"#;
    lab.run(&step("var_store", r#""name":"key""#), "a").unwrap();
    let steps = [step("json_path", r#""path":"${{key}}""#), constant("9")].join(",");
    assert_eq!(lab.run(&steps, doc).unwrap(), r#"{"a":9,"b":2}"#);
    let moved = [
        step("json_path", r#""path":"${{key}}""#),
        constant("b"),
        step("var_store", r#""name":"key""#),
        constant("7"),
    ]
    .join(",");
    assert_eq!(
        lab.run(&moved, doc).unwrap(),
        r#"{"a":1,"b":7}"#,
        "resolved once more on the way back"
    );
}

#[test]
fn xml_nodes_are_worked_on_in_place() {
    let doc = "<?xml version='1.0'?>\n<o a='1'><b >x &amp; y</b><c/><d><e>1</e></d><!-- k --></o>";
    let path = |text: &str| format!(r#""path":"{text}""#);
    for (text, new, after) in [
        ("/o/b", "<&>", doc.replace("x &amp; y", "&lt;&amp;&gt;")),
        ("/o/b/text()", "z", doc.replace("x &amp; y", "z")),
        ("/o/@a", "it's", doc.replace("'1'><b", "'it&apos;s'><b")),
        ("//c", "n", doc.replace("<c/>", "<c>n</c>")),
        ("/o/d", "<f/>", doc.replace("<e>1</e>", "<f/>")),
        ("/o/b", "x & y", doc.to_owned()),
    ] {
        assert_eq!(around("xml_path", &path(text), new, doc).unwrap(), after, "{text}");
    }
    assert_eq!(around("xml_path", &path("/o/d"), "<f>", doc), Err("not_xml"));
    assert_eq!(around("xml_path", &path("/o/b"), "\\u0001", doc), Err("not_xml"));
    assert_eq!(around("xml_path", &path("/o/z"), "x", doc), Err("path_not_found"));
    assert_eq!(around("xml_path", &path("/o"), "x", "<o>"), Err("not_xml"));
    assert_eq!(refused("xml_path", &path("/o[")), ["bad_xpath"]);
}

#[test]
fn gzip_is_opened_and_closed() {
    let folded = body::fold(b"{\"a\":1}").unwrap();
    let ops = chain(
        r#"{"type":"http_res_header","config":{"name":"X"}}"#,
        &[step("gzip", ""), step("json_path", r#""path":"a""#), constant("2")].join(","),
    )
    .ops;
    let out = apply(&ops, &folded, &mut Marks::default()).unwrap();
    assert_eq!(body::unfold(&out).unwrap(), b"{\"a\":2}");
    for bad in [&b"{\"a\":1}"[..], b"", b"\x1f\x8b\x08damaged"] {
        assert_eq!(apply(&ops, bad, &mut Marks::default()).unwrap_err().code, "not_gzip");
    }
    // Bodies are often handed over decompressed.
    assert_eq!(
        made(&[step("gzip", ""), step("json_path", r#""path":"a""#), constant("2")], "{\"a\":1}")
            .unwrap(),
        "{\"a\":2}"
    );
    let bomb = body::fold(&vec![0; 80 * 1024 * 1024]).unwrap();
    assert_eq!(apply(&ops, &bomb, &mut Marks::default()).unwrap_err().code, "not_gzip");
}

#[test]
fn what_does_not_work_here_is_named() {
    for kind in ["map_load", "map_store", "http_match_request_body", "db_add_row"] {
        assert_eq!(codes(BODY, &step(kind, "")), ["unsupported_transform"], "{kind}");
    }
    assert_eq!(codes(BODY, &step("aws_auth", "")), ["generator_only"]);
}

/// Every type and alias of the compatibility reference.
const DOCUMENTED: [&str; 42] = [
    "aws_auth",
    "base64",
    "constant",
    "date",
    "db_add_row",
    "delete_sig",
    "grpc_field",
    "gzip",
    "http_auth",
    "http_match_request_body",
    "http_match_request_body_soap_operation",
    "http_match_request_body_xpath",
    "json_delete",
    "json_path",
    "json_selector",
    "jwt_claim",
    "jwt_resign",
    "map_load",
    "map_store",
    "one_of",
    "rand_string",
    "regex",
    "replace",
    "sasl_auth",
    "scrub",
    "scrub_date",
    "sleep",
    "split",
    "store_sig",
    "tag_session",
    "trim",
    "url_decode",
    "url_encode",
    "var_load",
    "var_store",
    "xml_path",
    // Tables and learned replacements.
    "csv",
    "csv_dataframe",
    "csv_iter",
    "dataframe_lookup",
    "smart_replace",
    "train",
];
const ALSO_DOCUMENTED: [&str; 4] =
    ["smart_replace_csv", "train_csv", "smart_replace_recorded", "train_actual"];
/// Redaction.
const OF_REDACTION: [&str; 2] = ["dlp_field", "dlp_json"];

#[test]
fn every_documented_step_is_known() {
    let known: BTreeSet<&str> =
        KINDS.iter().flat_map(|kind| kind.aliases.iter().copied().chain([kind.name])).collect();
    for name in DOCUMENTED.iter().chain(&ALSO_DOCUMENTED).chain(&OF_REDACTION) {
        assert!(known.contains(name), "{name}");
    }
    assert!(KINDS.is_sorted_by_key(|kind| kind.name));
}
