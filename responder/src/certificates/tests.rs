//! Certificates as clients see them: what they accept, and what happens when files change.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{make::authority_in, *};

fn tls(path: &Path) -> Tls {
    Tls {
        identity: Identity::Authority(path.to_owned()),
        client_ca: None,
        client_auth: ClientAuth::None,
    }
}

fn read(tls: Tls) -> Result<Certificates, CertificateError> {
    Certificates::read(tls, Handle::current())
}

/// A client that trusts the authority of a directory.
pub(crate) fn client(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(authority.join("tls.crt")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A handshake in memory, for the certificate of one name, by a client that expects another.
async fn shake(
    certificates: &Certificates,
    made_for: Name,
    client: ClientConfig,
    expected: &str,
) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let config = certificates.config(made_for).await.map_err(|error| chain(&error))?;
    let server = tokio::spawn(async move { TlsAcceptor::from(config).accept(far).await.is_ok() });
    let name = ServerName::try_from(expected.to_owned()).unwrap();
    let shaken = TlsConnector::from(Arc::new(client)).connect(name, near).await;
    let accepted = server.await.unwrap();
    assert!(accepted || shaken.is_err(), "the client went on without the server");
    shaken.map(drop).map_err(|error| error.to_string())
}

fn host(name: &str) -> Name {
    Name::of_host(name).unwrap()
}

/// Writes a certificate that is nobody's authority.
fn plain_pair(dir: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("tls.crt"), pem_of("CERTIFICATE", certificate.der())).unwrap();
    fs::write(dir.join("tls.key"), pem_of("PRIVATE KEY", key.serialized_der())).unwrap();
}

fn pem_of(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn certificates_are_for_one_name_and_clients_accept_them() {
    let dir = tempfile::tempdir().unwrap();
    authority_in(dir.path(), false).unwrap();
    let certificates = read(tls(dir.path())).unwrap();
    for name in ["api.example.com", "under_score.svc", "10.1.2.3", "fd00::7"] {
        shake(&certificates, host(name), client(dir.path()), name).await.unwrap();
    }
    let here = Name::Here([10, 0, 0, 9].into());
    for name in ["localhost", "127.0.0.1", "::1", "10.0.0.9"] {
        shake(&certificates, here.clone(), client(dir.path()), name).await.unwrap();
    }
    for other in ["www.example.com", "x.api.example.com", "example.com"] {
        let refused =
            shake(&certificates, host("api.example.com"), client(dir.path()), other).await;
        assert!(refused.unwrap_err().contains("not valid for name"), "{other}");
    }
    let other = tempfile::tempdir().unwrap();
    authority_in(other.path(), false).unwrap();
    let refused = shake(&certificates, host("a"), client(other.path()), "a").await;
    assert!(refused.unwrap_err().contains("UnknownIssuer"));
}

#[tokio::test]
async fn certificates_are_kept_renewed_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    authority_in(dir.path(), false).unwrap();
    let certificates = read(tls(dir.path())).unwrap();
    let first = certificates.config(host("a")).await.unwrap();
    assert!(Arc::ptr_eq(&first, &certificates.config(host("A.")).await.unwrap()));

    let state = certificates.current.load_full();
    let Shown::Made(maker) = &state.shown else { panic!("an authority makes certificates") };
    let now = SystemTime::now();
    let later = |minutes: u64| now + Duration::from_secs(60 * minutes);
    assert!(maker.leaves.get(&host("a"), later(39)).is_some());
    assert!(maker.leaves.get(&host("a"), later(41)).is_none(), "with less than 20 minutes left");
    let leaf = maker.authority.make(&host("a"), now).unwrap();
    let about = About::of(leaf.certified.cert.first(), dir.path()).unwrap();
    assert!(about.begins <= now - Duration::from_secs(3599) && about.ends <= later(60));

    for number in 0..leaves::CAPACITY {
        maker.leaves.put(host(&format!("n{number}")), Arc::clone(&first), later(1000));
    }
    assert_eq!(maker.leaves.len(), leaves::CAPACITY);
    assert!(maker.leaves.get(&host("a"), now).is_none(), "the one that ends first has left");
}

