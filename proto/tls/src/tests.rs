//! Both sides of a handshake over real sockets: who is let in, who is not, and what each side hears.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use rcgen::{CertificateParams, KeyPair, SanType};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::StreamExt as _;
use tower_service::Service as _;

use crate::{
    CertificateError,
    accept::{Caller, Secured, accept},
    chain,
    client::{self, ClientTls},
    identity::{Role, TrustDomain},
    issue::{DAY, Leaf, NewAuthority, authority_in, issue, pem},
    server::{self, ServerTls},
};

/// An authority, and directories with certificates.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.authority("ca", "a.example");
        world.make("ca", "control-plane/main", "server");
        world.make("ca", "user/anna", "anna");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self, name: &str, domain: &str) {
        let domain: TrustDomain = domain.parse().unwrap();
        let wanted = NewAuthority { name: "test", life: DAY, domain: Some(&domain) };
        authority_in(&self.at(name), &wanted, true).unwrap();
    }

    fn make(&self, authority: &str, role: &str, into: &str) {
        self.make_until(authority, role, into, SystemTime::now() + DAY);
    }

    fn make_until(&self, authority: &str, role: &str, into: &str, ends: SystemTime) {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let role: Role = role.parse().unwrap();
        let leaf = Leaf { role, hosts: &hosts, ends, domain: None };
        issue(&self.at(authority), &leaf, &self.at(into)).unwrap();
    }

    fn server(&self, name: &str) -> server::Settings {
        server::Settings {
            certificate: self.at(name).join("tls.crt"),
            key: self.at(name).join("tls.key"),
            client_ca: Some(self.at("ca/tls.crt")),
            trust_domain: None,
            is_optional: false,
        }
    }

    fn client(&self, authority: &str, shown: Option<&str>) -> client::Settings {
        let pair = |name: &str| (self.at(name).join("tls.crt"), self.at(name).join("tls.key"));
        client::Settings {
            authorities: Some(self.at(authority).join("tls.crt")),
            certificate: shown.map(pair),
            server: None,
        }
    }
}

/// A server that hands on whom it lets in.
struct Server {
    addr: SocketAddr,
    tls: Arc<ServerTls>,
    accepted: mpsc::Receiver<Secured>,
}

impl Server {
    async fn start(settings: server::Settings) -> Self {
        let tls = ServerTls::read(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut stream = accept(listener, Arc::clone(&tls));
        let (sender, accepted) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(Ok(mut secured)) = stream.next().await {
                // As servers of HTTP/2 do.
                secured.write_all(b"first").await.unwrap();
                secured.flush().await.unwrap();
                sender.send(secured).await.unwrap();
            }
        });
        Self { addr, tls, accepted }
    }

    /// What the client hears, and whom the server saw; an error is the client's.
    async fn meet(&mut self, client: client::Settings) -> Result<Caller, String> {
        let client = ClientTls::read(client).map_err(|error| chain(&error))?;
        self.meet_again(&client).await
    }

    async fn meet_again(&mut self, client: &Arc<ClientTls>) -> Result<Caller, String> {
        let url: Uri = format!("https://{}", self.addr).parse().unwrap();
        let connected = client.connector().call(url).await.map_err(|error| chain(&error))?;
        let mut first = [0; 5];
        connected.into_inner().read_exact(&mut first).await.unwrap();
        assert_eq!(first, *b"first");
        Ok(self.accepted.recv().await.unwrap().caller().clone())
    }
}

fn put_pair(path: &Path, certificate: &[u8], key: &[u8]) {
    let (certificate, key) = (pem("CERTIFICATE", certificate), pem("PRIVATE KEY", key));
    fs::write(path, format!("{}{}", *certificate, *key)).unwrap();
}

