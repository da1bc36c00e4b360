//! H13: TLS that is too old, too slow, cut into pieces, or shown to the wrong ones. Each failure is an alert or a close, and is counted.

use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::{raw::Raw, *};

/// A hello of a client that asks for this name and offers this version.
pub(super) fn hello(name: &str, version: &[u8; 2]) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[..], &bytes].concat()
    };
    let name = sized([&[0][..], &sized(name.as_bytes().to_vec())].concat());
    let extension = |kind: u8, content: Vec<u8>| [&[0, kind][..], &sized(content)].concat();
    let extensions = [
        extension(0, name),
        extension(10, sized(vec![0, 23, 0, 29])),
        extension(13, sized(vec![4, 3, 8, 4])),
    ]
    .concat();
    let body = [
        &version[..],
        &[7; 32],
        &[0],
        &sized(vec![0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x13]),
        &[1, 0],
        &sized(extensions),
    ]
    .concat();
    let body = [&[1, 0][..], &sized(body)].concat();
    [&[0x16, 0x03, 0x01][..], &sized(body)].concat()
}

impl World {
    /// How many handshakes were done, and how many have failed.
    async fn handshakes(&self) -> (u64, u64) {
        let done = self.metric("countersign_tls_handshakes_total").await;
        (done, self.metric("countersign_tls_handshake_failures_total").await)
    }

    /// What comes back to these bytes until the responder closes, and how many failures were counted.
    async fn failed(&self, bytes: &[u8]) -> Vec<u8> {
        let (_, before) = self.handshakes().await;
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        let told = read_all(raw).await;
        self.metric_is("countersign_tls_handshake_failures_total", |now| now == before + 1).await;
        told
    }
}

async fn read_all(raw: Raw) -> Vec<u8> {
    use tokio::io::AsyncReadExt as _;
    let (mut bytes, mut stream) = (Vec::new(), raw.0);
    let read = async { while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(harness::DEADLINE, read).await.unwrap();
    bytes
}

/// What openssl says as a client of this responder.
fn s_client(world: &World, arguments: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &world.data.to_string(), "-servername", "api.example"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Writes certificates of clients: a good one, one that has expired, and one that somebody else has signed.
fn clients(dir: &Path) {
    let write = |name: &str, der: &[u8], kind: &str| {
        fs::write(dir.join(name), convert(der, &format!("{kind} -inform DER"))).unwrap();
    };
    let authority = || {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, theirs) = (authority(), authority());
    write("ca.crt", ours.der(), "x509");
    for (name, issuer, ends) in
        [("good", &ours, 2100), ("expired", &ours, 2021), ("other", &theirs, 2100)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(ends, 1, 1);
        let signed = params.signed_by(&key, issuer).unwrap();
        write(&format!("{name}.crt"), signed.der(), "x509");
        write(&format!("{name}.key"), &key.serialize_der(), "pkey");
    }
}

async fn world(ca: &str) -> World {
    let flags = format!("--tls-ca {ca} --detect-timeout 3s");
    let setup = Setup::flags(&flags).line("/a", &json!("A"));
    World::serve_with(Vec::new(), &setup).await
}

#[tokio::test]
async fn h13_handshakes_that_cannot_be_end_with_an_alert_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(&crate::tls::authority(dir.path())).await;
    let alert = 0x15;
    for version in [[3, 0], [3, 1], [3, 2]] {
        let told = world.failed(&hello("api.example", &version)).await;
        assert_eq!(told.first(), Some(&alert), "{version:?}: {told:?}");
    }
    let long = hello(&"n".repeat(300), &[3, 3]);
    let told = world.failed(&long).await;
    assert_eq!(told.first(), Some(&alert), "a name of 300 bytes: {told:?}");
    for (name, bytes) in [
        ("no hello", &b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"[..]),
        ("a record that is too long", b"\x16\x03\x01\xff\xff\x01"),
        ("a hello of nothing", b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"),
        ("nonsense", b"\x16\x16\x16\x16\x16\x16\x16\x16\x16\x16"),
    ] {
        let told = world.failed(bytes).await;
        assert!(told.is_empty() || told.first() == Some(&alert), "{name}: {told:?}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn h13_a_hello_in_pieces_is_understood_and_a_good_client_is_answered() {
    use tokio::io::AsyncReadExt as _;
    let dir = tempfile::tempdir().unwrap();
    let world = world(&crate::tls::authority(dir.path())).await;
    // Each byte in a record of its own.
    let whole = hello("api.example", &[3, 3]);
    let pieces: Vec<u8> = whole[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let mut raw = world.connect().await;
    raw.send(&pieces).await;
    let mut first = [0; 6];
    let read = tokio::time::timeout(harness::DEADLINE, raw.0.read_exact(&mut first)).await;
    assert_eq!(read.unwrap().unwrap(), first.len());
    assert_eq!((first[0], first[5]), (0x16, 2), "a hello of the server: {first:?}");
    drop(world.end().await);
}

#[tokio::test]
async fn h13_who_may_not_come_in_is_told_so_and_nobody_begins_anew() {
    if !harness::has_openssl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = crate::tls::authority(dir.path());
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    clients(dir.path());
    let setup = Setup::default().line("/a", &json!("A"));
    let flags =
        ["--tls-ca", &ca, "--tls-client-ca", &path("ca.crt"), "--tls-client-auth", "optional"];
    let setup = Setup { flags: flags.map(str::to_owned).into(), ..setup };
    let world = World::serve_with(Vec::new(), &setup).await;
    let get = b"GET /a HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n";
    let shown = |certificate: &str, key: &str| {
        let (certificate, key) = (path(certificate), path(key));
        s_client(&world, &["-quiet", "-cert", &certificate, "-key", &key], get)
    };
    let told = shown("good.crt", "good.key");
    assert!(told.contains("HTTP/1.1 200"), "{told}");
    let (_, before) = world.handshakes().await;
    for (certificate, key) in [("other.crt", "other.key"), ("expired.crt", "expired.key")] {
        let told = shown(certificate, key);
        assert!(told.contains("alert") && !told.contains("HTTP/1.1"), "{certificate}: {told}");
    }
    // A client that does not trust us says so.
    let told =
        s_client(&world, &["-quiet", "-verify_return_error", "-CAfile", &path("other.crt")], get);
    assert!(told.contains("verify") && !told.contains("HTTP/1.1"), "{told}");
    world
        .metric_is("countersign_tls_handshake_failures_total", |failed| failed == before + 3)
        .await;
    // TLS 1.2 could begin anew; we do not.
    let told = s_client(&world, &["-tls1_2"], b"R\n");
    let (_, after) = told.split_once("RENEGOTIATING").unwrap();
    assert!(after.contains("error:") && !after.contains("verify return"), "{told}");
    for version in ["-tls1", "-tls1_1"] {
        let told = s_client(&world, &[version], get);
        assert!(!told.contains("HTTP/1.1"), "{version}: {told}");
    }
    drop(world.end().await);
}
