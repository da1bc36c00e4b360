//! Callers with tokens: every method as every role over real gRPC, two tenants who know each other's names, and what the audit log says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    marker::PhantomData,
};

use bytes::{Buf as _, BufMut as _};
use countersign_proto::{
    FILE_DESCRIPTOR_SET,
    control::v1::{
        CreateReplayRequest, CreateSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest,
        Replay, Snapshot, replay_service_client::ReplayServiceClient,
        snapshot_service_client::SnapshotServiceClient,
    },
    discovery::v1::{Hello, SubscribeRequest, subscribe_request::Message as Said},
};
use countersign_tls::bearer::Bearer;
use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    service::{Interceptor as _, interceptor::InterceptedService},
    transport::Channel,
};

use super::{Server, assert_refused, config, with_config};
use crate::{
    app::{self, StartError},
    auth::{Settings, attempts, token::TokenHash, users},
    config::Config,
};

/// Who there is: their token, role and project.
const CALLERS: [(&str, &str, &str); 7] = [
    ("cst_viewer", "viewer", "shop"),
    ("cst_editor", "editor", "shop"),
    ("cst_operator", "operator", "shop"),
    ("cst_admin", "admin", "*"),
    ("cst_responder", "responder", "shop"),
    ("cst_stranger", "operator", "web"),
    ("cst_reader", "viewer", "*"),
];

fn with_users(dir: &TempDir) -> Config {
    let line = |(token, role, project): (&str, &str, &str)| {
        let name = token.strip_prefix("cst_").unwrap();
        users::line(name, role, project, TokenHash::of(token), None).unwrap()
    };
    let path = dir.path().join("users");
    fs::write(&path, CALLERS.map(line).join("\n")).unwrap();
    let auth = Settings { users: Some(path), oidc: None };
    let audit_log = Some(dir.path().join("audit"));
    Config { auth, audit_log, ..config(dir) }
}

async fn world() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = with_users(&dir);
    with_config(dir, config).await
}

/// Messages as they are, without a meaning.
#[derive(Debug, Clone, Copy, Default)]
struct Raw(PhantomData<()>);

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let all = from.copy_to_bytes(from.remaining());
        Ok(Some(all.to_vec()))
    }
}

/// Calls a method with one message and waits for the end of the answer.
async fn call(channel: &Channel, token: Option<&str>, path: &str, message: Vec<u8>) -> Code {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut bearer = token.map_or_else(Bearer::default, |token| Bearer::new(token).unwrap());
    let request = bearer.call(Request::new(())).unwrap().map(|()| tokio_stream::iter([message]));
    let answered = grpc.streaming(request, path.parse().unwrap(), Raw::default()).await;
    let mut answers = match answered {
        Ok(answer) => answer.into_inner(),
        Err(status) => return status.code(),
    };
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Code::Ok,
            Err(status) => return status.code(),
        }
    }
}

/// A message with one field that holds a text, or another such message.
fn with_field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut message);
    message
}

/// Each method of this plane with a message about something in a project, as its description has it.
fn methods(project: &str) -> BTreeMap<String, Vec<u8>> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let types: BTreeMap<String, _> = set
        .file
        .iter()
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.message_type.iter().map(move |m| (format!(".{package}.{}", m.name()), m.clone()))
        })
        .collect();
    let mut methods = BTreeMap::new();
    for file in &set.file {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            if full.starts_with("countersign.responder.") {
                continue;
            }
            let collection = match service.name() {
                "TransformService" => "transforms",
                "TestConfigService" => "testConfigs",
                "ReplayService" | "ReportService" => "replays",
                _ => "snapshots",
            };
            for method in &service.method {
                let input = &types[method.input_type()];
                let name = format!("projects/{project}/{collection}/x");
                let message = match input.field.first() {
                    None => Vec::new(),
                    Some(field) if field.r#type() == Type::Message => {
                        with_field(1, &with_field(1, name.as_bytes()))
                    }
                    // Users read snapshots, which are named by the third field.
                    Some(field) if field.name() == "replay" => with_field(3, name.as_bytes()),
                    Some(field)
                        if field.name() == "parent"
                            && !["ListRecords", "ListPairs"].contains(&method.name()) =>
                    {
                        with_field(1, format!("projects/{project}").as_bytes())
                    }
                    Some(_) => with_field(1, name.as_bytes()),
                };
                methods.insert(format!("/{full}/{}", method.name()), message);
            }
        }
    }
    let hello = Hello { project: format!("projects/{project}"), responder: "r".into(), ..hello() };
    let hello = SubscribeRequest { message: Some(Said::Hello(hello)) };
    let subscribe = "/countersign.discovery.v1.DiscoveryService/Subscribe";
    assert!(methods.insert(subscribe.to_owned(), hello.encode_to_vec()).is_some());
    methods
}

fn hello() -> Hello {
    super::subscriptions::hello("r")
}

