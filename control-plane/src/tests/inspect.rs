//! Previews of templates and explanations of requests.

use countersign_proto::{
    control::v1::{
        ExplainRequestRequest, PreviewTransformRequest, RecordRef,
        inspect_service_client::InspectServiceClient,
        preview_transform_request::{Pair, Template},
    },
    snapshot::v1::HttpRequest,
};
use tonic::Code;

use super::{PROJECT, assert_refused, pair, server};

const TEMPLATE: &str = r#"{"id":"t","responder":[{"extractor":{"type":"res_body"},"transforms":[{"type":"constant","config":{"new":"x"}}]},{"extractor":{"type":"http_url","config":{"index":"1"}},"transforms":[{"type":"constant","config":{"new":"*"}}]}]}"#;

fn preview(pair: Pair) -> PreviewTransformRequest {
    PreviewTransformRequest {
        parent: PROJECT.into(),
        template: Some(Template::TemplateJson(TEMPLATE.into())),
        pair: Some(pair),
    }
}

fn record(ordinal: u64) -> Pair {
    let snapshot = format!("{PROJECT}/snapshots/s");
    Pair::Record(RecordRef { snapshot, ordinal, ..RecordRef::default() })
}

#[tokio::test]
async fn a_preview_shows_each_step_on_a_stored_pair_or_a_file() {
    let server = server().await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a"))]).await;
    let mut client = InspectServiceClient::new(server.channel());
    for source in [record(0), Pair::Rrpair(pair("OUT", "/a").into())] {
        let shown = client.preview_transform(preview(source)).await.unwrap().into_inner();
        let kinds: Vec<_> = shown
            .chains
            .iter()
            .map(|chain| (chain.path.as_str(), chain.on_request, chain.steps.len()))
            .collect();
        assert_eq!(kinds, [("responder[1]", true, 1), ("responder[0]", false, 1)]);
        assert_eq!(shown.chains[0].steps[0].given, "a");
        assert_eq!(shown.after.unwrap().response.unwrap().body, "x");
        assert!(shown.signature.iter().any(|entry| entry.key == "http:url" && entry.value == "/*"));
    }
    assert_refused(
        client.preview_transform(preview(record(9))).await,
        Code::InvalidArgument,
        "NOT_FOUND",
    );
    assert_refused(
        client.preview_transform(preview(Pair::Rrpair("{".into()))).await,
        Code::InvalidArgument,
        "NO_PAIR",
    );
}

#[tokio::test]
async fn an_explanation_names_the_pairs_that_could_answer() {
    let server = server().await;
    server.import("s", &[("a.jsonl", pair("OUT", "/a") + &pair("OUT", "/b"))]).await;
    let mut client = InspectServiceClient::new(server.channel());
    let mut explain = async |path: &str| {
        let request = HttpRequest { method: "GET".into(), path: path.into(), ..Default::default() };
        let request = ExplainRequestRequest {
            parent: PROJECT.into(),
            snapshot: format!("{PROJECT}/snapshots/s"),
            request: Some(request),
            ..Default::default()
        };
        client.explain_request(request).await.map(|told| told.into_inner().explanation.unwrap())
    };
    let hit = explain("/b").await.unwrap();
    assert_eq!((hit.candidates.len(), hit.candidates[0].ordinal), (1, 1));
    let miss = explain("/c").await.unwrap();
    assert!(miss.candidates.is_empty() && miss.near_miss_json.contains("/b"), "{miss:?}");
}
