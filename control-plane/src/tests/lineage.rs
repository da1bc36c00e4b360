//! Token lineage and suggested templates.

use countersign_engine::transform::Template;
use countersign_proto::control::v1::{
    AnalyzeTokensRequest, SuggestTransformRequest, SuggestTransformResponse, TokenForm, TokenOrigin,
};
use serde_json::json;
use tonic::{Code, Status};

use super::{PROJECT, Server, assert_refused, server};

/// `{"alg":"HS256"}`, `{"sub":"u"}` and something that is no JWS signature.
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.bm90IHNpZ25lZA";

/// A pair that issues the token and one that presents it, in this order, whatever the order in the store.
fn recording() -> String {
    let pair = |second: u32, path: &str, headers: serde_json::Value, body: &str| {
        json!({
            "msgType": "rrpair", "ts": format!("2024-01-02T03:04:0{second}Z"), "l7protocol": "http", "direction": "OUT",
            "command": "POST", "location": path, "status": "200",
            "http": {
                "req": {"url": path, "uri": path, "version": "1.1", "method": "POST", "host": "api.example", "headers": headers},
                "res": {"statusCode": 200, "headers": {"Content-Type": ["application/json"]}, "body": body}
            }
        })
        .to_string()
            + "\n"
    };
    let bearer = json!({"Authorization": [format!("Bearer {JWT}")]});
    pair(
        1,
        "/z/login",
        json!({}),
        &json!({"access_token": JWT, "app": "com.example.app"}).to_string(),
    ) + &pair(2, "/a/use", bearer, "{}")
}

async fn suggest(
    server: &Server,
    snapshot: &str,
    transform_id: &str,
    secret: &str,
) -> Result<SuggestTransformResponse, Status> {
    let request = SuggestTransformRequest {
        parent: PROJECT.into(),
        snapshot: snapshot.into(),
        transform_id: transform_id.into(),
        secret: secret.into(),
    };
    Ok(server.transforms().suggest_transform(request).await?.into_inner())
}

#[tokio::test]
async fn tokens_are_traced_from_issue_to_use() {
    let server = server().await;
    let snapshot = server.import("s", &[("a.jsonl", recording())]).await;
    let request = AnalyzeTokensRequest { name: snapshot.name };
    let report = server.snapshots().analyze_tokens(request).await.unwrap().into_inner();
    let report = report.report.unwrap();
    assert_eq!((report.pair_count, report.token_count), (2, 1));
    let [family] = report.families.as_slice() else { panic!("{report:?}") };
    assert_eq!((family.form(), family.origin()), (TokenForm::Jws, TokenOrigin::Issued));
    assert_eq!((family.alg.as_str(), family.use_count, family.never_used_count), ("HS256", 1, 0));
    let place = |at: &countersign_proto::control::v1::TokenSighting| {
        format!("{} {}", at.endpoint.as_ref().unwrap().route, at.place)
    };
    assert_eq!(place(&family.issued[0]), "/z/login body access_token");
    assert_eq!(place(&family.used[0]), "/a/use header authorization Bearer");
    assert_eq!(report.false_friends[0].shown, "com.example.app");
    assert!(!format!("{report:?}").contains("bm90IHNpZ25lZA"));
}

#[tokio::test]
async fn a_suggested_template_is_accepted_as_it_is() {
    let server = server().await;
    let snapshot = server.import("s", &[("a.jsonl", recording())]).await;
    let suggested = suggest(&server, &snapshot.name, "", "jwt-demo/tls.key").await.unwrap();
    assert_eq!(suggested.resigned_count, 1);
    let secret = suggested.secrets[0].secret.as_ref().unwrap();
    assert_eq!((secret.secret.as_str(), secret.key.as_str()), ("jwt-demo", "tls.key"));
    let (template, found) = Template::parse(suggested.template_json.as_bytes());
    assert_eq!((template.id(), found.as_slice()), ("s", [].as_slice()));
    let again = suggest(&server, &snapshot.name, "", "jwt-demo/tls.key").await.unwrap();
    assert_eq!(again, suggested, "the same snapshot, the same template");
}

#[tokio::test]
async fn what_cannot_be_analysed_is_refused() {
    let server = server().await;
    let open = server.create_snapshot("open").await;
    let request = AnalyzeTokensRequest { name: open.name.clone() };
    assert_refused(
        server.snapshots().analyze_tokens(request).await,
        Code::FailedPrecondition,
        "SNAPSHOT_NOT_READY",
    );
    let missing = format!("{PROJECT}/snapshots/none");
    assert_refused(suggest(&server, &missing, "", "").await, Code::NotFound, "SNAPSHOT_NOT_FOUND");
    assert_refused(
        suggest(&server, &open.name, "a b", "").await,
        Code::InvalidArgument,
        "INVALID_ID",
    );
    assert_refused(
        suggest(&server, &open.name, "", "../x").await,
        Code::InvalidArgument,
        "INVALID_SECRET",
    );
    assert_refused(
        suggest(&server, "projects/other/snapshots/s", "", "").await,
        Code::InvalidArgument,
        "WRONG_PROJECT",
    );
}