/// What a method needs, told from its name and not from the table.
fn least(path: &str) -> &'static str {
    let (service, method) = path.rsplit_once('/').unwrap();
    let begins = |words: &[&str]| words.iter().any(|word| method.starts_with(word));
    if ["Subscribe", "SendTally"].contains(&method) {
        "responder"
    } else if method == "GetCapabilities" {
        "viewer or responder"
    } else if begins(&["Get", "List", "Read", "Watch", "Analyze", "Validate", "Suggest"])
        || begins(&["Preview", "Explain", "Describe", "Summarize", "Compare"])
    {
        "viewer"
    } else if service.ends_with("ReplayService") {
        "operator"
    } else {
        "editor"
    }
}

#[tokio::test]
async fn every_method_is_for_the_roles_that_it_is_for() {
    let server = world().await;
    let methods = methods("shop");
    assert!(methods.len() > 35, "{}", methods.len());
    let rank =
        |role: &str| ["viewer", "editor", "operator", "admin"].iter().position(|r| *r == role);
    for (path, message) in &methods {
        let least = least(path);
        for (token, role, project) in CALLERS {
            let code = call(&server.channel(), Some(token), path, message.clone()).await;
            let may = match least {
                "responder" => role == "responder",
                "viewer or responder" => true,
                least => rank(role) >= rank(least),
            };
            let names_nothing = ["GetCapabilities", "DescribeTransforms", "GetControlPlane"]
                .iter()
                .any(|method| path.ends_with(method));
            let who = format!("{role} of {project}: {path} is {code:?}");
            if !may {
                assert_eq!(code, Code::PermissionDenied, "{who}");
            } else if project == "web" && !names_nothing {
                assert_eq!(code, Code::NotFound, "{who}");
            } else {
                let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];
                assert!(!refused.contains(&code), "{who}");
            }
        }
        let nobody = call(&server.channel(), None, path, message.clone()).await;
        assert_eq!(nobody, Code::Unauthenticated, "nobody: {path}");
        let guess = call(&server.channel(), Some("cst_guess"), path, message.clone()).await;
        // After a few, guesses are refused unseen.
        assert!(matches!(guess, Code::Unauthenticated | Code::ResourceExhausted), "{path}");
    }
    // What replays are made of is for responders of their project, and for who may do everything.
    let chunks = "/countersign.discovery.v1.ChunkService/ReadChunks";
    for (token, role, project) in CALLERS {
        let replay = with_field(1, b"projects/shop/replays/x");
        let code = call(&server.channel(), Some(token), chunks, replay).await;
        let expected = match (role, project) {
            ("admin" | "responder", _) | (_, "web") => Code::NotFound,
            _ => Code::PermissionDenied,
        };
        assert_eq!(code, expected, "{role} of {project}");
        let elsewhere = with_field(1, b"projects/web/replays/x");
        let code = call(&server.channel(), Some(token), chunks, elsewhere).await;
        assert_ne!(code, Code::Ok, "{role} of {project}");
        assert_eq!(
            code == Code::PermissionDenied,
            role == "responder" || project == "web" || token == "cst_reader",
            "{role} of {project}: {code:?}"
        );
    }
    let nowhere = "/countersign.control.v1.SnapshotService/DropEverything";
    let code = call(&server.channel(), Some("cst_admin"), nowhere, Vec::new()).await;
    assert_eq!(code, Code::PermissionDenied);
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(call(&server.channel(), None, health, Vec::new()).await, Code::Ok);
}

type Wire = InterceptedService<Channel, Bearer>;

fn wire(server: &Server, token: &str) -> Wire {
    InterceptedService::new(server.channel(), Bearer::new(token).unwrap())
}

fn snapshots(server: &Server, token: &str) -> SnapshotServiceClient<Wire> {
    SnapshotServiceClient::new(wire(server, token))
}

async fn create(server: &Server, token: &str, project: &str, id: &str) -> Result<Snapshot, Status> {
    let request = CreateSnapshotRequest {
        parent: format!("projects/{project}"),
        snapshot_id: id.into(),
        ..Default::default()
    };
    Ok(snapshots(server, token).create_snapshot(request).await?.into_inner())
}

async fn get(server: &Server, token: &str, name: &str) -> Result<Snapshot, Status> {
    let request = GetSnapshotRequest { name: name.into() };
    Ok(snapshots(server, token).get_snapshot(request).await?.into_inner())
}

async fn list(server: &Server, token: &str, project: &str) -> Result<usize, Status> {
    let request =
        ListSnapshotsRequest { parent: format!("projects/{project}"), ..Default::default() };
    Ok(snapshots(server, token).list_snapshots(request).await?.into_inner().snapshots.len())
}

