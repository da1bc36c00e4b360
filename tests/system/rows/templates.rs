//! Templates that are misspelt, incomplete, without end, too costly, or ahead of what they refer to.
//!
//! Places are told as everywhere here, `responder[0].transforms[1].config.pattern`, which is what people see in their file; a JSON pointer would say the
//! same.

use std::net::TcpListener;

use countersign_proto::{
    control::v1::{
        GetTransformRequest, UpdateTransformRequest,
        transform_service_client::TransformServiceClient,
    },
    transform::v1::Transform,
};
use tonic_types::StatusExt as _;

use super::*;
use crate::rollouts::odd_one;

const SECRET: &[u8] = b"a secret that is long enough for HS256";

/// A template with one chain of these steps.
fn template(steps: &Value) -> String {
    json!({"id": "bad", "responder": [{"extractor": {"type": "res_body"}, "transforms": steps}]})
        .to_string()
}

/// A template with one step.
fn step(kind: &str, config: Value) -> String {
    let mut step = json!({"type": kind});
    step["config"] = config;
    template(&json!([step]))
}

/// What is refused of one step's setting.
fn refuses_setting(world: &World, kind: &str, (name, value): (&str, &str), code: &str) -> String {
    let place = format!("responder[0].transforms[0].config.{name}");
    world.refuses(&step(kind, json!({name: value})), &[(&*place, code)])
}

/// What `transform validate` says of a template, and how it ends.
fn validated(world: &World, template: &[u8]) -> Finished {
    let file = world.dir.path().join("read.json");
    fs::write(&file, template).unwrap();
    world.cli(&["transform", "validate", &file.to_string_lossy()])
}

#[tokio::test]
async fn t01_a_misspelt_transform_is_refused_with_the_name_that_was_meant() {
    let world = World::serve(Vec::new()).await;
    let said = world.refuses(
        &step("jwt_resing", json!({"secretPath": "${{secret:a/b}}"})),
        &[("responder[0].transforms[0].type", "unknown_transform")],
    );
    assert!(said.contains("did you mean `jwt_resign`?"), "{said}");
    let extractor =
        json!({"id": "bad", "responder": [{"extractor": {"type": "res_bodi"}, "transforms": []}]});
    let place = [("responder[0].extractor.type", "unknown_extractor")];
    drop(world.refuses(&extractor.to_string(), &place));
    // What is like no name at all may be of a later version or of another product: its chain is left out, and told.
    let other = validated(&world, step("xslt", json!({})).as_bytes()).ok();
    assert!(other.text().contains("[unknown_transform]"), "{}", other.text());
    drop(world.end().await);
}

#[tokio::test]
async fn t02_all_mistakes_of_a_document_are_told_in_one_answer_with_their_places() {
    let world = World::serve(Vec::new()).await;
    let mistakes = json!({"responder": [
        {"extractor": {"type": "http_res_header"}, "transforms": [
            {"type": "regex", "config": {"pattern": "a", "captureGroup": "x"}},
            {"type": "constant", "config": {}},
            {"type": "jwt_resign", "config": {"secretPath": "a/b", "expiredIn": "5"}},
            {"type": "json_path", "config": {"path": ["a"]}},
        ]},
        {"filters": {"filters": [{"include": true, "detectedLokation": "/"}]}, "transforms": "none"},
    ]});
    drop(world.refuses(
        &mistakes.to_string(),
        &[
            ("id", "missing_field"),
            ("responder[0].extractor.config.name", "missing_field"),
            ("responder[0].transforms[0].config.captureGroup", "wrong_type"),
            ("responder[0].transforms[1].config.new", "missing_field"),
            ("responder[0].transforms[2].config.expiredin", "unknown_field"),
            ("responder[0].transforms[3].config.path", "wrong_type"),
            ("responder[1].filters.filters[0].detectedLokation", "unknown_filter"),
            ("responder[1].extractor", "missing_field"),
            ("responder[1].transforms", "wrong_type"),
        ],
    ));
    // A setting that is like none is taken along with a warning: other products' templates have some of their own.
    let other = validated(&world, step("trim", json!({"unrelated": "x"})).as_bytes()).ok();
    assert!(other.text().contains("responder[0].transforms[0].config.unrelated"));
    assert!(other.text().contains("[unknown_field]"), "{}", other.text());
    drop(world.end().await);
}

