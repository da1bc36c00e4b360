//! Callers with certificates: who gets how far, and what they hear.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use countersign_proto::{
    control::v1::{
        ListReplaysRequest, StartReplayRequest, replay_service_client::ReplayServiceClient,
    },
    discovery::v1::{
        FindMissingChunksRequest, Hello, ReadChunksRequest, SubscribeRequest, WriteChunksRequest,
        chunk_service_client::ChunkServiceClient, discovery_service_client::DiscoveryServiceClient,
        subscribe_request::Message,
    },
};
use countersign_tls::{
    client::{self, ClientTls},
    identity::TrustDomain,
    issue::{DAY, Leaf, NewAuthority, authority_in, issue},
    server::Settings,
};
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{PROJECT, assert_refused, config, subscriptions::hello};
use crate::{
    app::{self, StartError},
    config::Config,
};

/// Makes an authority and a control plane's certificate.
fn certificates(dir: &Path) {
    let domain: TrustDomain = "a.example".parse().unwrap();
    let wanted = NewAuthority { name: "test", life: DAY, domain: Some(&domain) };
    authority_in(&dir.join("ca"), &wanted, false).unwrap();
    make(dir, "control-plane/main", None);
}

/// Makes a certificate and tells where it lies.
fn make(dir: &Path, role: &str, domain: Option<&str>) -> PathBuf {
    let into = dir.join(role.replace('/', "-"));
    let leaf = Leaf {
        role: role.parse().unwrap(),
        hosts: &["127.0.0.1".to_owned()],
        ends: SystemTime::now() + DAY,
        domain: domain.map(|domain| domain.parse().unwrap()),
    };
    issue(&dir.join("ca"), &leaf, &into).unwrap();
    into
}

fn mutual(dir: &TempDir) -> Config {
    let at = |name: &str| dir.path().join(name);
    let tls = Settings {
        certificate: at("control-plane-main/tls.crt"),
        key: at("control-plane-main/tls.key"),
        client_ca: Some(at("ca/tls.crt")),
        trust_domain: None,
        is_optional: false,
    };
    Config { tls: Some(tls), ..config(dir) }
}

/// A control plane that knows its callers, and the directory of everybody's certificates.
struct World {
    dir: TempDir,
    running: app::Running,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let running = app::start(mutual(&dir)).await.unwrap();
        assert!(running.is_tls());
        Self { dir, running }
    }

    /// The connection of a caller.
    async fn channel(&self, role: &str, domain: Option<&str>) -> Channel {
        let shown = make(self.dir.path(), role, domain);
        let settings = client::Settings {
            authorities: Some(self.dir.path().join("ca/tls.crt")),
            certificate: Some((shown.join("tls.crt"), shown.join("tls.key"))),
            server: None,
        };
        let tls = ClientTls::read(settings).unwrap();
        let endpoint = Channel::from_shared(format!("https://{}", self.running.addr())).unwrap();
        endpoint.connect_with_connector(tls.connector()).await.unwrap()
    }
}

async fn list_replays(channel: &Channel) -> Result<(), Status> {
    let request = ListReplaysRequest { parent: PROJECT.into(), ..Default::default() };
    ReplayServiceClient::new(channel.clone()).list_replays(request).await.map(drop)
}

async fn start_replay(channel: &Channel) -> Result<(), Status> {
    let request = StartReplayRequest { name: format!("{PROJECT}/replays/x"), ..Default::default() };
    ReplayServiceClient::new(channel.clone()).start_replay(request).await.map(drop)
}

async fn read_chunks(channel: &Channel, project: &str) -> Result<(), Status> {
    let replay = format!("{project}/replays/x");
    let request = ReadChunksRequest { replay, ..Default::default() };
    ChunkServiceClient::new(channel.clone()).read_chunks(request).await.map(drop)
}

/// Asks for what only those may who copy snapshots.
async fn read_snapshot(channel: &Channel) -> Result<(), Status> {
    let snapshot = format!("{PROJECT}/snapshots/x");
    let request = ReadChunksRequest { snapshot, ..Default::default() };
    ChunkServiceClient::new(channel.clone()).read_chunks(request).await.map(drop)
}

async fn find_missing(channel: &Channel) -> Result<(), Status> {
    let request = FindMissingChunksRequest::default();
    ChunkServiceClient::new(channel.clone()).find_missing_chunks(request).await.map(drop)
}

async fn write_chunks(channel: &Channel) -> Result<(), Status> {
    let request = tokio_stream::iter([WriteChunksRequest::default()]);
    ChunkServiceClient::new(channel.clone()).write_chunks(request).await.map(drop)
}

