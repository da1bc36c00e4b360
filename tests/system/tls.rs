//! TLS as clients have it: curl, Python's OpenSSL and requests, certificates of many names, of clients, and of an authority that is replaced.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use harness::{
    client::Client,
    has_openssl, notice,
    process::{self, Process},
    recording, shared_data, wait_until,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::sessions;

pub(crate) const JWKS: &str = "/.well-known/jwks.json";

/// The recording of the repository: a login at auth.example.com, a shop at api.example.com.
pub(crate) fn example() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/example/recording");
    root.to_string_lossy().into_owned()
}

/// A directory with a new authority.
pub(crate) fn authority(dir: &Path) -> String {
    let ca = dir.join("ca").to_string_lossy().into_owned();
    drop(process::run("countersign", ["certs", "--dir", &ca]).ok());
    ca
}

/// `countersign dev` on the example, with more arguments.
pub(crate) fn dev(arguments: &[&str]) -> Process {
    let example = example();
    let base = ["dev", &example, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    Process::start("countersign", base.iter().chain(arguments))
}

/// curl that hears nothing of the environment's proxies.
pub(crate) fn curl(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut curl = Command::new("curl");
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        curl.env_remove(name).env_remove(name.to_uppercase());
    }
    curl.args(["-sS", "--max-time", "20", "-w", "\n%{http_code} %{http_version}"]).args(arguments);
    curl.envs(environment.iter().copied()).output().unwrap()
}

/// What curl printed: the body, and its last line.
pub(crate) fn told(output: &Output) -> (String, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap_or_default();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl: {wrong} {text}");
    (body.to_owned(), last.to_owned())
}

/// Runs a script of Python's; `None`, with a notice, where a module is absent, which CI must have.
pub(crate) fn python(module: &str, script: &str, environment: &[(&str, &str)]) -> Option<String> {
    let python = std::env::var("COUNTERSIGN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !there.is_ok_and(|there| there.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI needs Python's {module}");
        notice(&format!("{python} has no {module}, it is not tried"));
        return None;
    }
    let ran = Command::new(&python).args(["-c", script]).envs(environment.iter().copied()).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(String::from_utf8(ran.stdout).unwrap())
}

#[tokio::test]
async fn curl_gets_each_host_by_its_name_and_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let mut dev = dev(&["--tls-ca", &ca]);
    let port = dev.address("data").await.port();
    let trusted = format!("{ca}/tls.crt");
    let get = |host: &str, path: &str, more: &[&str]| {
        let resolve = format!("{host}:{port}:127.0.0.1");
        let url = format!("https://{host}:{port}{path}");
        curl(&[&["--resolve", &resolve, "--cacert", &trusted, &url], more].concat(), &[])
    };
    for (version, more) in [
        ("2", &[][..]),
        ("2", &["--http2-prior-knowledge"]),
        ("1.1", &["--http1.1"]),
        // Some releases of curl call it 1.0, others 1.
        ("1", &["--http1.0"]),
        ("2", &["--tlsv1.2", "--tls-max", "1.2"]),
        ("2", &["--tlsv1.3"]),
    ] {
        let (body, last) = told(&get("auth.example.com", JWKS, more));
        assert!(last.starts_with(&format!("200 {version}")), "{more:?}: {last} {body}");
        assert!(body.contains("\"keys\""), "{body}");
    }
    // The key set is the other host's.
    let (_, last) = told(&get("api.example.com", JWKS, &[]));
    assert_eq!(last, "404 2");
    let (_, last) =
        told(&curl(&["--cacert", &trusted, &format!("https://127.0.0.1:{port}{JWKS}")], &[]));
    assert_eq!(last, "200 2", "by address, without a name");
    let stranger = curl(&[&format!("https://127.0.0.1:{port}{JWKS}")], &[]);
    assert_eq!(stranger.status.code(), Some(60), "who does not trust the CA is not fooled");
    let old = get("auth.example.com", JWKS, &["--tls-max", "1.1"]);
    assert!(!old.status.success(), "TLS 1.1 is over");
    let (body, _) = told(&curl(&[&format!("http://127.0.0.1:{port}{JWKS}")], &[]));
    assert!(body.contains("\"keys\""), "plain connections are served as before");
}

#[tokio::test]
async fn python_trusts_the_ca_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let mut dev = dev(&["--tls-ca", &ca]);
    let port = dev.address("data").await.port();
    let trusted = format!("{ca}/tls.crt");
    let url = format!("https://localhost:{port}{JWKS}");
    let script = format!(
        "import urllib.request, ssl\nwith urllib.request.urlopen('{url}') as r: print(r.status, r.read().decode())"
    );
    let text = python("ssl", &script, &[("SSL_CERT_FILE", &trusted)]).unwrap();
    assert!(text.starts_with("200 {\"keys\""), "{text}");
    let script =
        format!("import requests\nr = requests.get('{url}')\nprint(r.status_code, r.text)");
    if let Some(text) = python("requests", &script, &[("REQUESTS_CA_BUNDLE", &trusted)]) {
        assert!(text.starts_with("200 {\"keys\""), "{text}");
    }
}

