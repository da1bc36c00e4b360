//! Documents as people write them.

use proptest::prelude::*;

use crate::{
    formats::tests::{Seen, read},
    snapshot::{
        RrPair, header,
        stub::{Condition, Part, Stub, Test},
    },
};

fn yaml(text: &str) -> Seen {
    read(
        "api.yaml",
        &[format!("openapi: 3.0.3\ninfo: {{title: t, version: '1'}}\n{text}").as_bytes()],
    )
}

fn one(text: &str) -> RrPair {
    let mut seen = yaml(text);
    assert!(
        seen.pairs.len() == 1 && seen.skipped.is_empty() && seen.refused.is_empty(),
        "{seen:?}"
    );
    seen.pairs.remove(0)
}

fn stub(pair: &RrPair) -> &Stub {
    pair.stub.as_ref().unwrap()
}

fn body(pair: &RrPair) -> &str {
    std::str::from_utf8(&pair.response.body).unwrap()
}

const USERS: &str = "
servers: [{url: 'https://{region}.api.test/v1/', variables: {region: {default: eu}}}]
paths:
  /users/{id}:
    parameters:
    - {name: id, in: path, required: true, schema: {type: integer}, example: 7}
    get:
      parameters:
      - {name: fields, in: query, schema: {type: string}, example: all}
      - {name: page, in: query, required: true, schema: {type: integer, default: 1}}
      responses:
        404: {description: no, content: {application/json: {example: {error: gone}}}}
        '200':
          description: ok
          headers: {X-Rate: {schema: {type: integer, example: 9}}, X-No: {schema: {type: integer}}}
          content:
            text/plain: {example: no}
            application/json: {example: {name: b, age: 1.50, a: [1, null]}}
";