fn known(caller: &Caller) -> String {
    match caller {
        Caller::Known(identity) => identity.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_has_a_good_certificate_is_known_by_name() {
    let world = World::new();
    let mut server = Server::start(world.server("server")).await;
    let anna = server.meet(world.client("ca", Some("anna"))).await.unwrap();
    assert_eq!(known(&anna), "spiffe://a.example/user/anna");
    assert!(server.tls.is_mutual());
    let open = server::Settings { client_ca: None, ..world.server("server") };
    let mut open = Server::start(open).await;
    let nobody = open.meet(world.client("ca", None)).await.unwrap();
    assert!(matches!(nobody, Caller::Anonymous) && !open.tls.is_mutual());
}

#[tokio::test]
async fn bad_certificates_of_clients_are_refused_and_the_client_hears_why() {
    let world = World::new();
    world.authority("other", "a.example");
    world.make("other", "user/anna", "stranger");
    world.make_until("ca", "user/anna", "late", SystemTime::now() - Duration::from_secs(60));
    let mut server = Server::start(world.server("server")).await;
    for (shown, why) in [
        (None, "CertificateRequired"),
        (Some("stranger"), "UnknownCA"),
        (Some("late"), "CertificateExpired"),
    ] {
        let refused = server.meet(world.client("ca", shown)).await.unwrap_err();
        assert!(refused.contains(why), "{shown:?}: {refused}");
    }
    server.meet(world.client("ca", Some("anna"))).await.unwrap();
}

#[tokio::test]
async fn a_good_certificate_that_names_nobody_known_is_told_apart() {
    let world = World::new();
    let foreign = |name: &str| server::Settings {
        trust_domain: Some("b.example".parse().unwrap()),
        ..world.server(name)
    };
    let mut server = Server::start(foreign("server")).await;
    let Caller::Unknown(why) = server.meet(world.client("ca", Some("anna"))).await.unwrap() else {
        panic!("of another domain");
    };
    assert!(why.to_string().contains("another trust domain than b.example"), "{why}");

    // One without an identity, and one with two.
    let mut server = Server::start(world.server("server")).await;
    for (uris, part) in [
        (&[][..], "no SPIFFE ID"),
        (&["spiffe://a.example/user/a", "spiffe://a.example/user/b"], "more than one"),
        (&["spiffe://a.example/root"], "no identity"),
    ] {
        let pair = crate::files::directory_or_file(&world.at("ca")).unwrap();
        let (issuer, _) = crate::issue::issuer(&pair).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let made = params.signed_by(&key, &issuer).unwrap();
        put_pair(&world.at("plain.pem"), made.der(), key.serialized_der());
        let client = client::Settings {
            certificate: Some((world.at("plain.pem"), world.at("plain.pem"))),
            ..world.client("ca", None)
        };
        let Caller::Unknown(why) = server.meet(client).await.unwrap() else { panic!("{uris:?}") };
        assert!(why.to_string().contains(part), "{why}");
    }
}

#[tokio::test]
async fn clients_refuse_servers_that_are_not_who_they_ask_for() {
    let world = World::new();
    world.authority("other", "a.example");
    world.make("ca", "responder/p/r", "responder");
    let mut server = Server::start(world.server("server")).await;
    let refused = server.meet(world.client("other", Some("anna"))).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer") || refused.contains("BadSignature"), "{refused}");
    let expecting = |id: &str| client::Settings {
        server: Some(id.parse().unwrap()),
        ..world.client("ca", Some("anna"))
    };
    server.meet(expecting("spiffe://a.example/control-plane/main")).await.unwrap();
    let refused = server.meet(expecting("spiffe://a.example/control-plane/x")).await.unwrap_err();
    assert!(refused.contains("control-plane/main is not spiffe://"), "{refused}");

    let mut passing = Server::start(world.server("responder")).await;
    let refused = passing.meet(world.client("ca", Some("anna"))).await.unwrap_err();
    assert!(refused.contains("responder/p/r is not a control plane"), "{refused}");

    let url: Uri = format!("https://localhost.localdomain:{}", server.addr.port()).parse().unwrap();
    let client = ClientTls::read(world.client("ca", Some("anna"))).unwrap();
    if let Err(error) = client.connector().call(url).await {
        let error = chain(&error);
        // Not every machine knows that name.
        assert!(
            error.contains("not valid for name") || error.contains("cannot connect"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn both_sides_take_new_files_over_and_keep_what_was_good() {
    let world = World::new();
    let mut server = Server::start(world.server("server")).await;
    let client = ClientTls::read(world.client("ca", Some("anna"))).unwrap();
    server.meet_again(&client).await.unwrap();

    fs::write(world.at("server/tls.crt"), "nonsense").unwrap();
    fs::write(world.at("anna/tls.key"), "nonsense").unwrap();
    server.tls.reload();
    assert_eq!(known(&server.meet_again(&client).await.unwrap()), "spiffe://a.example/user/anna");

    world.make("ca", "control-plane/main", "server");
    world.make("ca", "user/berta", "anna");
    server.tls.reload();
    assert_eq!(known(&server.meet_again(&client).await.unwrap()), "spiffe://a.example/user/berta");

    // A new authority: whoever has none of its certificates is out at once.
    world.authority("ca", "a.example");
    world.make("ca", "control-plane/main", "server");
    server.tls.reload();
    let refused = server.meet_again(&client).await.unwrap_err();
    assert!(refused.contains("UnknownCA"), "{refused}");
    world.make("ca", "user/carla", "anna");
    assert_eq!(known(&server.meet_again(&client).await.unwrap()), "spiffe://a.example/user/carla");
}

#[tokio::test]
async fn a_kubernetes_mount_changes_as_a_whole() {
    let world = World::new();
    for version in ["1", "2"] {
        world.make("ca", &format!("user/v{version}"), &format!("mount/..{version}"));
    }
    symlink("..1", world.at("mount/..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), world.at("mount").join(name)).unwrap();
    }
    let mut server = Server::start(world.server("server")).await;
    let client = ClientTls::read(world.client("ca", Some("mount"))).unwrap();
    assert_eq!(known(&server.meet_again(&client).await.unwrap()), "spiffe://a.example/user/v1");
    symlink("..2", world.at("mount/..new")).unwrap();
    fs::rename(world.at("mount/..new"), world.at("mount/..data")).unwrap();
    assert_eq!(known(&server.meet_again(&client).await.unwrap()), "spiffe://a.example/user/v2");
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_that_it_was_opened_with() {
    let world = World::new();
    world.make_until("ca", "user/brief", "brief", SystemTime::now() + Duration::from_secs(2));
    let mut server = Server::start(world.server("server")).await;
    let client = ClientTls::read(world.client("ca", Some("brief"))).unwrap();
    let url: Uri = format!("https://{}", server.addr).parse().unwrap();
    let near = client.connector().call(url).await.unwrap();
    let mut far = server.accepted.recv().await.unwrap();
    let ended = far.read(&mut [0]).await.unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::TimedOut);
    drop(near);
}

#[tokio::test]
async fn who_speaks_without_tls_is_told_so() {
    let world = World::new();
    let server = Server::start(world.server("server")).await;
    let ask = async |said: &[u8]| {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let http1 = ask(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(http1.starts_with("HTTP/1.1 400") && http1.contains("TLS only"), "{http1}");
    let http2 = ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!http2.starts_with("HTTP") && http2.ends_with("use https://"), "{http2}");

    // And the other way round.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("https://{}", plain.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let client = ClientTls::read(world.client("ca", Some("anna"))).unwrap();
    let refused = chain(&client.connector().call(url).await.unwrap_err());
    assert!(refused.contains("does not speak TLS"), "{refused}");
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let world = World::new();
    let server = |change: &dyn Fn(&mut server::Settings)| {
        let mut settings = world.server("server");
        change(&mut settings);
        chain(&ServerTls::read(settings).unwrap_err())
    };
    assert!(server(&|it| it.key = "nowhere".into()).contains("nowhere cannot be read"));
    assert!(server(&|it| it.key = world.at("anna/tls.key")).contains("does not fit"));
    let key = world.at("anna/tls.key");
    assert!(server(&|it| it.client_ca = Some(key.clone())).contains("no PEM certificate"));
    let anonymous = KeyPair::generate().unwrap();
    let made = CertificateParams::default().self_signed(&anonymous).unwrap();
    let pair = world.at("pair.pem");
    put_pair(&pair, made.der(), anonymous.serialized_der());
    let nameless = server(&|it| {
        it.certificate.clone_from(&pair);
        it.key.clone_from(&pair);
    });
    assert!(nameless.contains("--trust-domain"), "{nameless}");

    let mut settings = world.client("ca", Some("anna"));
    settings.certificate = Some((world.at("anna/tls.crt"), world.at("server/tls.key")));
    let mixed = ClientTls::read(settings).unwrap_err();
    assert!(matches!(mixed, CertificateError::Mismatch { .. }), "{mixed}");
    let leaf = Leaf {
        role: "user/x".parse().unwrap(),
        hosts: &[],
        ends: SystemTime::now() + DAY,
        domain: None,
    };
    let none = issue(&world.at("anna"), &leaf, Path::new("nowhere")).unwrap_err();
    assert!(matches!(none, CertificateError::NoAuthority { .. }), "{none}");
}

#[test]
fn nothing_shows_a_key() {
    let world = World::new();
    let server = ServerTls::read(world.server("server")).unwrap();
    let client = ClientTls::read(world.client("ca", Some("anna"))).unwrap();
    let shown = format!("{server:?} {client:?}");
    for holder in ["server", "anna"] {
        let key = fs::read_to_string(world.at(holder).join("tls.key")).unwrap();
        assert!(!shown.contains(key.lines().nth(1).unwrap()), "{shown}");
    }
    assert!(!shown.contains("PRIVATE"), "{shown}");
}