#[tokio::test]
async fn t03_each_malformed_entry_of_claims_is_named_by_its_number() {
    let world = World::serve(Vec::new()).await;
    let config = json!({"secretPath": "a/b", "claims": "sub=me,a=b=c,,=x"});
    let place = ("responder[0].transforms[0].config.claims", "claims_malformed");
    let said = world.refuses(&step("jwt_resign", config), &[place]);
    for nth in 1..=3 {
        assert!(said.contains(&format!("entry {nth}")), "{nth}: {said}");
    }
    assert!(!said.contains("entry 0"), "{said}");
    drop(world.end().await);
}

#[tokio::test]
async fn t04_a_regular_expression_that_grows_without_measure_is_refused_at_little_cost() {
    let world = World::serve(Vec::new()).await;
    // Whatever a first upload takes is not counted.
    drop(refuses_setting(&world, "regex", ("pattern", "("), "bad_regex"));
    let (before, _) = memory(world.plane.id());
    let nested = format!("{}{}", "(".repeat(300), ")".repeat(300));
    for pattern in [r"\w{1000}", "((a{100}){100}){100}", &nested, &"a".repeat(5000)] {
        drop(refuses_setting(&world, "regex", ("pattern", pattern), "regex_too_large"));
    }
    drop(refuses_setting(&world, "regex", ("pattern", &"(".repeat(300)), "bad_regex"));
    let (_, most) = memory(world.plane.id());
    assert!(most < before + 20 * 1024 * 1024, "{before} bytes became {most}");
    drop(world.end().await);
}

#[tokio::test]
async fn t05_a_search_that_would_take_long_is_not_begun_and_a_run_of_matches_is_replaced_in_time() {
    let body = |value: &str| json!({"v": value}).to_string();
    let steps = |pattern: &str| {
        json!([
            {"type": "json_path", "config": {"path": "v"}},
            {"type": "regex", "config": {"pattern": pattern}},
            {"type": "constant", "config": {"new": "b"}}
        ])
    };
    let megabyte = 1024 * 1024;
    // The second one is what finding all occurrences of a long value can take long for.
    let nearly = format!("{}c{}d", "a".repeat(megabyte / 2), "a".repeat(megabyte / 4));
    let world = World::serve(vec![
        Case::of_steps("costly", body(&"0".repeat(megabyte)), steps("[01]*1[01]{1000}")),
        Case::of_steps("nearly", body(&nearly), steps("a+d")),
        Case::of_steps("run", body(&"A".repeat(megabyte)), steps("(?:.*[^A-Z]|[A-Z])")),
    ])
    .await;
    world.unchanged("costly", "transform_budget").await;
    let replaced = format!("{}cb", "a".repeat(megabyte / 2));
    for (case, value) in [("nearly", replaced), ("run", "b".repeat(megabyte))] {
        let answer = world.client.get(&format!("/{case}")).await;
        assert!(answer.json()["v"] == *value, "{case}: {} bytes", answer.body.len());
    }
    drop(world.end().await);
}

#[tokio::test]
async fn t06_a_random_text_is_at_most_64_kib_long() {
    let world = World::serve(Vec::new()).await;
    for pattern in ["[a-z]{1000000000}", "[a-z]{65537}", "([a-z]{300}){300}"] {
        drop(refuses_setting(&world, "rand_string", ("pattern", pattern), "bad_regex"));
    }
    let placeholder = r#"${{rand_string:"[a-z]{1000000000}"}}"#;
    drop(refuses_setting(&world, "constant", ("new", placeholder), "bad_regex"));
    drop(
        validated(&world, step("rand_string", json!({"pattern": "[a-z]{65536}"})).as_bytes()).ok(),
    );
    drop(world.end().await);
}