#[tokio::test]
async fn a_tenant_cannot_tell_what_another_has_from_what_there_is_not() {
    let server = world().await;
    create(&server, "cst_editor", "shop", "secret").await.unwrap();
    let there = "projects/shop/snapshots/secret";
    assert_eq!(get(&server, "cst_viewer", there).await.unwrap().name, there);
    let mut heard = BTreeSet::new();
    for name in [there, "projects/shop/snapshots/absent", "projects/nowhere/snapshots/secret"] {
        let refused = get(&server, "cst_stranger", name).await;
        let status = assert_refused(refused, Code::NotFound, "SNAPSHOT_NOT_FOUND");
        heard.insert(status.message().replace(name, "NAME"));
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
    // And it is what is said of one's own that is absent.
    let absent = "projects/web/snapshots/absent";
    let own = get(&server, "cst_stranger", absent).await.unwrap_err();
    assert!(heard.contains(&own.message().replace(absent, "NAME")), "{own:?}");

    for project in ["shop", "nowhere"] {
        let listed = list(&server, "cst_stranger", project).await;
        assert_refused(listed, Code::NotFound, "PROJECT_NOT_FOUND");
        let made = create(&server, "cst_stranger", project, "mine").await;
        assert_refused(made, Code::NotFound, "PROJECT_NOT_FOUND");
    }
    assert_eq!(list(&server, "cst_stranger", "web").await.unwrap(), 0);
    // What is one's own may not be made of what is another's.
    let replay = Replay { snapshot: there.into(), ..Default::default() };
    let request = CreateReplayRequest {
        parent: "projects/web".into(),
        replay_id: "r".into(),
        replay: Some(replay),
        ..Default::default()
    };
    let made = ReplayServiceClient::new(wire(&server, "cst_stranger")).create_replay(request).await;
    assert_refused(made, Code::NotFound, "SNAPSHOT_NOT_FOUND");
}

#[tokio::test]
async fn a_page_gets_nothing_of_the_grpc_port() {
    let server = world().await;
    create(&server, "cst_editor", "shop", "s").await.unwrap();
    for (name, value) in [("origin", "https://evil.test"), ("sec-fetch-site", "same-site")] {
        let mut request =
            Request::new(GetSnapshotRequest { name: "projects/shop/snapshots/s".into() });
        request.metadata_mut().insert(name, value.parse().unwrap());
        let refused = snapshots(&server, "cst_admin").get_snapshot(request).await;
        assert_refused(refused, Code::PermissionDenied, "NOT_FOR_PAGES");
    }
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_who_was_refused_and_no_token() {
    let server = world().await;
    create(&server, "cst_editor", "shop", "s").await.unwrap();
    let again = create(&server, "cst_editor", "shop", "s").await;
    assert_refused(again, Code::AlreadyExists, "ALREADY_EXISTS");
    drop(get(&server, "cst_viewer", "projects/shop/snapshots/s").await.unwrap());
    assert!(create(&server, "cst_viewer", "shop", "t").await.is_err());
    assert!(get(&server, "cst_stranger", "projects/shop/snapshots/s").await.is_err());
    assert!(get(&server, "cst_guess", "projects/shop/snapshots/s").await.is_err());
    let read = || fs::read_to_string(server.dir.path().join("audit")).unwrap();
    let text = read();
    let told: Vec<String> = text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let part = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
            assert_eq!(part("from"), "127.0.0.1");
            let method = part("method");
            let (who, by, about, outcome) =
                (part("who"), part("by"), part("resource"), part("outcome"));
            let refused = line["refused"].as_bool().unwrap_or(false);
            format!("{who} {by} {} {about} {outcome} {refused}", method.rsplit('/').next().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            "editor token CreateSnapshot projects/shop OK false",
            "editor token CreateSnapshot projects/shop ALREADY_EXISTS false",
            "viewer token CreateSnapshot - PERMISSION_DENIED true",
            "stranger token GetSnapshot projects/shop/snapshots/s NOT_FOUND true",
            "nobody none GetSnapshot - UNAUTHENTICATED true",
        ]
    );
    assert!(!text.contains("cst_"), "{text}");

    // Of guesses that are held back the number is told, with the next that is listed.
    let guesses = 1 + u64::from(attempts::BURST) + 3;
    for _ in 1..guesses {
        assert!(get(&server, "cst_guess", "projects/shop/snapshots/s").await.is_err());
    }
    let path = "/countersign.control.v1.SnapshotService/GetSnapshot";
    assert_eq!(call(&server.channel(), None, path, Vec::new()).await, Code::Unauthenticated);
    let lines = read();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let counted = lines.filter(|line| line["by"] == "none");
    let counted = counted.map(|line| 1 + line["unlisted"].as_u64().unwrap_or_default());
    assert_eq!(counted.sum::<u64>(), guesses + 1);
}

#[tokio::test]
async fn tokens_off_loopback_need_tls_and_a_file_of_users_has_to_be_good() {
    let dir = tempfile::tempdir().unwrap();
    let good = with_users(&dir);
    let exposed = Config { listen: "0.0.0.0:0".parse().unwrap(), ..good.clone() };
    let refused = app::start(exposed.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::Cleartext { .. }) && refused.is_config(), "{refused}");
    let behind = Config { allow_insecure: true, ..exposed };
    app::start(behind).await.unwrap().shutdown().await;
    fs::write(dir.path().join("users"), "x").unwrap();
    let refused = app::start(good.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::Auth(_)) && refused.is_config(), "{refused}");
    let lost = Config { audit_log: Some(dir.path().join("no/such/place")), ..config(&dir) };
    let refused = app::start(lost).await.unwrap_err();
    assert!(matches!(refused, StartError::Audit { .. }), "{refused}");
}
