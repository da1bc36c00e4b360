//! Recorded traffic page by page, and uploads one call at a time.

use countersign_proto::control::v1::{
    AppendPiecesRequest, DescribeTransformsRequest, GetControlPlaneRequest, GetPairRequest,
    ListPairsRequest, ListPairsResponse, SummarizeTrafficRequest, UploadPiece,
    console_service_client::ConsoleServiceClient, traffic_service_client::TrafficServiceClient,
};
use tonic::{Code, transport::Channel};

use super::{PROJECT, Server, assert_refused, pair, server};

// {"alg":"HS256"} . {"sub":"a"} . a JWS signature
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";

impl Server {
    fn traffic(&self) -> TrafficServiceClient<Channel> {
        TrafficServiceClient::new(self.channel())
    }

    async fn list(&self, request: ListPairsRequest) -> Result<ListPairsResponse, tonic::Status> {
        let request = ListPairsRequest { parent: format!("{PROJECT}/snapshots/s"), ..request };
        Ok(self.traffic().list_pairs(request).await?.into_inner())
    }
}

/// `many` pairs of three endpoints, which lie in other order than they were recorded.
async fn recorded(many: usize) -> Server {
    let server = server().await;
    let lines = (0..many).map(|n| pair("OUT", &format!("/{}/{n}", ["c", "a", "b"][n % 3])));
    server.import("s", &[("a.jsonl", lines.collect())]).await;
    server
}

fn paths(page: &ListPairsResponse) -> Vec<&str> {
    page.pairs.iter().map(|row| row.path.as_str()).collect()
}

#[tokio::test]
async fn pairs_come_in_recorded_order_from_any_position() {
    let server = recorded(10).await;
    let page = ListPairsRequest { page_size: 4, start_ordinal: 3, ..ListPairsRequest::default() };
    let first = server.list(page.clone()).await.unwrap();
    assert_eq!(paths(&first), ["/c/3", "/a/4", "/b/5", "/c/6"]);
    assert_eq!((first.total_pairs, first.scanned_pairs), (10, 7));
    let row = &first.pairs[0];
    assert_eq!((row.method.as_str(), row.host.as_str(), row.status), ("GET", "demo", 200));
    let next =
        ListPairsRequest { page_token: first.next_page_token, page_size: 4, ..Default::default() };
    let last = server.list(next).await.unwrap();
    assert_eq!(paths(&last), ["/a/7", "/b/8", "/c/9"]);
    assert_eq!(last.next_page_token, "");
    let beyond = ListPairsRequest { start_ordinal: u64::MAX, ..page };
    assert!(server.list(beyond).await.unwrap().pairs.is_empty());
}

