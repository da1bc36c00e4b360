//! Planes that know each other by certificates, made by `countersign certs` alone: who is let in, who is not and hears why, and certificates
//! that are replaced.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use countersign_proto::responder::v1::{
    AdvanceCursorsRequest, sequence_service_client::SequenceServiceClient,
};
use countersign_tls::{
    client::{ClientTls, Settings},
    issue::{Leaf, issue},
};
use harness::{
    client::Client,
    process::{self, Finished, Process},
    recording,
    turns::{agreed, breaks, turn},
    wait_until,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

const KEY: &str = "a secret that is long enough to sign with";

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    /// A directory with certificates.
    pub(crate) fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.certs(&["init", &world.path("certs")]);
        world
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn certs(&self, arguments: &[&str]) {
        drop(process::run("countersign", ["certs"].iter().chain(arguments)).ok());
    }

    /// One more certificate.
    pub(crate) fn issue(&self, identity: &str, into: &str) {
        let (certs, into) = (self.path("certs"), self.path(into));
        self.certs(&["issue", &certs, identity, "--into", &into]);
    }

    fn control_plane(&self, listen: &str) -> Process {
        self.control_plane_with("certs/control-plane", &["--listen", listen])
    }

    /// One that shows what is in this directory.
    pub(crate) fn control_plane_with(&self, shown: &str, more: &[&str]) -> Process {
        let [data, certificate, key, ca] =
            ["data", &format!("{shown}/tls.crt"), &format!("{shown}/tls.key"), "certs/ca/tls.crt"]
                .map(|name| self.path(name));
        let place = ["--data-dir", &data];
        let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--client-ca", &ca];
        Process::start("countersign-control-plane", [&place[..], &tls, more].concat())
    }

    /// A responder that shows what is in this directory.
    pub(crate) fn responder(
        &self,
        name: &str,
        server: SocketAddr,
        shown: &str,
        ca: &str,
    ) -> Process {
        self.responder_with(name, server, [shown, ca], &[])
    }

    fn responder_with(
        &self,
        name: &str,
        server: SocketAddr,
        [shown, ca]: [&str; 2],
        more: &[&str],
    ) -> Process {
        let url = format!("https://{server}");
        let [secrets, ca, certificate, key] =
            ["secrets", ca, &format!("{shown}/tls.crt"), &format!("{shown}/tls.key")]
                .map(|name| self.path(name));
        let any = "127.0.0.1:0";
        let own =
            ["--listen", any, "--admin-listen", any, "--name", name, "--secret-dir", &secrets];
        let tls = ["--control-plane-ca", &ca, "--client-cert", &certificate, "--client-key", &key];
        fs::create_dir_all(&secrets).unwrap();
        Process::start(
            "countersign-responder",
            [&own[..], &["--control-plane", &url], &tls, more].concat(),
        )
    }

    /// The command, as whoever is shown.
    fn cli(&self, server: &str, shown: &str, ca: &str, arguments: &[&str]) -> Finished {
        let variables = [
            ("COUNTERSIGN_SERVER", server.to_owned()),
            ("COUNTERSIGN_SERVER_CA", self.path(ca)),
            ("COUNTERSIGN_CLIENT_CERT", self.path(&format!("{shown}/tls.crt"))),
            ("COUNTERSIGN_CLIENT_KEY", self.path(&format!("{shown}/tls.key"))),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        process::run_in("countersign", arguments, &variables)
    }

    pub(crate) fn user(&self, server: SocketAddr, arguments: &[&str]) -> Finished {
        self.cli(&format!("https://{server}"), "certs/user", "certs/user/ca.crt", arguments)
    }

    /// Imports a login and starts it.
    pub(crate) fn start(&self, server: SocketAddr) {
        let times = json!({"sub": "a", "iat": 1_700_000_000, "exp": 1_700_000_600});
        let body = json!({"access_token": recording::old_token("HS256", &times)});
        let file = self.dir.path().join("login.jsonl");
        fs::write(file, recording::line("GET", "/token", &body)).unwrap();
        fs::write(self.dir.path().join("t.json"), recording::seed_template("t", "k")).unwrap();
        drop(recording::secret_dir(self.dir.path(), "k", KEY.as_bytes()));
        let (login, template) = (self.path("login.jsonl"), self.path("t.json"));
        for arguments in [
            &["snapshot", "import", &login, "--id", "login"][..],
            &["transform", "put", &template],
            &["replay", "start", "login", "--transform", "t", "--wait"],
        ] {
            drop(self.user(server, arguments).ok());
        }
    }

    /// Whether a responder of this name is connected.
    pub(crate) async fn connected(&self, server: SocketAddr, name: &str) {
        wait_until(&format!("{name} is connected"), || {
            let list = self.user(server, &["responder", "list", "--output", "json"]);
            let text = list.stdout().replace([' ', '\n'], "");
            let is = |part: &str| text.contains(part);
            let one = is(&format!("{name}\"")) && is("\"connected\":true");
            async move { one.then_some(()) }
        })
        .await;
    }
}

/// Whether the served token is signed with the key.
pub(crate) async fn is_valid(client: &Client) -> bool {
    let body = client.get("/token").await.json();
    let token = body["access_token"].as_str().unwrap();
    let key = DecodingKey::from_secret(KEY.as_bytes());
    decode::<Value>(token, &key, &Validation::new(Algorithm::HS256)).is_ok()
}

pub(crate) async fn says(process: &Process, part: &str) {
    wait_until(&format!("it says {part}"), || {
        let said = process.text().contains(part);
        async move { said.then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn a_fleet_of_certs_init_serves_the_login_again() {
    let world = World::new();
    let mut plane = world.control_plane("127.0.0.1:0");
    let at = plane.address("grpc").await;
    assert!(plane.text().contains("https://"), "{}", plane.text());
    let mut one = world.responder("one", at, "certs/responder", "certs/responder/ca.crt");
    world.connected(at, "one").await;
    world.start(at);
    assert!(is_valid(&Client::new(one.address("data").await)).await);
}

#[tokio::test]
async fn whoever_is_not_let_in_hears_why_and_so_does_the_control_plane() {
    let world = World::new();
    let (certs, other) = (world.path("certs"), world.path("other"));
    world.certs(&["init", &other]);
    world.issue("responder/default/one", "one");
    let late = Leaf {
        role: "user/late".parse().unwrap(),
        hosts: &[],
        ends: SystemTime::now() - Duration::from_secs(60),
        domain: None,
    };
    issue(&Path::new(&certs).join("ca"), &late, &world.dir.path().join("late")).unwrap();
    let mut plane = world.control_plane("127.0.0.1:0");
    let at = plane.address("grpc").await;
    let https = format!("https://{at}");
    let (ca, list) = ("certs/user/ca.crt", &["replay", "list"][..]);
    drop(world.user(at, list).ok());
    let start = ["replay", "start", "login"];
    for (server, shown, ca, arguments, heard, logged) in [
        (&*https, "certs/user", "other/user/ca.crt", list, "UnknownIssuer", "UnknownCA"),
        (&https, "other/user", ca, list, "UnknownCA", "UnknownIssuer"),
        (&https, "late", ca, list, "CertificateExpired", "certificate expired"),
        (&https, "one", ca, &start, "may not call", "call refused"),
    ] {
        let refused = world.cli(server, shown, ca, arguments);
        let told = refused.text();
        assert!(refused.code() != 0 && told.contains(heard), "{shown}: {told}");
        says(&plane, logged).await;
    }
    let plain =
        process::run("countersign", ["--server", &format!("http://{at}"), "replay", "list"]);
    assert!(plain.code() == 2 && plain.text().contains("TLS only"), "{}", plain.text());
    says(&plane, "it does not speak TLS").await;

    let two = world.responder("two", at, "one", ca);
    let why = "which may not subscribe as the responder `two` of projects/default";
    says(&two, why).await;
    says(&plane, why).await;
    let stranger = world.responder("one", at, "other/responder", ca);
    says(&stranger, "UnknownCA").await;

    let mut open = process::control_plane(&world.dir.path().join("open"), "127.0.0.1:0");
    let open = open.address("grpc").await;
    let told = world.user(open, list).text();
    assert!(told.contains("does not speak TLS"), "{told}");
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let world = World::new();
    let certs = world.path("certs");
    let mut plane = world.control_plane("127.0.0.1:0");
    let at = plane.address("grpc").await;
    let mut one = world.responder("one", at, "certs/responder", "certs/responder/ca.crt");
    world.connected(at, "one").await;
    world.start(at);
    // Everything anew, the authority as well: who has taken over the new files is let in by nobody who has not.
    world.certs(&["init", &certs, "--force"]);
    wait_until("the control plane shows its new certificate", || {
        let listed = world.user(at, &["replay", "list"]).code() == 0;
        async move { listed.then_some(()) }
    })
    .await;
    assert!(plane.text().contains("certificates taken over"), "{}", plane.text());
    assert!(is_valid(&Client::new(one.address("data").await)).await, "what is served goes on");

    // The responder's next connection.
    plane.kill();
    let mut plane = world.control_plane(&at.to_string());
    assert_eq!(plane.address("grpc").await, at);
    world.connected(at, "one").await;
    says(&one, "certificates taken over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responders_show_each_other_who_they_are() {
    let world = World::new();
    let mut plane = world.control_plane("127.0.0.1:0");
    let at = plane.address("grpc").await;
    let lines: String = (0..5)
        .map(|turn| recording::line("GET", "/list/0", &json!({ "turn": turn })) + "\n")
        .collect();
    let config = json!({"id": "shared", "responder": {"sequence": {"scope": "global"}}});
    fs::write(world.path("list.jsonl"), lines).unwrap();
    fs::write(world.path("shared.json"), config.to_string()).unwrap();
    let ca = "certs/responder/ca.crt";
    let peer = ["--peer-listen", "127.0.0.1:0"];
    let mut all =
        ["one", "two"].map(|name| world.responder_with(name, at, ["certs/responder", ca], &peer));
    for name in ["one", "two"] {
        world.connected(at, name).await;
    }
    let [list, shared] = ["list.jsonl", "shared.json"].map(|name| world.path(name));
    for arguments in [
        &["snapshot", "import", &list, "--id", "list"][..],
        &["test-config", "put", &shared],
        &["replay", "start", "list", "--snapshot", "list", "--test-config", "shared", "--wait"],
    ] {
        drop(world.user(at, arguments).ok());
    }
    agreed(&mut all, &["one", "two"]).await;
    let mut data = Vec::new();
    for responder in &mut all {
        data.push(Client::new(responder.address("data").await));
    }
    for nth in 0..12 {
        assert_eq!(turn(&data[nth % 2], 0).await, Ok(u64::try_from(nth % 5).unwrap()));
    }

    // The owner of the list is one of them; whoever is no responder of the project gets a turn from neither.
    world.issue("responder/elsewhere/one", "elsewhere");
    for responder in &mut all {
        let peers = responder.address("peers").await;
        for (shown, who) in [("certs/user", "/user/"), ("elsewhere", "/responder/elsewhere/one")] {
            assert!(ask_for_a_turn(&world, peers, Some(shown)).await.is_err());
            says(responder, &format!("spiffe://countersign{who}")).await;
        }
        assert!(ask_for_a_turn(&world, peers, None).await.is_err());
        assert!(ask_for_a_turn(&world, peers, Some("certs/responder")).await.is_ok());
    }
    assert_eq!(breaks(&all.map(Process::finish)), BTreeMap::new());
}

/// A call as one that shows what is in this directory, or without TLS.
async fn ask_for_a_turn(
    world: &World,
    peers: SocketAddr,
    shown: Option<&str>,
) -> Result<(), Box<dyn std::error::Error>> {
    let channel = match shown {
        Some(shown) => {
            let dir = world.dir.path().join(shown);
            let tls = ClientTls::read(Settings {
                authorities: Some(dir.join("ca.crt")),
                certificate: Some((dir.join("tls.crt"), dir.join("tls.key"))),
                server: Some("spiffe://countersign/responder/default".parse()?),
            })?;
            let endpoint = Endpoint::from_shared(format!("https://{peers}"))?;
            endpoint.connect_with_connector(tls.connector()).await?
        }
        None => Endpoint::from_shared(format!("http://{peers}"))?.connect().await?,
    };
    let nobody = AdvanceCursorsRequest { session_id: "nobody".to_owned(), ..Default::default() };
    SequenceServiceClient::new(channel).advance_cursors(nobody).await?;
    Ok(())
}
