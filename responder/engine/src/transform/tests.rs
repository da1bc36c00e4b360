//! Templates as users write them, and what is wrong with some.

use super::op::{StepError, apply};
use super::testing::Marks;
use super::{Chain, Template};
use crate::diagnostic::Diagnostic;

fn template(transforms: &str) -> (Template, Vec<Diagnostic>) {
    let json = format!(
        r#"{{"id":"t","responder":[{{"extractor":{{"type":"res_body"}},"transforms":[{transforms}]}}]}}"#
    );
    let (template, found) = Template::parse(json.as_bytes());
    (template, found.into_vec())
}

fn run(transforms: &str, value: &str) -> Result<String, StepError> {
    let (template, found) = template(transforms);
    assert_eq!(found, [], "{transforms}");
    let [Chain { ops, .. }] = template.chains() else { panic!("one chain") };
    apply(ops, value.as_bytes(), &mut Marks::default()).map(|out| String::from_utf8(out).unwrap())
}

const RESIGN: &str =
    r#"{"type":"jwt_resign","config":{"secretPath":"${{secret:jwt-demo/tls.key}}"}}"#;

#[test]
fn two_phase_steps_put_back_what_they_took_out() {
    let doc =
        r#"{ "n": 1.50, "b": true, "s": "x", "o": {"k":[1]}, "z": null, "list": ["a.b", "c"] }"#;
    let constant = |path: &str, new: &str| {
        run(&format!(r#"{{"type":"json_path","config":{{"path":"{path}"}}}},{{"type":"constant","config":{{"new":"{new}"}}}}"#), doc).unwrap()
    };
    assert_eq!(constant("n", "2.25"), doc.replace("1.50", "2.25"));
    assert_eq!(constant("n", "no number"), doc.replace("1.50", "0"));
    assert_eq!(constant("b", "false"), doc.replace("true", "false"));
    assert_eq!(constant("b", "7"), doc, "a boolean takes nothing but a boolean");
    assert_eq!(constant("z", "7"), doc.replace("null", "7"));
    assert_eq!(constant("z", "t"), doc.replace("null", "\"t\""));
    assert_eq!(constant("o", "[2]"), doc.replace(r#"{"k":[1]}"#, "[2]"));
    assert_eq!(constant("list.#", "*"), doc.replace(r#""a.b", "c""#, r#""*", "*""#));
    assert_eq!(constant("new.deep", "1"), doc.replace(r#""c"] }"#, r#""c"],"new":{"deep":"1"} }"#));
    let split = r#"{"type":"json_path","config":{"path":"list.0"}},{"type":"split","config":{"separator":".","index":"1"}},{"type":"constant","config":{"new":"*"}}"#;
    assert_eq!(run(split, doc).unwrap(), doc.replace("a.b", "a.*"));
}

#[test]
fn a_chain_that_changes_no_value_changes_no_byte() {
    let doc = " {\"a\" : \"e30\\u003d\" , \"a\":2} ";
    for steps in [
        r#"{"type":"json_path","config":{"path":"a"}}"#,
        r#"{"type":"json_path","config":{"path":"a"}},{"type":"base64"}"#,
        r#"{"type":"json_path","config":{"path":"a"}},{"type":"split"}"#,
        r#"{"type":"regex","config":{"pattern":"a"}}"#,
        r#"{"type":"json_path","config":{"path":"absent"}}"#,
    ] {
        assert_eq!(run(steps, doc).unwrap(), doc, "{steps}");
    }
}

#[test]
fn a_document_without_the_token_stays_as_it_is() {
    let steps = format!(r#"{{"type":"json_path","config":{{"path":"access_token"}}}},{RESIGN}"#);
    assert_eq!(run(&steps, r#"{ "error": "x" }"#).unwrap(), r#"{ "error": "x" }"#);
    assert_eq!(run(&steps, r#"{"access_token":"opaque"}"#).unwrap_err().code, "not_a_jwt");
    assert_eq!(run(&steps, "<html>").unwrap_err().code, "not_json");
}

#[test]
fn what_tells_the_validity_follows_the_token() {
    let steps =
        format!(r#"{{"type":"json_path","config":{{"path":"data.access_token"}}}},{RESIGN}"#);
    let doc = r#"{"expires_in":1,"data":{"expires_in":60,"access_token":"t","expires_on":"9"}}"#;
    assert_eq!(
        run(&steps, doc).unwrap(),
        r#"{"expires_in":1,"data":{"expires_in":600,"access_token":"t!","expires_on":"9"}}"#
    );
}

#[test]
fn regex_and_base64_wrap_tokens() {
    assert_eq!(
        run(&format!(r#"{{"type":"regex","config":{{"pattern":"t=(\\w+)","captureGroup":"1"}}}},{RESIGN}"#), "t=abc; u=abc").unwrap(),
        "t=abc!; u=abc!"
    );
    assert_eq!(run(&format!(r#"{{"type":"base64"}},{RESIGN}"#), "YWJj").unwrap(), "YWJjIQ");
}

#[test]
fn the_seeds_example_loads_verbatim() {
    let seed = br#"{"id":"jwt-test","responder":[{"filters":{"filters":[{"include":true}]},
 "extractor":{"type":"http_res_body"},
 "transforms":[{"type":"json_path","config":{"path":"access_token"}},
  {"type":"jwt_resign","config":{"secretPath":"/home/speedscale/secret/jwt-demo/tls.key"}}]}]}"#;
    let (template, found) = Template::parse(seed);
    assert_eq!(found.into_vec(), []);
    assert_eq!(template.id(), "jwt-test");
    assert_eq!(
        template.required_secrets().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["jwt-demo/tls.key"]
    );
}

#[test]
fn names_in_any_case_and_wrappers_are_read() {
    let json = br#"{"id":"s","tokenizerConfig":{"Id":"t","Responder":[{"Extractor":{"Type":"res_body"},"Transforms":[{"Type":"constant","Config":{"New":"x"}}]}]}}"#;
    let (template, found) = Template::parse(json);
    assert_eq!(found.into_vec(), []);
    assert_eq!((template.id(), template.responder_chains()), ("t", 1));
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    let json = br#"{"responder":[
        {"extractor":{"type":"res_bodi"},"transforms":[{"type":"jwt_resing"},{"type":"regex","config":{"pattern":"("}}]},
        {"filters":{"filters":[{"include":true,"detectedLokation":"/"}]},"extractor":{"type":"http_res_header"},"transforms":[]},
        {"extractor":{"type":"res_body"},"transforms":[{"type":"json_path","config":{"path":"a..b"}},{"type":"regex","config":{"pattern":"["}}]}
    ]}"#;
    let (_, found) = Template::parse(json);
    let found: Vec<_> = found.as_slice().iter().map(|d| (d.code, d.path.as_str())).collect();
    assert_eq!(
        found,
        [
            ("missing_field", "id"),
            ("unknown_extractor", "responder[0].extractor.type"),
            ("unknown_transform", "responder[0].transforms[0].type"),
            ("bad_regex", "responder[0].transforms[1].config.pattern"),
            ("unknown_filter", "responder[1].filters.filters[0].detectedLokation"),
            ("missing_field", "responder[1].extractor.config.name"),
            ("bad_json_path", "responder[2].transforms[0].config.path"),
            ("bad_regex", "responder[2].transforms[1].config.pattern"),
        ]
    );
}

#[test]
fn a_chain_that_cannot_be_built_leaves_the_others_alone() {
    let (template, found) = Template::parse(
        br#"{"id":"t","responder":[
            {"extractor":{"type":"res_body"},"transforms":[{"type":"json_paht","config":{"path":"a"}}]},
            {"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"x"}}]},
            {"extractor":{"type":"req_body"},"transforms":[{"type":"aws_auth","config":{}}]}
        ]}"#,
    );
    assert_eq!(template.responder_chains(), 1);
    let found: Vec<_> = found.as_slice().iter().map(|d| (d.code, d.hint.as_str())).collect();
    assert_eq!(found, [("unknown_transform", "did you mean `json_path`?"), ("generator_only", "")]);
}

#[test]
fn variables_are_read_and_their_mistakes_named() {
    let (_, found) = Template::parse(
        br#"{"Id":"t","ResponderVariables":[
            {"Name":"day","Config":{"Extractor":{"Type":"empty"},"Transforms":[{"Type":"constant","Config":{"New":"x"}}]}},
            {"name":"","config":{}},
            {"name":"y","config":{"extractor":{"type":"empty"},"transforms":[{"type":"json_paht"}]}}
        ],"generatorVariables":[]}"#,
    );
    let found: Vec<_> = found.as_slice().iter().map(|d| (d.code, d.path.as_str())).collect();
    assert_eq!(
        found,
        [
            ("missing_field", "responderVariables[1].name"),
            ("unknown_transform", "responderVariables[2].config.transforms[0].type"),
        ]
    );
}

#[test]
fn a_misspelt_name_gets_a_hint() {
    let (_, found) = template(r#"{"type":"jwt_resing"}"#);
    assert_eq!(found[0].hint, "did you mean `jwt_resign`?");
}

#[test]
fn a_regex_cannot_eat_the_server() {
    for pattern in [r"\\w{1000}", "((a{100}){100}){100}", &"(".repeat(300)] {
        let (_, found) =
            template(&format!(r#"{{"type":"regex","config":{{"pattern":"{pattern}"}}}}"#));
        assert!(matches!(found[0].code, "regex_too_large" | "bad_regex"), "{pattern}: {found:?}");
    }
}