#[tokio::test]
async fn t07_replacing_does_not_make_a_value_larger_than_is_sent() {
    let body = json!({"v": "a".repeat(1024 * 1024)}).to_string();
    let long = "b".repeat(100_000);
    let steps = |kind: &str, config: Value, then: Value| json!([{"type": "json_path", "config": {"path": "v"}}, {"type": kind, "config": config}, then]);
    let constant = json!({"type": "constant", "config": {"new": long}});
    let world = World::serve(vec![
        Case::of_steps(
            "replace",
            body.clone(),
            steps("replace", json!({"old": "a", "new": long}), json!({"type": "trim"})),
        ),
        Case::of_steps("regex", body, steps("regex", json!({"pattern": "a"}), constant)),
    ])
    .await;
    for case in ["replace", "regex"] {
        world.unchanged(case, "output_too_large").await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn t08_variables_that_are_made_of_themselves_are_refused_and_placeholders_nest_8_deep() {
    let world = World::serve(Vec::new()).await;
    let variable = |name: &str, new: &str| {
        json!({"name": name, "config": {"extractor": {"type": "empty"},
            "transforms": [{"type": "constant", "config": {"new": new}}]}})
    };
    let with =
        |variables: &[Value]| json!({"id": "bad", "responderVariables": variables}).to_string();
    let cycle = [
        variable("good", "x"),
        variable("a", "${{b}}"),
        variable("b", "${{good}} ${{var:c}}"),
        variable("c", "${{a}}"),
        variable("self", "${{self}}"),
    ];
    let places = [1, 2, 3, 4].map(|nth| format!("responderVariables[{nth}]"));
    let expected: Vec<(&str, &str)> =
        places.iter().map(|place| (place.as_str(), "template_cycle")).collect();
    let said = world.refuses(&with(&cycle), &expected);
    assert!(!said.contains("responderVariables[0]"), "{said}");
    // What is named before it is made is no cycle.
    let chain = with(&[variable("a", "${{b}}"), variable("b", "${{c}}"), variable("c", "x")]);
    drop(validated(&world, chain.as_bytes()).ok());
    let nested = |depth: usize| {
        (0..depth).fold("k".to_owned(), |inner, _| format!("${{{{dataframe:t:{inner}:f}}}}"))
    };
    let place = [("responder[0].transforms[0].config.new", "bad_placeholder")];
    drop(world.refuses(&step("constant", json!({"new": nested(1000)})), &place));
    drop(validated(&world, step("constant", json!({"new": nested(8)})).as_bytes()).ok());
    drop(world.end().await);
}

#[tokio::test]
async fn t09_documents_that_unfold_or_call_elsewhere_are_served_as_recorded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let laughs: String = (1..10)
        .map(|nth| format!(r#"<!ENTITY l{nth} "{}">"#, format!("&l{};", nth - 1).repeat(10)))
        .collect();
    let documents = [
        ("laughs", format!(r#"<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]><a>&l9;</a>"#)),
        ("external", format!(r#"<!DOCTYPE a [<!ENTITY x SYSTEM "{url}">]><a>&x;</a>"#)),
        ("file", r#"<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>"#.to_owned()),
        ("undeclared", "<a>&x;</a>".to_owned()),
        (
            "attributes",
            format!("<a {}/>", (0..600_000).map(|nth| format!("a{nth}='' ")).collect::<String>()),
        ),
        ("deep", format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000))),
    ];
    let constant = json!({"type": "constant", "config": {"new": "x"}});
    let xml = json!([{"type": "xml_path", "config": {"path": "/a"}}, constant]);
    let mut cases: Vec<Case> = documents
        .iter()
        .map(|(name, document)| Case::of_steps(name, document.clone(), xml.clone()))
        .collect();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let query = |path: &str| json!([{"type": "json_path", "config": {"path": path}}, constant]);
    cases.push(Case::of_steps("json", deep.clone(), query("a.b")));
    cases.push(Case::of_steps("query", deep, query("$..a")));
    let world = World::serve(cases).await;
    for (name, _) in &documents {
        world.unchanged(name, "not_xml").await;
    }
    for name in ["json", "query"] {
        world.unchanged(name, "not_json").await;
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(world.end().await);
}

#[tokio::test]
async fn t10_documents_that_cannot_be_read_one_way_are_refused_with_line_and_column() {
    let world = World::serve(Vec::new()).await;
    let twice = r#"{"id":"bad","responder":[{"extractor":{"type":"res_body"},
        "transforms":[{"type":"replace","config":{"old":"a","new":"b","old":"c"}}]}]}"#;
    drop(world.refuses(twice, &[("responder[0].transforms[0].config.old", "duplicate_member")]));
    let nul = "{\"id\":\"bad\",\n\"responder\":[\"\u{0}\"]}";
    let said = world.refuses(nul, &[("", "not_json")]);
    assert!(said.contains("line 2 column 15"), "{said}");
    let cut = world.refuses("{\"id\":\"bad\",\r\n  \"responder\": [", &[("", "not_json")]);
    assert!(cut.contains("line 2 column"), "{cut}");
    let deep = format!("{{\"id\":\"bad\",\"responder\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    assert!(world.refuses(&deep, &[("", "not_json")]).contains("line 1 column"));
    // A byte order mark and line ends of Windows are no damage.
    let good = format!("\u{feff}{}", template(&json!([{"type": "trim"}])).replace(',', ",\r\n"));
    drop(validated(&world, good.as_bytes()).ok());
    let wide: Vec<u8> =
        [0xfeff].into_iter().chain("{}".encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let large = vec![b' '; 100 * 1024 * 1024];
    for (document, says) in [(wide, "it is UTF-16"), (large, "[limit_exceeded]")] {
        let out = validated(&world, &document);
        assert_eq!(out.code(), 2, "{}", out.text());
        assert!(out.text().contains(says) && out.text().contains("read.json"), "{}", out.text());
    }
    // Of YAML there is a recording format only.
    let levels: String =
        (1..30).map(|nth| format!("  x{nth}: &a{nth} [*a{0}, *a{0}]\n", nth - 1)).collect();
    let bomb = format!("openapi: 3.0.0\ninfo:\n  x0: &a0 [a, a]\n{levels}paths: {{}}\n");
    let file = world.dir.path().join("bomb.yaml");
    fs::write(&file, bomb).unwrap();
    let out =
        world.cli(&["snapshot", "import", &file.to_string_lossy(), "--id", "bomb", "--strict"]);
    assert_eq!(out.code(), 2, "{}", out.text());
    assert!(out.text().contains("bomb.yaml"), "{}", out.text());
    assert!(
        out.text().contains("limit_exceeded") || out.text().contains("not_readable"),
        "{}",
        out.text()
    );
    drop(world.end().await);
}

#[tokio::test]
async fn t11_a_pause_that_is_none_is_refused_and_a_long_one_is_cut() {
    let world = World::serve(Vec::new()).await;
    for pause in ["10y", "-1s", "NaN", "", "1e9s", "999999999h"] {
        drop(refuses_setting(&world, "sleep", ("duration", pause), "wrong_type"));
    }
    // A minute is the most that an answer is held back: more helps nobody, and five would keep a connection from being closed when a node ends.
    let cut = validated(&world, step("sleep", json!({"duration": "365d"})).as_bytes()).ok();
    assert!(cut.text().contains("[delay_cut]") && cut.text().contains("60 s"), "{}", cut.text());
    drop(world.end().await);
}

#[tokio::test]
async fn t12_a_secret_that_is_not_there_yet_is_waited_for_and_told() {
    let world = World::serve(vec![Case::new("later", of_alg("HS256"), SECRET).without_key()]).await;
    world.unchanged("later", "secret_missing").await;
    let shown = world.cli(&["replay", "status", "all", "--output", "json"]).ok();
    let shown: Value = serde_json::from_str(&shown.stdout()).unwrap();
    let conditions = shown["conditions"].as_array().unwrap();
    let waiting = conditions.iter().find(|one| one["reason"] == "SecretUnresolved");
    let waiting = waiting.map(|one| one["message"].as_str().unwrap_or_default().to_owned());
    assert!(
        waiting.is_some_and(
            |told| told.contains("keys/later (") && told.ends_with("[secret_missing]) at r")
        ),
        "{shown:#}"
    );
    fs::write(world.keys().join("later"), SECRET).unwrap();
    drop(world.secret("later", None).await);
    wait_until("the secret is found", || async {
        verifies(&world.token("later").await, SECRET).then_some(())
    })
    .await;
    // A snapshot is another matter: a replay is a version of its content, of which nothing can be said before it is there.
    let absent = world.cli(&["replay", "start", "absent"]);
    assert_eq!(absent.code(), 3, "{}", absent.text());
    assert!(absent.text().contains("absent"), "{}", absent.text());
    drop(world.end().await);
}

#[tokio::test]
async fn t13_of_two_who_edit_the_same_version_one_is_told_of_the_other() {
    let world = World::serve(Vec::new()).await;
    let mut service = TransformServiceClient::connect(world.server.clone()).await.unwrap();
    let name = "projects/default/transforms/t";
    let read = GetTransformRequest { name: name.into() };
    let seen = service.get_transform(read.clone()).await.unwrap().into_inner();
    let edit = |new: &str| UpdateTransformRequest {
        transform: Some(Transform {
            name: name.into(),
            etag: seen.etag.clone(),
            template_json: step("constant", json!({"new": new})),
            ..Transform::default()
        }),
        ..UpdateTransformRequest::default()
    };
    let (mut one, mut two) = (service.clone(), service.clone());
    let (one, two) =
        tokio::join!(one.update_transform(edit("one")), two.update_transform(edit("two")));
    let (stored, refused) = match (one, two) {
        (Ok(stored), Err(refused)) | (Err(refused), Ok(stored)) => (stored.into_inner(), refused),
        both => panic!("one of two: {both:?}"),
    };
    assert_eq!(refused.code(), tonic::Code::Aborted, "{refused:?}");
    let told = refused.get_details_error_info().unwrap();
    assert_eq!(told.reason, "ETAG_MISMATCH");
    assert_eq!(
        (told.metadata["etag"].as_str(), told.metadata["name"].as_str()),
        (&*stored.etag, name)
    );
    let now = service.get_transform(read).await.unwrap().into_inner();
    assert_eq!((now.etag, now.template_json), (stored.etag, stored.template_json));
    drop(world.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn t14_a_template_that_one_node_refuses_leaves_all_on_the_last_good_one() {
    let world = World::serve(vec![Case::new("kept", of_alg("HS256"), SECRET)]).await;
    // It stands for a node of an earlier version, and is the first by name to be asked.
    let refuses = Arc::new(AtomicBool::new(true));
    let grpc = world.server.trim_start_matches("http://").parse().unwrap();
    let old = odd_one(grpc, "0", Arc::clone(&refuses)).await;
    wait_until("the other node is connected", || async {
        let listed = world.cli(&["responder", "list", "--output", "json"]).ok().stdout();
        (serde_json::from_str::<Value>(&listed).ok()?.as_array()?.len() == 2).then_some(())
    })
    .await;
    let file = world.dir.path().join("next.json");
    fs::write(&file, step("constant", json!({"new": "new"})).replace("bad", "t")).unwrap();
    drop(world.cli(&["transform", "put", &file.to_string_lossy()]).ok());
    let start = ["replay", "start", "all", "--transform", "t", "--wait"];
    let refused = world.cli(&start);
    assert_eq!(refused.code(), 1, "{}", refused.text());
    let shown = world.cli(&["replay", "status", "all", "--output", "json"]).ok();
    let shown: Value = serde_json::from_str(&shown.stdout()).unwrap();
    let message = shown["conditions"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("0: ") && message.contains("the version before goes on"),
        "{message}"
    );
    let nodes = shown["responders"].as_array().unwrap();
    let told = nodes.iter().find(|node| node["responder"] == "0").unwrap();
    assert_eq!(told["phase"], "REJECTED", "{told}");
    assert_eq!(told["diagnostics"][0]["fieldPath"], "responder[0]", "{told}");
    world.signed("kept", SECRET).await;
    old.abort();
    drop(world.end().await);
}