/// Says hello and waits for the answer.
async fn subscribe(channel: &Channel, hello: Hello) -> Result<(), Status> {
    let hello = SubscribeRequest { message: Some(Message::Hello(hello)) };
    let mut client = DiscoveryServiceClient::new(channel.clone());
    let mut answers = client.subscribe(tokio_stream::iter([hello])).await?.into_inner();
    answers.message().await.map(drop)
}

#[tokio::test]
async fn roles_get_as_far_as_the_table_says() {
    let world = World::new().await;
    let denied = |refused: Result<(), Status>, reason: &str| {
        assert_refused(refused, Code::PermissionDenied, reason);
    };
    let user = world.channel("user/anna", None).await;
    list_replays(&user).await.unwrap();
    denied(subscribe(&user, hello("anna")).await, "ROLE_NOT_ALLOWED");
    assert_refused(read_chunks(&user, PROJECT).await, Code::NotFound, "REPLAY_NOT_FOUND");
    assert_refused(read_snapshot(&user).await, Code::NotFound, "SNAPSHOT_NOT_FOUND");

    let responder = world.channel("responder/default/one", None).await;
    let refused = start_replay(&responder).await;
    let text = refused.as_ref().unwrap_err().message().to_owned();
    assert!(text.contains("spiffe://a.example/responder/default/one may not call"), "{text}");
    denied(refused, "ROLE_NOT_ALLOWED");
    denied(list_replays(&responder).await, "ROLE_NOT_ALLOWED");
    denied(read_snapshot(&responder).await, "ROLE_NOT_ALLOWED");
    denied(find_missing(&responder).await, "ROLE_NOT_ALLOWED");
    denied(write_chunks(&responder).await, "ROLE_NOT_ALLOWED");

    let plane = world.channel("control-plane/other", None).await;
    HealthClient::new(plane.clone()).check(HealthCheckRequest::default()).await.unwrap();
    denied(list_replays(&plane).await, "ROLE_NOT_ALLOWED");
    let foreign = world.channel("user/eve", Some("b.example")).await;
    denied(list_replays(&foreign).await, "NO_IDENTITY");
}

#[tokio::test]
async fn a_responder_is_who_its_certificate_says() {
    let world = World::new().await;
    let denied = |refused| assert_refused(refused, Code::PermissionDenied, "WRONG_IDENTITY");
    let one = world.channel("responder/default/one", None).await;
    subscribe(&one, hello("one")).await.unwrap();
    denied(subscribe(&one, hello("two")).await);
    let elsewhere = Hello { project: "projects/other".into(), ..hello("one") };
    denied(subscribe(&one, elsewhere).await);
    denied(read_chunks(&one, "projects/other").await);
    let own = read_chunks(&one, PROJECT).await;
    assert_refused(own, Code::NotFound, "REPLAY_NOT_FOUND");

    let shared = world.channel("responder/default", None).await;
    for name in ["one", "two"] {
        subscribe(&shared, hello(name)).await.unwrap();
    }
}

#[tokio::test]
async fn plain_connections_and_anonymous_ones_are_refused() {
    let world = World::new().await;
    let addr = world.running.addr();
    let plain = Channel::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
    let refused = start_replay(&plain).await.unwrap_err();
    let heard = crate::service::chain(&refused);
    assert!(heard.contains("TLS only"), "{heard}");

    let settings = client::Settings {
        authorities: Some(world.dir.path().join("ca/tls.crt")),
        ..client::Settings::default()
    };
    let tls = ClientTls::read(settings).unwrap();
    let endpoint = Channel::from_shared(format!("https://{addr}")).unwrap();
    let anonymous = endpoint.connect_with_connector_lazy(tls.connector());
    let refused = start_replay(&anonymous).await;
    let heard = crate::service::chain(&refused.unwrap_err());
    assert!(heard.contains("CertificateRequired"), "{heard}");
}

#[tokio::test]
async fn other_hosts_are_listened_to_only_if_they_have_to_show_who_they_are() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let exposed = Config { listen: "0.0.0.0:0".parse().unwrap(), ..mutual(&dir) };
    app::start(exposed.clone()).await.unwrap().shutdown().await;
    let mut anonymous = exposed.clone();
    anonymous.tls.as_mut().unwrap().client_ca = None;
    let refused = app::start(anonymous).await.unwrap_err();
    assert!(matches!(refused, StartError::Insecure { .. }), "{refused}");
    assert!(refused.to_string().contains("--client-ca"), "{refused}");
    let mut broken = exposed;
    broken.tls.as_mut().unwrap().key = dir.path().join("nowhere");
    let refused = app::start(broken).await.unwrap_err();
    assert!(refused.is_config(), "{refused}");
}