#[test]
fn an_operation_becomes_a_stub_for_any_of_its_requests() {
    let seen = yaml(USERS);
    let pair = &seen.pairs[0];
    let request = pair.request.as_ref().unwrap();
    assert_eq!(
        (request.host.as_str(), request.path.as_str(), request.query.as_str()),
        ("eu.api.test", "/v1/users/7", "page=1")
    );
    assert_eq!((pair.network_address.as_str(), pair.response.status), ("eu.api.test:443", 200));
    assert_eq!(body(pair), r#"{"name":"b","age":1.5,"a":[1,null]}"#);
    assert_eq!(header(&pair.response.headers, "x-rate").unwrap(), "9");
    assert_eq!(header(&pair.response.headers, "content-type").unwrap(), "application/json");
    assert_eq!(header(&pair.response.headers, "x-no"), None);
    let condition = |part, test| Condition { part, test };
    assert_eq!(
        stub(pair).conditions,
        [
            condition(Part::Method, Test::equals("GET")),
            condition(Part::Path, Test::Template("/v1/users/{id}".into()))
        ]
    );
    assert_eq!((seen.pairs.len(), seen.skipped.len()), (1, 1));
    assert_eq!(
        (seen.skipped[0].code, seen.skipped[0].path.as_str()),
        ("example_left_out", "paths./users/{id}.get.responses.404")
    );
}

#[test]
fn json_and_yaml_are_the_same() {
    let text = r#"{"openapi":"3.1.0","paths":{"/a":{"get":{"responses":{"200":{"content":{"application/json":{"example":{"b":1,"a":2}}}}}}}}}"#;
    let seen = read("api.json", &[text.as_bytes()]);
    assert_eq!(body(&seen.pairs[0]), r#"{"b":1,"a":2}"#);
    for path in ["api.yml", "api"] {
        assert_eq!(read(path, &[text.as_bytes()]).pairs, seen.pairs, "{path}");
    }
    let yaml = "openapi: 3.1.0\npaths: {/a: {get: {responses: {200: {content: {application/json: {example: {b: 1, a: 2}}}}}}}}\n";
    assert_eq!(read("api", &[yaml.as_bytes()]).pairs, seen.pairs);
}

#[test]
fn examples_of_one_name_belong_together() {
    let seen = yaml(
        "
paths:
  /pets/{id}:
    post:
      parameters:
      - name: id
        in: path
        required: true
        schema: {type: string}
        examples: {cat: {value: 'c 1'}, none: {value: x}}
      - {name: q, in: query, schema: {type: string}, examples: {none: {value: '0'}}}
      requestBody: {content: {application/json: {examples: {cat: {value: {want: cat}}}}}}
      responses:
        200: {description: ok, content: {application/json: {examples: {cat: {value: {is: cat}}, dog: {value: {is: dog}}, cow: {value: {is: cow}}}}}}
        404: {description: no, content: {application/json: {examples: {none: {$ref: '#/components/examples/gone'}}}}}
components: {examples: {gone: {value: {is: gone}}}}
",
    );
    let answers: Vec<_> = seen
        .pairs
        .iter()
        .map(|pair| (body(pair), pair.response.status, stub(pair).priority))
        .collect();
    assert_eq!(
        answers,
        [(r#"{"is":"cat"}"#, 200, 5), (r#"{"is":"dog"}"#, 200, 11), (r#"{"is":"gone"}"#, 404, 5)]
    );
    assert_eq!(
        stub(&seen.pairs[0]).conditions[1..],
        [
            Condition { part: Part::Path, test: Test::equals("/pets/c%201") },
            Condition {
                part: Part::Body,
                test: Test::EqualsJson {
                    expected: r#"{"want":"cat"}"#.into(),
                    ignore_array_order: false,
                    ignore_extra: false
                }
            },
        ]
    );
    assert_eq!(
        stub(&seen.pairs[2]).conditions[2],
        Condition { part: Part::Query("q".into()), test: Test::equals("0") }
    );
}

/// The body that a schema makes, or why there is none.
fn made(schema: &str) -> Result<String, &'static str> {
    let seen = yaml(&format!(
        "paths: {{/a: {{get: {{responses: {{200: {{content: {{application/json: {{schema: {schema}}}}}}}}}}}}}}}\ncomponents:\n  schemas:\n    Tree: {{type: object, properties: {{name: {{type: string}}, children: {{type: array, items: {{$ref: '#/components/schemas/Tree'}}}}, parent: {{$ref: '#/components/schemas/Tree'}}}}}}\n    Loop: {{$ref: '#/components/schemas/Loop'}}\n    Hard: {{type: object, required: [self], properties: {{self: {{$ref: '#/components/schemas/Hard'}}}}}}\n    'a/b': {{type: boolean}}\n"
    ));
    match seen.pairs.first() {
        Some(pair) => Ok(body(pair).to_owned()),
        None => Err(seen.skipped.first().unwrap_or_else(|| panic!("{schema}: {seen:?}")).code),
    }
}

#[test]
fn schemas_make_examples_where_that_needs_no_guessing() {
    for (schema, body) in [
        ("{type: string}", r#""string""#),
        ("{type: string, minLength: 8}", r#""stringst""#),
        ("{type: string, maxLength: 3}", r#""str""#),
        ("{type: string, format: date-time}", r#""2024-01-01T00:00:00Z""#),
        ("{type: string, enum: [red, blue]}", r#""red""#),
        ("{type: [string, 'null'], format: uuid}", r#""00000000-0000-4000-8000-000000000000""#),
        ("{type: integer, minimum: 3}", "3"),
        ("{type: integer, minimum: 3, exclusiveMinimum: true}", "4"),
        ("{type: number, maximum: -1.5}", "-1.5"),
        ("{type: boolean, default: false}", "false"),
        ("{const: 5}", "5"),
        ("{type: array, items: {type: integer}, minItems: 2}", "[0,0]"),
        ("{type: array}", "[]"),
        (
            "{properties: {b: {type: integer}, a: {examples: [x]}, w: {type: string, writeOnly: true}, u: {}}}",
            r#"{"b":0,"a":"x"}"#,
        ),
        (
            "{allOf: [{properties: {a: {type: integer}}}, {required: [a]}], properties: {b: {type: boolean}}}",
            r#"{"a":0,"b":true}"#,
        ),
        ("{oneOf: [{type: 'null'}, {}, {type: integer}]}", "0"),
        ("{$ref: '#/components/schemas/Tree'}", r#"{"name":"string","children":[]}"#),
        ("{$ref: '#/components/schemas/a~1b'}", "true"),
        ("{type: object}", "{}"),
    ] {
        assert_eq!(made(schema).as_deref(), Ok(body), "{schema}");
    }
    for (schema, code) in [
        ("{}", "example_missing"),
        ("{type: string, pattern: '^a'}", "example_missing"),
        ("{$ref: '#/components/schemas/Hard'}", "example_missing"),
        ("{$ref: '#/components/schemas/Loop'}", "example_missing"),
        ("{$ref: '#/components/schemas/None'}", "reference_broken"),
        ("{$ref: 'other.yaml#/x'}", "reference_external"),
        ("{type: string, minLength: 100000}", "limit_exceeded"),
    ] {
        assert_eq!(made(schema), Err(code), "{schema}");
    }
}

#[test]
fn a_document_that_would_grow_is_bounded() {
    let mut schemas = String::new();
    for n in 0..40 {
        let next = n + 1;
        schemas.push_str(&format!(
            "    S{n}: {{type: object, properties: {{a: {{$ref: '#/components/schemas/S{next}'}}, b: {{$ref: '#/components/schemas/S{next}'}}}}}}\n"
        ));
    }
    let text = format!(
        "paths: {{/a: {{get: {{responses: {{200: {{content: {{application/json: {{schema: {{$ref: '#/components/schemas/S0'}}}}}}}}}}}}}}}}\ncomponents:\n  schemas:\n{schemas}    S40: {{type: string}}\n"
    );
    let seen = yaml(&text);
    assert_eq!((seen.pairs.len(), seen.skipped[0].code), (0, "limit_exceeded"));
}

#[test]
fn bodies_are_written_in_their_media_type() {
    let of = |media_type: &str, example: &str| {
        let seen = yaml(&format!(
            "paths: {{/a: {{get: {{responses: {{200: {{content: {{{media_type}: {{example: {example}}}}}}}}}}}}}}}\n"
        ));
        seen.pairs
            .first()
            .map_or_else(|| seen.skipped[0].code.to_owned(), |pair| body(pair).to_owned())
    };
    for (media_type, example, body) in [
        ("application/json", "'{\"a\": 1}'", "{\"a\": 1}"),
        ("application/json", "text", "\"text\""),
        ("application/hal+json", "{a: 1}", "{\"a\":1}"),
        ("application/xml", "'<a/>'", "<a/>"),
        ("application/xml", "{a: 1}", "example_missing"),
        ("text/csv", "'a,b'", "a,b"),
        ("application/x-www-form-urlencoded", "{a: 1 2, b: x}", "a=1+2&b=x"),
    ] {
        assert_eq!(of(media_type, example), body, "{media_type} {example}");
    }
    let empty = one("paths: {/a: {delete: {responses: {204: {description: gone}}}}}\n");
    assert_eq!(
        (empty.response.status, empty.response.body.len(), empty.network_address.as_str()),
        (204, 0, "localhost:80")
    );
    assert_eq!(stub(&empty).conditions[1].test, Test::equals("/a"));
    let class =
        one("paths: {/a: {get: {responses: {2XX: {content: {text/plain: {example: ok}}}}}}}\n");
    assert_eq!(class.response.status, 200);
}

#[test]
fn what_is_no_such_document_is_told() {
    let swagger = "swagger: '2.0'\npaths: {/a: {get: {}}}\n";
    assert_eq!(read("api.yaml", &[swagger.as_bytes()]).refused[0].code, "format_unsupported");
    assert_eq!(
        read("api.json", &[br#"{"swagger":"2.0","paths":{}}"#]).refused[0].code,
        "format_unsupported"
    );
    assert_eq!(
        read("deployment.yaml", &[b"kind: Deployment\n"]).skipped[0].code,
        "not_a_recording"
    );
    assert_eq!(read("api.yaml", &[b"openapi: 3.0.0\n\tx: [\n"]).refused[0].code, "not_readable");
    assert_eq!(yaml("paths: {}\n").skipped[0].code, "empty_file");
    let seen = yaml(
        "paths: {/a: {get: {}, post: {responses: {200: {$ref: 'x.yaml'}}}}, /b: {$ref: 'b.yaml'}}\n",
    );
    let codes: Vec<_> = seen.skipped.iter().map(|why| (why.path.as_str(), why.code)).collect();
    assert_eq!(
        codes,
        [
            ("paths./a.get", "no_response"),
            ("paths./a.post.responses.200", "reference_external"),
            ("paths./a.post", "no_response"),
            ("paths./b", "reference_external"),
        ]
    );
}

proptest! {
    #[test]
    fn damage_does_not_panic(at in 0_usize..1200, with in "[{}\\[\\]:,&*$#a/ \n-]{0,3}") {
        let mut text = format!("openapi: 3.0.3\n{USERS}");
        if text.is_char_boundary(at) && at < text.len() {
            text.insert_str(at, &with);
        }
        read("api.yaml", &[text.as_bytes()]);
    }
}
