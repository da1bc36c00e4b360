//! The gRPC API through its socket, with a stock client.

use std::net::SocketAddr;

use countersign_engine::snapshot::RrPair;
use countersign_proto::{
    responder::v1::{
        Answer, DrainRequest, DumpRequest, Failure, GetStatusRequest, JournalEntry,
        ListJournalRequest, ListSequencesRequest, MatchRequest, Miss, ResetRequest, RespondRequest,
        Sequence, SequenceSelector, admin_service_client::AdminServiceClient,
        respond_response::Outcome, responder_service_client::ResponderServiceClient,
    },
    snapshot::v1::{Header, HttpRequest},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

use super::{
    KEY, RECORDED, RESIGN, body, config, fake::ControlPlane, get as http_get, in_time, login, pair,
    serving,
};
use crate::app::{self, Running, StartError};

const LOCAL: &str = "127.0.0.1:0";

/// A request as a client describes it.
pub(super) fn get(path: &str) -> HttpRequest {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    HttpRequest {
        method: "GET".into(),
        path: path.into(),
        query: query.into(),
        host: "api.example".into(),
        ..HttpRequest::default()
    }
}

fn asking(path: &str) -> RespondRequest {
    RespondRequest { request: Some(get(path)), ..RespondRequest::default() }
}

struct Node {
    running: Running,
    addr: SocketAddr,
    _plane: ControlPlane,
    _stream: super::fake::Stream,
}

impl Node {
    async fn serving(pairs: Vec<RrPair>) -> Self {
        let listen = LOCAL.parse().unwrap();
        let (running, plane, stream) =
            serving(pairs, |config| config.api_listen = Some(listen)).await;
        let addr = running.api_addr().unwrap();
        Self { running, addr, _plane: plane, _stream: stream }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.addr)).unwrap();
        in_time(endpoint.connect()).await.unwrap()
    }

    async fn responder(&self) -> ResponderServiceClient<Channel> {
        ResponderServiceClient::new(self.channel().await)
    }

    async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    async fn ask(&self, path: &str) -> Outcome {
        let response = self.responder().await.respond(asking(path)).await.unwrap();
        response.into_inner().outcome.unwrap()
    }

    async fn answer(&self, path: &str) -> String {
        match self.ask(path).await {
            Outcome::Answer(Answer { body, .. }) => String::from_utf8(body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn sequences(&self, asked: ListSequencesRequest) -> Vec<Sequence> {
        self.admin().await.list_sequences(asked).await.unwrap().into_inner().sequences
    }
}

fn numbers() -> Vec<RrPair> {
    ["1", "2", "3"].map(|answer| pair("GET", "/n", answer)).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_as_the_http_listener_does() {
    let node = Node::serving(numbers()).await;
    assert_eq!(node.answer("/n").await, "1");
    assert_eq!(body(&http_get(node.running.data_addr(), "/n").await), "2", "the turns are shared");
    let Outcome::Answer(answer) = node.ask("/n").await else { panic!("no answer") };
    assert_eq!((answer.status, &*answer.body), (200, &b"3"[..]));
    let json = Header { name: "content-type".into(), value: "application/json".into() };
    assert_eq!(answer.headers, [json]);

    let Outcome::Miss(Miss { code, replay, near_miss_json }) = node.ask("/m").await else {
        panic!("no miss")
    };
    assert_eq!(
        (code.as_str(), replay.as_str()),
        ("no_recorded_response", "projects/default/replays/r")
    );
    assert!(near_miss_json.contains("/n"), "{near_miss_json}");
    let head = HttpRequest { method: "HEAD".into(), ..get("/n") };
    let head = RespondRequest { request: Some(head), ..RespondRequest::default() };
    let outcome = node.responder().await.respond(head).await.unwrap().into_inner().outcome;
    let Some(Outcome::Answer(answer)) = outcome else { panic!("HEAD is answered as GET is") };
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let none = HttpRequest { method: "HEAD".into(), ..get("/m") };
    let none = RespondRequest { request: Some(none), ..RespondRequest::default() };
    let outcome = node.responder().await.respond(none).await.unwrap().into_inner().outcome;
    assert!(matches!(outcome, Some(Outcome::Miss(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_signed_anew() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("demo")).unwrap();
    std::fs::write(secrets.path().join("demo/key"), KEY).unwrap();
    let mut plane = ControlPlane::start().await;
    let mut config = config(secrets.path(), Some(&plane));
    config.api_listen = Some(LOCAL.parse().unwrap());
    let running = app::start(config).await.unwrap();
    let mut stream = plane.accept().await;
    stream.welcome("store", 1).await;
    let addr = running.api_addr().unwrap();
    let node = Node { running, addr, _plane: plane, _stream: stream };
    let error = node.responder().await.respond(asking("/login")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.get_error_details().error_info().unwrap().reason, "NOTHING_TO_SERVE");
    assert!(error.get_error_details().retry_info().is_some());

    let Node { mut _stream, _plane, .. } = node;
    let bundle = _plane.put(vec![login()], Some(RESIGN));
    _stream.delta(1, 1, &[("r", bundle, 4)], &[], true).await;
    in_time(node.running.ready()).await;
    let node = Node { _plane, _stream, ..node };
    let answer = node.answer("/login").await;
    assert!(answer.contains("access_token") && !answer.contains(RECORDED), "{answer}");
    let dump = node.admin().await.dump(DumpRequest::default()).await.unwrap().into_inner();
    let replay = &dump.replays[0];
    assert_eq!((replay.pairs, replay.signatures, replay.tokens, replay.generation), (1, 1, 1, 4));
    assert!(replay.key_generation > 0 && replay.blobs == 6, "{replay:?}");
    assert!(replay.snapshot_manifest != replay.bundle && replay.snapshot_manifest.is_some());
    assert!(dump.keys[0].resolved, "{:?}", dump.keys);
    assert!(!format!("{dump:?}").contains(KEY), "no key material");
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_moves_nothing() {
    let node = Node::serving(numbers()).await;
    let mut client = node.responder().await;
    let explain = |path: &str| MatchRequest { request: Some(get(path)), replay: "r".into() };
    node.answer("/n").await;
    for _ in 0..2 {
        let matched = client.r#match(explain("/n")).await.unwrap().into_inner();
        assert_eq!(matched.replay, "projects/default/replays/r");
        let told = matched.explanation.unwrap();
        assert_eq!((told.recorded, told.candidates.len(), told.chosen), (3, 3, 1), "{told:?}");
        assert_eq!(told.identity, "nobody");
        assert!(told.signature.iter().any(|entry| entry.key == "http:url" && entry.value == "/n"));
        assert!(matched.edits.is_empty() && told.near_miss_json.is_empty());
    }
    let told = client.r#match(explain("/m")).await.unwrap().into_inner().explanation.unwrap();
    assert!(told.near_miss_json.contains("/n") && told.candidates.is_empty(), "{told:?}");
    assert_eq!(node.answer("/n").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_whatever_goes_wrong() {
    let node = Node::serving(numbers()).await;
    let request = |id: &str, path: &str, replay: &str| RespondRequest {
        request_id: id.into(),
        replay: replay.into(),
        ..asking(path)
    };
    let requests = [
        request("a", "/n", ""),
        request("b", "/nowhere", ""),
        request("c", "/n", "unknown"),
        request("d", "no path", ""),
        request("e", "/n", "projects/default/replays/r"),
    ];
    let mut client = node.responder().await;
    let answers = client.respond_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut told = Vec::new();
    while let Some(answer) = in_time(answers.message()).await.unwrap() {
        let what = match answer.outcome.unwrap() {
            Outcome::Answer(answer) => String::from_utf8(answer.body.to_vec()).unwrap(),
            Outcome::Miss(miss) => miss.code,
            Outcome::Failure(Failure { code, reason, .. }) => format!("{code} {reason}"),
        };
        told.push(format!("{} {what}", answer.request_id));
    }
    let expected = ["a 1", "b no_recorded_response", "c 5 REPLAY_NOT_SERVED", "d 3 INVALID", "e 2"];
    assert_eq!(told, expected);
    let error = client.respond(request("", "/n", "unknown")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.get_error_details().resource_info().unwrap().resource_name, "unknown");
    let error = client.respond(request("", "no path", "")).await.unwrap_err();
    let details = error.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request.path");
    assert_eq!(details.error_info().unwrap().domain, "countersign.dev");
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_listed_by_pages_and_begun_anew() {
    let pairs = ["/a", "/b", "/c"].map(|path| ["1", "2"].map(|answer| pair("GET", path, answer)));
    let node = Node::serving(pairs.concat()).await;
    let mut admin = node.admin().await;
    let page = |token: &str| ListSequencesRequest {
        page_size: 2,
        page_token: token.into(),
        ..ListSequencesRequest::default()
    };
    let first = admin.list_sequences(page("")).await.unwrap().into_inner();
    let paths = |page: &[Sequence]| page.iter().map(|list| list.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&first.sequences), ["/a", "/b"]);
    let second = admin.list_sequences(page(&first.next_page_token)).await.unwrap().into_inner();
    assert_eq!(
        (paths(&second.sequences), second.next_page_token.as_str()),
        (vec!["/c".into()], "")
    );
    for wrong in ["x", "0123456789abcdef-2"] {
        assert_eq!(
            admin.list_sequences(page(wrong)).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    for path in ["/a", "/b"] {
        assert_eq!(node.answer(path).await, "1");
    }
    let moved = || ListSequencesRequest { moved_only: true, ..ListSequencesRequest::default() };
    let lists = node.sequences(moved()).await;
    assert_eq!(paths(&lists), ["/a", "/b"]);
    assert_eq!((lists[0].answers, lists[0].taken, lists[0].next), (2, 1, 1));
    let only_a = SequenceSelector { path: "/a".into(), ..SequenceSelector::default() };
    let request = ResetRequest { selector: Some(only_a), replay: "r".into() };
    let reset = admin.reset(request).await.unwrap().into_inner();
    assert_eq!((reset.replays, reset.sequences), (vec!["projects/default/replays/r".into()], 1));
    assert_eq!([node.answer("/a").await, node.answer("/b").await], ["1", "2"]);
    admin.reset(ResetRequest::default()).await.unwrap();
    assert!(node.sequences(moved()).await.is_empty());
    let unknown = ResetRequest { replay: "unknown".into(), ..ResetRequest::default() };
    assert_eq!(admin.reset(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_became_of_the_last_requests() {
    let node = Node::serving(numbers()).await;
    node.answer("/n").await;
    node.ask("/nowhere").await;
    http_get(node.running.data_addr(), "/n").await;
    let mut admin = node.admin().await;
    let mut listed = async |outcome: &str, limit| {
        let request = ListJournalRequest {
            outcome: outcome.into(),
            limit,
            host: "api.example".into(),
            path: "/n".into(),
        };
        let told = admin.list_journal(request).await.map(tonic::Response::into_inner);
        told.map(|told| {
            let line =
                |entry: JournalEntry| format!("{} {} {}", entry.outcome, entry.status, entry.path);
            told.entries.into_iter().map(line).collect::<Vec<_>>()
        })
    };
    let all = listed("", 0).await.unwrap();
    assert_eq!(all, ["hit 200 /n", "miss 404 /nowhere", "hit 200 /n"], "both ways in");
    assert_eq!(listed("miss", 0).await.unwrap(), ["miss 404 /nowhere"]);
    assert_eq!(listed("", 1).await.unwrap(), ["hit 200 /n"]);
    for (outcome, limit) in [("lost", 0), ("", -1)] {
        assert_eq!(listed(outcome, limit).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_its_health_and_what_it_is() {
    let node = Node::serving(numbers()).await;
    let mut health = HealthClient::new(node.channel().await);
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("countersign.responder.v1.ResponderService", ServingStatus::Serving),
        ("countersign.responder.v1.AdminService", ServingStatus::Serving),
        ("replay:projects/default/replays/r", ServingStatus::Serving),
    ] {
        // What is told follows what is so.
        in_time(async {
            loop {
                let request = HealthCheckRequest { service: service.into() };
                if let Ok(told) = health.check(request).await
                    && told.into_inner().status() == expected
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asks = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("countersign.responder.v1.AdminService".into())),
    ];
    let mut reflection = ServerReflectionClient::new(node.channel().await);
    let told = reflection.server_reflection_info(tokio_stream::iter(asks)).await.unwrap();
    let mut told = told.into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        told.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let expected = [
        "countersign.responder.v1.AdminService",
        "countersign.responder.v1.ResponderService",
        "grpc.health.v1.Health",
    ];
    assert_eq!(names, expected);
    let file = told.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_how_it_is_and_ends_when_told_to() {
    let node = Node::serving(numbers()).await;
    let mut admin = node.admin().await;
    let status = admin.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.ready && status.connected && !status.draining, "{status:?}");
    assert_eq!(status.replays, ["projects/default/replays/r"]);
    assert_eq!((status.name.as_str(), status.pairs), ("r1", 3));

    // A stream that nobody ends is no reason to wait.
    let (requests, open) = tokio::sync::mpsc::channel(1);
    let mut client = node.responder().await;
    let open = tokio_stream::wrappers::ReceiverStream::new(open);
    let mut answers = client.respond_stream(open).await.unwrap().into_inner();
    requests.send(asking("/n")).await.unwrap();
    assert!(in_time(answers.message()).await.unwrap().is_some());

    admin.drain(DrainRequest {}).await.unwrap();
    in_time(node.running.asked_to_end()).await;
    in_time(node.running.shutdown()).await;
    assert!(in_time(answers.message()).await.unwrap().is_none(), "the stream ends well");
    assert!(admin.get_status(GetStatusRequest {}).await.is_err());
}

#[tokio::test]
async fn stays_on_loopback_unless_allowed() {
    let secrets = tempfile::tempdir().unwrap();
    let mut config = config(secrets.path(), None);
    config.api_listen = Some("0.0.0.0:0".parse().unwrap());
    let error = app::start(config.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::InsecureApi(_)) && error.is_usage(), "{error}");
    config.allow_insecure = true;
    assert!(app::start(config).await.unwrap().api_addr().is_some());
}
