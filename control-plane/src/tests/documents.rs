//! Transforms and test configs.

use countersign_engine::{
    snapshot::{digest::Digest, wire::encode_digest},
    test_config::TestConfig as Parsed,
};
use countersign_proto::{
    control::v1::{
        CloneTestConfigRequest, CommitSnapshotManifestRequest, CommitSnapshotRequest,
        CreateTestConfigRequest, CreateTransformRequest, DeleteTestConfigRequest,
        DeleteTransformRequest, GetTestConfigRequest, GetTransformRequest, ListTestConfigsRequest,
        TestConfig, UpdateTestConfigRequest, UpdateTransformRequest, ValidateTransformRequest,
    },
    transform::v1::Transform,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{PROJECT, assert_refused, pair, pieces, server};

const TEMPLATE: &str = r#"{"id":"mine","generator":[],"responder":[]}"#;
const BROKEN: &str = r#"{"id":"t","responder":[{"extractor":{"type":"http_res_body"},"transforms":[{"type":"json_path","config":{"path":"a"}},{"type":"jwt_resign","config":{"iss":"x"}}]},{"extractor":{"type":"http_res_body"},"transforms":[{"type":"jwt_resign","config":{"iss":"x"}}]}]}"#;

fn create(json: &str, id: &str) -> CreateTransformRequest {
    let transform = Some(Transform { template_json: json.into(), ..Default::default() });
    CreateTransformRequest {
        parent: PROJECT.into(),
        transform_id: id.into(),
        transform,
        validate_only: false,
    }
}

#[tokio::test]
async fn a_template_is_stored_as_written_under_its_own_id() {
    let server = server().await;
    let stored =
        server.transforms().create_transform(create(TEMPLATE, "")).await.unwrap().into_inner();
    assert_eq!(
        (stored.name.as_str(), stored.template_json.as_str()),
        ("projects/default/transforms/mine", TEMPLATE)
    );
    let server = server.restart().await;
    let get = GetTransformRequest { name: stored.name.clone() };
    assert_eq!(server.transforms().get_transform(get).await.unwrap().into_inner(), stored);
    assert_refused(
        server.transforms().create_transform(create(TEMPLATE, "")).await,
        Code::AlreadyExists,
        "ALREADY_EXISTS",
    );
    assert_refused(
        server.transforms().create_transform(create(r#"{"id":"a b"}"#, "")).await,
        Code::InvalidArgument,
        "INVALID_ID",
    );
}

#[tokio::test]
async fn a_broken_template_is_refused_with_every_finding() {
    let server = server().await;
    let refused = assert_refused(
        server.transforms().create_transform(create(BROKEN, "t")).await,
        Code::InvalidArgument,
        "INVALID_TEMPLATE",
    );
    let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
    for path in ["responder[0].transforms[1]", "responder[1].transforms[0]"] {
        let found = violations
            .iter()
            .find(|v| v.field.starts_with(path))
            .unwrap_or_else(|| panic!("{path}: {violations:?}"));
        assert!(found.description.contains("re-signing jwts is required"), "{found:?}");
    }
    assert_refused(
        server.transforms().create_transform(create("{", "t")).await,
        Code::InvalidArgument,
        "INVALID_TEMPLATE",
    );
    let get = GetTransformRequest { name: format!("{PROJECT}/transforms/t") };
    assert_refused(
        server.transforms().get_transform(get).await,
        Code::NotFound,
        "TRANSFORM_NOT_FOUND",
    );
}

#[tokio::test]
async fn validation_stores_nothing_and_tells_everything() {
    let server = server().await;
    let validate = |template_json: &str, snapshot: &str| {
        let request = ValidateTransformRequest {
            parent: PROJECT.into(),
            template_json: template_json.into(),
            snapshot: snapshot.into(),
        };
        let mut client = server.transforms();
        async move {
            client.validate_transform(request).await.map(|answer| answer.into_inner().diagnostics)
        }
    };
    assert_eq!(validate(TEMPLATE, "").await.unwrap(), []);
    assert!(
        validate(BROKEN, "")
            .await
            .unwrap()
            .iter()
            .filter(|found| found.code == "missing_key")
            .count()
            >= 2
    );
    for inline in [
        r#"{"id":"k","note":"-----BEGIN PRIVATE KEY-----"}"#,
        r#"{"id":"k","note":"{\"d\":\"AA\",\"kty\":\"OKP\"}"}"#,
    ] {
        let found = validate(inline, "").await.unwrap();
        assert!(found.iter().any(|found| found.code == "private_key_in_template"), "{inline}");
    }
    let snapshot = format!("{PROJECT}/snapshots/s");
    assert_refused(validate(TEMPLATE, &snapshot).await, Code::NotFound, "SNAPSHOT_NOT_FOUND");
    server.create_snapshot("s").await;
    assert_refused(
        validate(TEMPLATE, &snapshot).await,
        Code::FailedPrecondition,
        "SNAPSHOT_NOT_READY",
    );
    server.import("r", &[("a.jsonl", pair("OUT", "/a"))]).await;
    validate(TEMPLATE, &format!("{PROJECT}/snapshots/r")).await.unwrap();
}

#[tokio::test]
async fn updates_need_the_current_etag_when_one_is_given() {
    let server = server().await;
    let update = |etag: &str, id: &str, allow_missing, validate_only| {
        let name = format!("{PROJECT}/transforms/{id}");
        let transform = Some(Transform {
            name,
            template_json: TEMPLATE.into(),
            etag: etag.into(),
            ..Default::default()
        });
        let mut client = server.transforms();
        async move {
            let request = UpdateTransformRequest { transform, allow_missing, validate_only };
            client.update_transform(request).await.map(tonic::Response::into_inner)
        }
    };
    assert_refused(update("", "t", false, false).await, Code::NotFound, "TRANSFORM_NOT_FOUND");
    update("", "t", true, true).await.unwrap();
    assert_refused(update("", "t", false, true).await, Code::NotFound, "TRANSFORM_NOT_FOUND");
    let first = update("", "t", true, false).await.unwrap();
    let second = update(&first.etag, "t", false, false).await.unwrap();
    let lost = assert_refused(
        update(&first.etag, "t", false, false).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    assert_eq!(lost.get_error_details().error_info().unwrap().metadata["etag"], second.etag);
    assert_eq!((first.create_time, first.etag == second.etag), (second.create_time, false));
    let delete =
        |etag: &str| DeleteTransformRequest { name: first.name.clone(), etag: etag.into() };
    assert_refused(
        server.transforms().delete_transform(delete(&first.etag)).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    server.transforms().delete_transform(delete(&second.etag)).await.unwrap();
}

#[tokio::test]
async fn standard_is_everywhere_and_cannot_be_changed() {
    let server = server().await;
    for project in [PROJECT, "projects/other"] {
        let name = format!("{project}/testConfigs/standard");
        let standard = server
            .test_configs()
            .get_test_config(GetTestConfigRequest { name: name.clone() })
            .await
            .unwrap()
            .into_inner();
        assert!(standard.protected && standard.config_json == Parsed::STANDARD);
        let update = UpdateTestConfigRequest {
            test_config: Some(standard.clone()),
            allow_missing: true,
            validate_only: false,
        };
        let refused = server.test_configs().update_test_config(update).await;
        let refused = assert_refused(refused, Code::FailedPrecondition, "TEST_CONFIG_PROTECTED");
        assert!(refused.message().contains("clone"), "{}", refused.message());
        assert!(refused.get_error_details().precondition_failure().is_some());
        let delete = DeleteTestConfigRequest { name, etag: String::new() };
        assert_refused(
            server.test_configs().delete_test_config(delete).await,
            Code::FailedPrecondition,
            "TEST_CONFIG_PROTECTED",
        );
        let create = CreateTestConfigRequest {
            parent: project.into(),
            test_config: Some(standard),
            ..Default::default()
        };
        assert_refused(
            server.test_configs().create_test_config(create).await,
            Code::AlreadyExists,
            "ALREADY_EXISTS",
        );
    }
}

#[tokio::test]
async fn a_clone_can_be_changed_and_pages_hold_the_built_in_one() {
    let server = server().await;
    let source = format!("{PROJECT}/testConfigs/standard");
    for id in ["zz", "a", "standard2"] {
        let clone = CloneTestConfigRequest { name: source.clone(), test_config_id: id.into() };
        let copy = server.test_configs().clone_test_config(clone).await.unwrap().into_inner();
        let parsed = Parsed::parse(copy.config_json.as_bytes()).unwrap();
        assert_eq!((parsed.id(), parsed.protected(), copy.protected), (id, false, false));
        let update = UpdateTestConfigRequest {
            test_config: Some(TestConfig { ..copy }),
            ..Default::default()
        };
        server.test_configs().update_test_config(update).await.unwrap();
    }
    for page_size in 1..6 {
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListTestConfigsRequest { parent: PROJECT.into(), page_size, page_token };
            let page = server.test_configs().list_test_configs(request).await.unwrap().into_inner();
            names.extend(
                page.test_configs
                    .into_iter()
                    .map(|config| config.name.rsplit('/').next().unwrap().to_owned()),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["a", "standard", "standard2", "zz"], "pages of {page_size}");
    }
    let broken = TestConfig { config_json: "[]".into(), ..Default::default() };
    let create = CreateTestConfigRequest {
        parent: PROJECT.into(),
        test_config_id: "b".into(),
        test_config: Some(broken),
        validate_only: true,
    };
    assert_refused(
        server.test_configs().create_test_config(create).await,
        Code::InvalidArgument,
        "INVALID_TEST_CONFIG",
    );
}

#[tokio::test]
async fn a_key_in_a_template_is_shown_by_no_way_of_writing_it() {
    let server = server().await;
    let with = |steps: &str| {
        format!(
            r#"{{"id":"k","responder":[{{"extractor":{{"type":"http_res_body"}},"transforms":[{steps}]}}]}}"#
        )
    };
    let plain =
        with(r#"{"type":"jwt_resign","config":{"key":"hush-hush-hush-hush-hush-hush-hush"}}"#);
    let marked = format!("\u{feff}{plain}");
    let stored =
        server.transforms().create_transform(create(&marked, "")).await.unwrap().into_inner();
    assert!(!stored.template_json.contains("hush"), "{}", stored.template_json);
    assert!(stored.template_json.starts_with('{'));
    // Nor can it be guessed from its digest.
    let other = plain.replace("hush", "hash");
    let other = server.transforms().create_transform(create(&other, "o")).await.unwrap();
    assert_eq!(other.into_inner().digest, stored.digest);

    let update = |json: String| {
        let transform =
            Transform { name: stored.name.clone(), template_json: json, ..Default::default() };
        let request = UpdateTransformRequest { transform: Some(transform), ..Default::default() };
        let mut client = server.transforms();
        async move { client.update_transform(request).await.map(tonic::Response::into_inner) }
    };
    let two = with(r#"{"type":"store_sig","TYPE":"jwt_resign","config":{"key":"(redacted)"}}"#);
    assert_refused(update(two).await, Code::InvalidArgument, "DOUBLED_MEMBER");
    let kept = update(format!("\u{feff}{}", stored.template_json)).await.unwrap();
    assert_eq!(kept.template_json, stored.template_json);
    let deep = format!(r#"{{"id":"k","note":{}1{}}}"#, "[".repeat(127), "]".repeat(127));
    let refused = update(deep).await;
    assert!(refused.is_err() || refused.is_ok_and(|t| !t.template_json.contains("hush")));
}

#[tokio::test]
async fn a_snapshot_takes_no_transform_of_another_project() {
    let server = server().await;
    let elsewhere =
        CreateTransformRequest { parent: "projects/other".into(), ..create(TEMPLATE, "") };
    let foreign = server.transforms().create_transform(elsewhere).await.unwrap().into_inner().name;
    let name = server.create_snapshot("s").await.name;
    let files = [("a.jsonl", pair("OUT", "/a"))];
    server.upload(&name, "u", pieces(&files)).await.unwrap();
    let request = CommitSnapshotRequest {
        name: name.clone(),
        upload_id: "u".into(),
        default_transform: foreign.clone(),
        ..Default::default()
    };
    for request in [
        request.clone(),
        CommitSnapshotRequest { strip_signatures: true, ..request.clone() },
        CommitSnapshotRequest { transform: format!("{PROJECT}/transforms/mine"), ..request },
    ] {
        let refused = server.commit_as(request).await;
        assert_refused(refused, Code::InvalidArgument, "WRONG_PROJECT");
    }
    let request = CommitSnapshotManifestRequest {
        name,
        manifest: Some(encode_digest(&Digest::of(b"x"))),
        default_transform: foreign,
    };
    let mut events = server.snapshots().commit_snapshot_manifest(request).await.unwrap();
    let refused = events.get_mut().message().await;
    assert_refused(refused, Code::InvalidArgument, "WRONG_PROJECT");
}