#[tokio::test]
async fn a_filter_finds_all_that_it_selects_page_by_page() {
    let server = recorded(300).await;
    let filter = r#"(location CONTAINS "/b/")"#.to_owned();
    let mut request = ListPairsRequest { page_size: 7, filter, ..ListPairsRequest::default() };
    let mut found = Vec::new();
    let mut scanned = 0;
    loop {
        let page = server.list(request.clone()).await.unwrap();
        assert!(page.pairs.len() <= 7 && page.scanned_pairs >= scanned);
        scanned = page.scanned_pairs;
        found.extend(page.pairs.into_iter().map(|row| row.ordinal));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    found.sort_unstable();
    let expected: Vec<u64> = (0..300).filter(|n| n % 3 == 2).collect();
    assert_eq!((found, scanned), (expected, 300));
}

#[tokio::test]
async fn lists_refuse_what_they_cannot_mean() {
    let server = recorded(10).await;
    let filtered = |filter: &str| ListPairsRequest { filter: filter.into(), ..Default::default() };
    let status = assert_refused(
        server.list(filtered("(nonsense")).await,
        Code::InvalidArgument,
        "INVALID_FILTER",
    );
    assert!(status.message().contains("the filter"), "{status}");
    let deep = format!("(location REGEX \"{}\")", "(a*)*".repeat(200_000));
    server.list(filtered(&deep)).await.unwrap_err();
    let huge = ListPairsRequest { page_size: i32::MAX, ..Default::default() };
    assert_eq!(server.list(huge).await.unwrap().pairs.len(), 10);
    let negative = ListPairsRequest { page_size: -1, ..Default::default() };
    assert_refused(server.list(negative).await, Code::InvalidArgument, "INVALID_PAGE_SIZE");
    // A token belongs to its filter.
    let page = ListPairsRequest { page_size: 1, ..Default::default() };
    let token = server.list(page).await.unwrap().next_page_token;
    let other = ListPairsRequest { page_token: token, ..filtered("(status IS \"200\")") };
    assert_refused(server.list(other).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
}

#[tokio::test]
async fn a_pair_comes_with_its_tokens_and_without_their_signatures() {
    let server = server().await;
    let line = pair("OUT", "/login").replace(
        r#""headers":{}},"res""#,
        &format!(r#""headers":{{"Authorization":["Bearer {TOKEN}"]}}}},"res""#),
    );
    server.import("s", &[("a.jsonl", line)]).await;
    let get = |ordinal| GetPairRequest { snapshot: format!("{PROJECT}/snapshots/s"), ordinal };
    let found = server.traffic().get_pair(get(0)).await.unwrap().into_inner();
    let token = &found.tokens[0];
    assert_eq!(
        (
            token.in_request,
            token.place.as_str(),
            token.header_json.as_str(),
            token.claims_json.as_str()
        ),
        (true, "header authorization Bearer", r#"{"alg":"HS256"}"#, r#"{"sub":"a"}"#)
    );
    assert!(found.signature.iter().any(|entry| entry.key == "http:url"));
    assert!(!format!("{found:?}").contains("c2VjcmV0"), "{found:?}");
    let absent = server.traffic().get_pair(get(7)).await;
    assert_eq!(absent.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn traffic_is_summed_up() {
    let server = recorded(10).await;
    let request = SummarizeTrafficRequest { name: format!("{PROJECT}/snapshots/s") };
    for _ in 0..2 {
        let summary = server.traffic().summarize_traffic(request.clone()).await.unwrap();
        let summary = summary.into_inner();
        let endpoints: Vec<(&str, u64)> =
            summary.endpoints.iter().map(|one| (one.route.as_str(), one.count)).collect();
        assert_eq!(endpoints, [("/c/{id}", 4), ("/a/{id}", 3), ("/b/{id}", 3)]);
        assert_eq!((summary.pair_count, summary.endpoints_left_out), (10, 0));
        assert_eq!((summary.statuses[0].value.as_str(), summary.statuses[0].count), ("200", 10));
    }
}

#[tokio::test]
async fn an_upload_in_calls_is_the_same_as_one_in_a_stream() {
    let server = server().await;
    let snapshot = server.create_snapshot("s").await;
    let text = pair("OUT", "/a") + &pair("OUT", "/b");
    let (head, tail) = text.split_at(text.len() / 2);
    let piece = |sequence: u64, data: &str| UploadPiece {
        sequence,
        path: "a.jsonl".into(),
        data: data.to_owned().into(),
    };
    let append = |pieces: Vec<UploadPiece>| AppendPiecesRequest {
        name: snapshot.name.clone(),
        upload_id: "u".into(),
        pieces,
    };
    let mut traffic = server.traffic();
    let gap = traffic.append_pieces(append(vec![piece(2, tail)])).await;
    assert_refused(gap, Code::OutOfRange, "UPLOAD_GAP");
    // Sending a piece again does no harm.
    for pieces in [vec![piece(1, head)], vec![piece(1, head), piece(2, tail)]] {
        let last = pieces.len();
        let answer = traffic.append_pieces(append(pieces)).await.unwrap().into_inner();
        assert_eq!(answer.committed_sequence, u64::try_from(last).unwrap());
    }
    let committed = server.commit(&snapshot.name, "u", true).await.unwrap();
    assert_eq!(committed.pair_count, 2);
    let late = traffic.append_pieces(append(vec![piece(3, tail)])).await;
    assert_refused(late, Code::FailedPrecondition, "SNAPSHOT_COMMITTED");
    let nameless = AppendPiecesRequest { upload_id: String::new(), ..append(Vec::new()) };
    let refused = traffic.append_pieces(nameless).await;
    assert_refused(refused, Code::InvalidArgument, "INVALID_UPLOAD_ID");
}

#[tokio::test]
async fn the_console_knows_the_steps_and_the_stores() {
    let server = server().await;
    let mut console = ConsoleServiceClient::new(server.channel());
    let described =
        console.describe_transforms(DescribeTransformsRequest {}).await.unwrap().into_inner();
    let resign = described.steps.iter().find(|step| step.name == "jwt_resign").unwrap();
    let secret = &resign.fields[0];
    assert_eq!(
        (secret.name.as_str(), secret.kind.as_str(), secret.required),
        ("secretPath", "secret", true)
    );
    assert!(
        described.extractors.iter().any(|one| one.name == "res_body" && one.side == "response")
    );
    let plane = console.get_control_plane(GetControlPlaneRequest {}).await.unwrap().into_inner();
    assert_eq!((plane.records.as_str(), plane.blobs.as_str()), ("sqlite", "files"));
    assert!(!plane.version.is_empty() && !plane.store.is_empty());
}