/// Takes plain connections and passes them on over TLS, with this name.
async fn through_tls(to: SocketAddr, ca: &str, name: &str, alpn: &[u8]) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{ca}/tls.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (connector, name) = (connector.clone(), name.clone());
            tokio::spawn(async move {
                let far = TcpStream::connect(to).await.unwrap();
                let mut far = connector.connect(name, far).await.unwrap();
                assert!(far.get_ref().1.alpn_protocol().is_some());
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            });
        }
    });
    here
}

#[tokio::test]
async fn users_log_in_over_tls_and_their_tokens_verify() {
    let Some(folder) = shared_data("sessions-demo") else { return };
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let (secrets, template) = sessions::prepare(dir.path());
    let folder_text = folder.to_string_lossy().into_owned();
    let any = "127.0.0.1:0";
    let arguments = ["dev", &folder_text, "--transform", &template, "--secret-dir", &secrets];
    let rest = ["--listen", any, "--admin-listen", any, "--tls-ca", &ca];
    let mut dev = Process::start("countersign", arguments.iter().chain(&rest));
    let server = dev.address("data").await;
    let pairs = recording::read(&folder).pairs;
    let recorded = pairs.iter().find_map(|pair| Some(pair.request.as_ref()?.host.clone())).unwrap();
    let host = recorded.split(':').next().unwrap();
    sessions::check(&Client::new(through_tls(server, &ca, host, b"http/1.1").await), &pairs).await;
    sessions::check(&Client::http2(through_tls(server, &ca, host, b"h2").await), &pairs).await;
}

#[tokio::test]
async fn a_new_ca_is_taken_over_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path());
    let old = dir.path().join("old.crt");
    fs::copy(format!("{ca}/tls.crt"), &old).unwrap();
    let mut dev = dev(&["--tls-ca", &ca]);
    let url = format!("https://{}{JWKS}", dev.address("data").await);
    let trusts =
        |path: &Path| curl(&["--cacert", &path.to_string_lossy(), &url], &[]).status.success();
    assert!(trusts(&old));
    drop(process::run("countersign", ["certs", "--dir", &ca, "--force"]).ok());
    let new = PathBuf::from(format!("{ca}/tls.crt"));
    wait_until("the new CA signs", || {
        let there = trusts(&new);
        async move { there.then_some(()) }
    })
    .await;
    assert!(!trusts(&old));
    let key = fs::read_to_string(format!("{ca}/tls.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!dev.text().contains(secret), "no key is logged");
}

fn openssl(dir: &Path, arguments: &str) {
    let ran = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn an_authority_and_clients_of_openssl_are_understood() {
    if !has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::create_dir(at.join("ca")).unwrap();
    openssl(
        at,
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=root/O=Société -utf8 -keyout ca/tls.key -out ca/tls.crt",
    );
    // Without an extension openssl would make certificates of version 1, which nobody takes any more.
    fs::write(at.join("v3"), "basicConstraints=CA:FALSE\n").unwrap();
    for (name, key) in [("good", "ec -pkeyopt ec_paramgen_curve:P-256"), ("stranger", "ed25519")] {
        openssl(
            at,
            &format!(
                "req -x509 -newkey {key} -nodes -days 30 -subj /CN={name}-root -keyout {name}-root.key -out {name}-root.crt"
            ),
        );
        openssl(
            at,
            &format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            at,
            &format!(
                "x509 -req -in {name}.csr -CA {name}-root.crt -CAkey {name}-root.key -days 30 -extfile v3 -out {name}.crt"
            ),
        );
    }
    let path = |name: &str| at.join(name).to_string_lossy().into_owned();
    let mut dev = dev(&["--tls-ca", &path("ca"), "--tls-client-ca", &path("good-root.crt")]);
    let url = format!("https://localhost:{}{JWKS}", dev.address("data").await.port());
    let get = |name: Option<&str>| {
        let shown = name.map(|name| (path(&format!("{name}.crt")), path(&format!("{name}.key"))));
        let shown: Vec<&str> = shown.iter().flat_map(|(c, k)| ["--cert", c, "--key", k]).collect();
        curl(&[&shown[..], &["--cacert", &path("ca/tls.crt"), &url]].concat(), &[])
    };
    assert_eq!(told(&get(Some("good"))).1, "200 2");
    assert!(!get(Some("stranger")).status.success());
    assert!(!get(None).status.success());
    let admin = Client::new(dev.address("admin").await);
    let status = admin.get("/status").await.json();
    let tls = &status["transport"]["tls"];
    assert_eq!(
        (tls["client_auth"].as_str(), tls["client_authorities"].as_u64()),
        (Some("required"), Some(1))
    );
    assert!(tls["subject"].as_str().unwrap().contains("root"), "{status}");
    assert!(tls["problem"].is_null(), "{status}");
}

#[test]
fn certificates_that_cannot_be_used_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing").to_string_lossy().into_owned();
    let example = example();
    let any = "127.0.0.1:0";
    let base = ["dev", &example, "--listen", any, "--admin-listen", any];
    let ended = process::run("countersign", base.iter().chain(&["--tls-ca", &nothing]));
    assert_eq!(ended.code(), 2, "{}", ended.text());
    assert!(ended.text().contains(&nothing), "{}", ended.text());
    let ended = process::run("countersign", base.iter().chain(&["--map", "80=a/b"]));
    assert!(ended.text().contains("8443=api.example.com"), "{}", ended.text());
}