#[tokio::test]
async fn changed_files_are_taken_over_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    authority_in(at, false).unwrap();
    let certificates = read(tls(at)).unwrap();
    let old = client(at);
    let problem = || (**certificates.problem.load()).clone();

    let (certificate, key) =
        (fs::read(at.join("tls.crt")).unwrap(), fs::read(at.join("tls.key")).unwrap());
    authority_in(at, true).unwrap();
    let new_key = fs::read(at.join("tls.key")).unwrap();
    fs::write(at.join("tls.key"), &key).unwrap();
    certificates.reload();
    assert!(problem().unwrap().contains("does not fit"), "{:?}", problem());
    shake(&certificates, host("a"), old.clone(), "a").await.unwrap();
    fs::write(at.join("tls.crt"), "nonsense").unwrap();
    certificates.reload();
    assert!(problem().unwrap().contains("no PEM certificate"), "{:?}", problem());
    shake(&certificates, host("b"), old.clone(), "b").await.unwrap();

    fs::write(at.join("tls.crt"), &certificate).unwrap();
    certificates.reload();
    assert_eq!(problem(), None);
    let kept = certificates.config(host("a")).await.unwrap();
    certificates.reload();
    assert!(
        Arc::ptr_eq(&kept, &certificates.config(host("a")).await.unwrap()),
        "nothing has changed"
    );

    authority_in(at, true).unwrap();
    certificates.reload();
    shake(&certificates, host("a"), old, "a").await.unwrap_err();
    shake(&certificates, host("a"), client(at), "a").await.unwrap();
    assert_ne!(fs::read(at.join("tls.key")).unwrap(), new_key);
}

#[tokio::test]
async fn a_kubernetes_mount_is_read_through_its_link() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    for version in ["..1", "..2"] {
        authority_in(&at.join(version), false).unwrap();
    }
    symlink("..1", at.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), at.join(name)).unwrap();
    }
    let certificates = read(tls(at)).unwrap();
    shake(&certificates, host("a"), client(&at.join("..1")), "a").await.unwrap();
    symlink("..2", at.join("..new")).unwrap();
    fs::rename(at.join("..new"), at.join("..data")).unwrap();
    certificates.reload();
    shake(&certificates, host("a"), client(&at.join("..2")), "a").await.unwrap();
}

#[tokio::test]
async fn one_certificate_may_be_given_and_an_authority_may_have_another_kind_of_key() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    plain_pair(at, "given.example");
    let identity =
        Identity::Certificate { certificate: at.join("tls.crt"), key: at.join("tls.key") };
    let given = read(Tls { identity, ..tls(at) }).unwrap();
    shake(&given, host("other.example"), client(at), "given.example").await.unwrap();
    assert_eq!(given.status()["kind"], "certificate");

    let rsa = dir.path().join("rsa");
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    fs::create_dir_all(&rsa).unwrap();
    fs::write(rsa.join("tls.crt"), pem_of("CERTIFICATE", certificate.der())).unwrap();
    // Both in one file do as well.
    let both =
        pem_of("PRIVATE KEY", key.serialized_der()) + &pem_of("CERTIFICATE", certificate.der());
    fs::write(rsa.join("both.pem"), both).unwrap();
    let certificates = read(tls(&rsa.join("both.pem"))).unwrap();
    shake(&certificates, host("a"), client(&rsa), "a").await.unwrap();
    assert!(certificates.status()["subject"].as_str().unwrap().contains("CN="));
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let why = |tls: Tls| chain(&read(tls).unwrap_err());
    assert!(why(tls(&at.join("nothing"))).contains("cannot be read"));
    plain_pair(&at.join("plain"), "a");
    assert!(why(tls(&at.join("plain"))).contains("--tls-cert"));
    fs::remove_file(at.join("plain/tls.key")).unwrap();
    assert!(why(tls(&at.join("plain"))).contains("tls.key"));
    fs::write(at.join("plain/tls.key"), "-----BEGIN NOTHING-----").unwrap();
    assert!(why(tls(&at.join("plain"))).contains("no PEM private key"));

    authority_in(&at.join("ca"), false).unwrap();
    fs::write(at.join("clients.pem"), "").unwrap();
    let clients = Tls {
        client_ca: Some(at.join("clients.pem")),
        client_auth: ClientAuth::Required,
        ..tls(&at.join("ca"))
    };
    assert!(why(clients).contains("clients.pem"));
}

#[tokio::test]
async fn nothing_shows_a_key() {
    let dir = tempfile::tempdir().unwrap();
    authority_in(dir.path(), false).unwrap();
    let certificates = read(tls(dir.path())).unwrap();
    certificates.config(host("a")).await.unwrap();
    let key = fs::read_to_string(dir.path().join("tls.key")).unwrap();
    let shown = format!("{certificates:?} {}", certificates.status());
    let der = key.lines().nth(1).unwrap();
    assert!(!shown.contains(der) && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn an_authority_is_made_once_unless_forced_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("new/ca");
    let made = authority_in(&at, false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(made.made);
    assert_eq!((mode(&at), mode(&made.key), mode(&made.certificate)), (0o700, 0o600, 0o644));
    let text = fs::read_to_string(&made.certificate).unwrap();
    assert!(text.lines().all(|line| line.len() <= 64));
    assert!(!authority_in(&at, false).unwrap().made);
    assert_eq!(fs::read_to_string(&made.certificate).unwrap(), text);
    assert!(authority_in(&at, true).unwrap().made);
    assert_ne!(fs::read_to_string(&made.certificate).unwrap(), text);
    fs::remove_file(&made.key).unwrap();
    assert!(authority_in(&at, false).is_err(), "half an authority is none");
}
