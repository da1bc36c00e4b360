//! Keys made by openssl in every form, and published vectors.

mod jwk;

use std::{io::Write as _, path::Path, process::Command};

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, KeyPair as _, UnparsedPublicKey};
use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use jsonwebtoken::{Algorithm, DecodingKey, signature::Signer as _};
use proptest::prelude::*;

use super::{Material, SigningKey};
use crate::jwt::{Door, alg::Alg};

const MESSAGE: &[u8] = b"eyJhbGciOiJYIn0.e30";

/// Runs openssl and returns what it prints. The keys are made by an implementation that is not ours.
fn openssl(dir: &Path, arguments: &str) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Whether there is an openssl. CI has one; a machine without it is told that these keys were not tried.
fn openssl_is_here() -> bool {
    let here = Command::new("openssl").arg("version").output().is_ok();
    if !here {
        assert!(std::env::var_os("CI").is_none(), "CI needs openssl");
        // Not `eprintln!`, which nobody sees when the test passes.
        drop(writeln!(std::io::stderr(), "NOTICE: there is no openssl, its keys are not tried"));
    }
    here
}

#[expect(clippy::disallowed_methods, reason = "tests may read files")]
fn read(dir: &Path, file: &str) -> Vec<u8> {
    std::fs::read(dir.join(file)).unwrap()
}

fn sign(key: &SigningKey, alg: Alg) -> String {
    let mut out = Vec::new();
    key.sign(alg, MESSAGE, &mut out).unwrap();
    URL_SAFE_NO_PAD.encode(out)
}

/// Whether `jsonwebtoken` accepts a signature under a public key in PEM.
fn accepted(signature: &str, alg: Alg, public: &[u8]) -> bool {
    let registered: Algorithm = alg.as_str().parse().unwrap();
    let key = match alg {
        Alg::EdDsa => DecodingKey::from_ed_der(public),
        Alg::Es256 | Alg::Es384 => DecodingKey::from_ec_der(public),
        _ => DecodingKey::from_rsa_der(public),
    };
    jsonwebtoken::crypto::verify(signature, MESSAGE, &key, registered).unwrap()
}

/// The public key of a private key, in the form that a verifier takes.
fn public(key: &SigningKey) -> Vec<u8> {
    match &key.material {
        Material::Rsa { pair, .. } => pair.public_key().as_ref().to_vec(),
        Material::Ec(_, pair) => pair.public_key().as_ref().to_vec(),
        Material::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        Material::Hmac { .. } => unreachable!("HMAC secrets have no public part"),
    }
}

#[test]
fn every_algorithm_signs_with_keys_of_every_form() {
    if !openssl_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(dir, "genrsa -traditional -out rsa1.pem 2048");
    openssl(dir, "pkcs8 -topk8 -nocrypt -in rsa1.pem -out rsa8.pem");
    openssl(dir, "rsa -in rsa1.pem -outform DER -out rsa1.der");
    for (curve, name) in [("prime256v1", "p256"), ("secp384r1", "p384"), ("secp521r1", "p521")] {
        // Without -noout a block of EC parameters stands before the key.
        openssl(dir, &format!("ecparam -name {curve} -genkey -out {name}-sec1.pem"));
        openssl(dir, &format!("ec -in {name}-sec1.pem -out {name}-bare.pem"));
        openssl(dir, &format!("pkcs8 -topk8 -nocrypt -in {name}-sec1.pem -out {name}-pkcs8.pem"));
    }
    openssl(dir, "genpkey -algorithm ed25519 -out ed.pem");

    let rsa = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512];
    let table: [(&[&str], &str, &[Alg]); 5] = [
        (&["rsa1.pem", "rsa8.pem", "rsa1.der"], "RSA 2048", &rsa),
        (&["p256-sec1.pem", "p256-bare.pem", "p256-pkcs8.pem"], "EC P-256", &[Alg::Es256]),
        (&["p384-sec1.pem", "p384-bare.pem", "p384-pkcs8.pem"], "EC P-384", &[Alg::Es384]),
        (&["p521-sec1.pem", "p521-bare.pem", "p521-pkcs8.pem"], "EC P-521", &[Alg::Es512]),
        (&["ed.pem"], "Ed25519", &[Alg::EdDsa]),
    ];
    for (files, kind, algs) in table {
        let keys: Vec<SigningKey> =
            files.iter().map(|file| SigningKey::parse(&read(dir, file)).expect(file)).collect();
        assert!(
            keys.iter().all(|key| key.thumbprint() == keys[0].thumbprint() && key.kind() == kind),
            "{files:?}"
        );
        let public = public(&keys[0]);
        for alg in Alg::ALL {
            assert_eq!(keys[0].can_sign(alg).is_ok(), algs.contains(&alg), "{kind} {alg:?}");
        }
        for (key, alg) in keys.iter().flat_map(|key| algs.iter().map(move |alg| (key, *alg))) {
            let signature = sign(key, alg);
            if alg == Alg::Es512 {
                // jsonwebtoken has no ES512.
                assert!(Door::new(key, alg).unwrap().is_none());
                let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
                UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, &public)
                    .verify(MESSAGE, &raw)
                    .unwrap();
                continue;
            }
            assert!(accepted(&signature, alg, &public), "{kind} {alg:?}");
            let other =
                if alg == Alg::EdDsa { vec![9; 32] } else { self::public(&other_key(dir, alg)) };
            assert!(
                !accepted(&signature, alg, &other),
                "{kind} {alg:?}: another key must not verify"
            );
            let door = Door::new(key, alg).unwrap().unwrap();
            assert!(
                accepted(&URL_SAFE_NO_PAD.encode(door.try_sign(MESSAGE).unwrap()), alg, &public),
                "through the door"
            );
        }
    }
}

fn other_key(dir: &Path, alg: Alg) -> SigningKey {
    let (arguments, file) = match alg {
        Alg::Es256 => ("ecparam -name prime256v1 -genkey -out other.pem", "other.pem"),
        Alg::Es384 => ("ecparam -name secp384r1 -genkey -out other.pem", "other.pem"),
        _ => ("genrsa -out other.pem 2048", "other.pem"),
    };
    openssl(dir, arguments);
    SigningKey::parse(&read(dir, file)).unwrap()
}

#[test]
fn hmac_secrets_are_used_byte_for_byte() {
    let secret = b"sessions-demo-signing-key";
    let key = SigningKey::parse(secret).unwrap();
    for alg in [Alg::Hs256, Alg::Hs384, Alg::Hs512] {
        let registered: Algorithm = alg.as_str().parse().unwrap();
        let signature = sign(&key, alg);
        assert!(
            jsonwebtoken::crypto::verify(
                &signature,
                MESSAGE,
                &DecodingKey::from_secret(secret),
                registered
            )
            .unwrap()
        );
        assert!(
            !jsonwebtoken::crypto::verify(
                &signature,
                MESSAGE,
                &DecodingKey::from_secret(b"other"),
                registered
            )
            .unwrap()
        );
    }
    assert!(key.weakness(Alg::Hs256).unwrap().contains("25 bytes"));
    assert_eq!(SigningKey::parse(&[7; 64]).unwrap().weakness(Alg::Hs512), None);
    let newline = SigningKey::parse(b"sessions-demo-signing-key\n").unwrap();
    assert!(newline.weakness(Alg::Hs256).unwrap().contains("line feed"));
    assert_ne!(sign(&newline, Alg::Hs256), sign(&key, Alg::Hs256));
    let mut trimmed = Vec::new();
    newline.sign_trimmed(Alg::Hs256, MESSAGE, &mut trimmed).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(trimmed), sign(&key, Alg::Hs256));
    let random = SigningKey::parse(&[[0xff; 63].as_slice(), b"\n"].concat()).unwrap();
    assert_eq!(random.weakness(Alg::Hs512), None, "random bytes may end in one");
    assert_eq!((key.jwk(), key.thumbprint()), (None, None), "nothing of a secret is told");
    assert_eq!(format!("{key:?}"), "SigningKey(HMAC)");
}

#[test]
fn what_is_no_signing_key_is_refused_by_name() {
    if !openssl_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(dir, "genrsa -out rsa.pem 2048");
    openssl(dir, "rsa -in rsa.pem -pubout -out public.pem");
    openssl(dir, "req -x509 -key rsa.pem -subj /CN=x -out tls.crt");
    openssl(dir, "pkcs8 -topk8 -passout pass:x -in rsa.pem -out encrypted.pem");
    openssl(dir, "genrsa -out weak.pem 1024");
    openssl(dir, "ecparam -name secp256k1 -genkey -out k1.pem");
    let rsa = read(dir, "rsa.pem");
    let code = |bytes: &[u8]| SigningKey::parse(bytes).map_or_else(|why| why.code(), |_| "ok");
    assert_eq!(code(b""), "key_weak");
    assert_eq!(code(&read(dir, "tls.crt")), "key_is_certificate");
    assert_eq!(code(&read(dir, "public.pem")), "key_is_public");
    assert_eq!(code(&read(dir, "encrypted.pem")), "key_encrypted");
    assert_eq!(code(&read(dir, "weak.pem")), "key_weak");
    assert_eq!(code(&read(dir, "k1.pem")), "key_alg_mismatch");
    assert_eq!(
        code(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAA==\n-----END OPENSSH PRIVATE KEY-----\n"),
        "key_malformed"
    );
    assert_eq!(code(&rsa[..rsa.len() / 2]), "key_malformed");
    assert_eq!(code(STANDARD.encode(&rsa).as_bytes()), "key_malformed");
    assert_eq!(code(br#"{"kty":"oct","k":"A+=="}"#), "key_malformed");
    assert_eq!(code(b"ssh-ed25519 AAAA"), "key_is_public");
    assert_eq!(code(&[rsa.clone(), rsa.clone()].concat()), "key_ambiguous");
    assert_eq!(
        code(&[read(dir, "tls.crt"), rsa.clone()].concat()),
        "ok",
        "a certificate beside the key"
    );
    let crlf = String::from_utf8(rsa).unwrap().replace('\n', "\r\n");
    assert_eq!(code(format!("\u{feff}{crlf}").as_bytes()), "ok", "line ends and byte order mark");
    assert_eq!(
        SigningKey::parse(&read(dir, "tls.crt"))
            .unwrap_err()
            .to_string()
            .matches("tls.key")
            .count(),
        1,
        "a hint"
    );
}

#[test]
fn thumbprint_is_that_of_rfc_8037_a_3() {
    let key = SigningKey::parse(include_bytes!("../vectors/rfc8037-a1.pem")).unwrap();
    assert_eq!(key.thumbprint().as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
}

#[test]
fn signs_the_example_of_rfc_8037_a_4() {
    let key = SigningKey::parse(include_bytes!("../vectors/rfc8037-a1.pem")).unwrap();
    let mut out = Vec::new();
    key.sign(Alg::EdDsa, b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc", &mut out)
        .unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.encode(out),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn the_key_of_rfc_7515_a_4_made_its_signature() {
    let key = SigningKey::parse(include_bytes!("../vectors/rfc7515-a4.pem")).unwrap();
    let signature = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let verifier = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, public(&key));
    verifier
        .verify(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

/// What would be a fatal HMAC secret: bytes that others know, or that were meant as another kind of key.
#[test]
fn no_key_in_another_wrapping_is_taken_for_an_hmac_secret() {
    if !openssl_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(dir, "genrsa -out rsa.pem 2048");
    openssl(dir, "rsa -in rsa.pem -pubout -outform DER -out public.der");
    openssl(dir, "rsa -in rsa.pem -RSAPublicKey_out -outform DER -out public1.der");
    openssl(dir, "rsa -in rsa.pem -traditional -outform DER -out rsa.der");
    openssl(dir, "req -x509 -key rsa.pem -subj /CN=x -outform DER -out cert.der");
    openssl(dir, "pkcs8 -topk8 -passout pass:x -in rsa.pem -outform DER -out encrypted.der");
    openssl(dir, "req -x509 -key rsa.pem -subj /CN=x -out cert.pem");
    openssl(dir, "pkcs12 -export -inkey rsa.pem -in cert.pem -passout pass:x -out key.p12");
    let code = |bytes: &[u8]| {
        SigningKey::parse(bytes)
            .map_or_else(|why| why.code(), |key| if key.kind() == "HMAC" { "hmac" } else { "ok" })
    };
    let with = |file: &str, tail: &[u8]| [read(dir, file).as_slice(), tail].concat();
    for (file, expected) in [
        ("public.der", "key_is_public"),
        ("public1.der", "key_is_public"),
        ("cert.der", "key_is_certificate"),
        ("encrypted.der", "key_encrypted"),
        ("key.p12", "key_malformed"),
        ("rsa.der", "ok"),
    ] {
        assert_eq!(code(&read(dir, file)), expected, "{file}");
        for tail in [b"\n".as_slice(), b"\0", b"rest"] {
            assert_eq!(code(&with(file, tail)), "key_malformed", "{file} with something behind it");
        }
        assert_eq!(
            code(STANDARD.encode(read(dir, file)).as_bytes()),
            "key_malformed",
            "{file} as PEM without its frame"
        );
    }
    assert_eq!(code(&with("rsa.pem", b"rest")), "key_malformed", "trailing garbage");
    assert_eq!(code(&with("rsa.pem", b"\r\n \n")), "ok", "white space is none");
    let text = String::from_utf8(read(dir, "rsa.pem")).unwrap();
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(code(&utf16), "key_malformed");
    assert_eq!(
        code(STANDARD.encode(&text).trim_end_matches('=').as_bytes()),
        "key_malformed",
        "encoded twice, without padding"
    );
    assert_eq!(code(text.replace('\n', "\\n").as_bytes()), "key_malformed", "escaped line breaks");
    for public in [
        "\n ssh-rsa AAAA",
        "ssh-dss AAAA",
        "sk-ssh-ed25519@openssh.com AAAA",
        "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA",
    ] {
        assert_eq!(code(public.as_bytes()), "key_is_public", "{public}");
    }
    assert_eq!(code(b"openssh-key-v1\0rest"), "key_malformed");
    assert_eq!(code(b"PuTTY-User-Key-File-3: ssh-rsa"), "key_malformed");
    assert_eq!(code(br#"{"keys":[]}"#), "key_is_public");
    // Secrets that only begin like something else.
    for secret in [
        &b"0 secret"[..],
        b"MIsecret",
        b"{not json",
        b"00112233445566778899001122334455667788990011223344",
    ] {
        assert_eq!(code(secret), "hmac", "{secret:?}");
    }
}

#[test]
fn odd_private_keys_have_their_own_codes() {
    if !openssl_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(dir, "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.pem");
    openssl(dir, "ecparam -name secp256k1 -genkey -out k1.pem");
    openssl(dir, "genpkey -algorithm ed448 -out ed448.pem");
    openssl(dir, "genpkey -algorithm x25519 -out x25519.pem");
    openssl(dir, "genrsa -out 1024.pem 1024");
    openssl(dir, "genrsa -traditional -out 1024t.pem 1024");
    openssl(dir, "genrsa -out 2047.pem 2047");
    openssl(dir, "ecparam -name prime256v1 -genkey -noout -outform DER -out p256.der");
    let code = |bytes: &[u8]| SigningKey::parse(bytes).map_or_else(|why| why.code(), |_| "ok");
    for (file, expected) in [
        ("k1.pem", "key_alg_mismatch"),
        ("ed448.pem", "key_alg_mismatch"),
        ("x25519.pem", "key_alg_mismatch"),
        ("1024.pem", "key_weak"),
        ("1024t.pem", "key_weak"),
        ("2047.pem", "key_weak"),
    ] {
        assert_eq!(code(&read(dir, file)), expected, "{file}");
    }
    let mut mixed = read(dir, "p256.der");
    let last = mixed.len() - 1;
    mixed[last] ^= 1;
    assert_eq!(code(&mixed), "key_inconsistent", "the public point is another one's");

    let pss = SigningKey::parse(&read(dir, "pss.pem")).unwrap();
    assert_eq!(pss.kind(), "RSA-PSS 2048");
    assert_eq!(pss.can_sign(Alg::Rs256).unwrap_err().code(), "key_alg_mismatch");
    assert!(accepted(&sign(&pss, Alg::Ps256), Alg::Ps256, &public(&pss)));
    let secret = SigningKey::parse(&[7; 64]).unwrap();
    assert_eq!(secret.can_sign(Alg::Rs256).unwrap_err().code(), "key_not_private_rsa");
    assert_eq!(secret.can_sign(Alg::Es256).unwrap_err().code(), "key_alg_mismatch");
}

#[test]
fn a_huge_rsa_key_is_refused_before_it_is_checked() {
    // SEQUENCE { version 0, a modulus of 16384 bits, and seven small numbers }.
    let small: Vec<u8> = [2, 1, 3].repeat(7);
    let mut body = vec![2, 1, 0, 2, 0x82, 0x08, 0x00, 0xff];
    body.extend_from_slice(&[0x55; 2047]);
    body.extend_from_slice(&small);
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let der = [&[0x30, 0x82, length[0], length[1]], body.as_slice()].concat();
    assert_eq!(SigningKey::parse(&der).unwrap_err().code(), "key_too_large");
}

proptest! {
    #[test]
    fn reading_a_key_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), label in "[A-Z ]{0,20}", body in "[A-Za-z0-9+/=\n]{0,99}") {
        let _outcome = SigningKey::parse(&bytes);
        let _outcome = SigningKey::parse(&[&[0x30, 0x82], bytes.as_slice()].concat());
        let _outcome = SigningKey::parse(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----").as_bytes());
    }
}

/// A PKCS#1 private key with this modulus, whose other numbers are of no account.
fn rsa_with(modulus: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    };
    let number = |bytes: &[u8]| wrap(0x02, &[&[0], bytes].concat());
    let rest = vec![number(&[1]); 6].concat();
    let numbers = [number(&[]), number(modulus), number(&[1, 0, 1]), rest].concat();
    wrap(0x30, &numbers)
}

#[test]
fn a_modulus_that_is_a_power_of_65537_is_weak_and_a_huge_one_is_not_tried() {
    // 65537 to the power of 128, by shifting and adding.
    let mut power = vec![1_u8];
    for _ in 0..128 {
        let mut carry = 0_u16;
        let shifted: Vec<u8> = [0, 0].into_iter().chain(power.iter().copied()).collect();
        let low = power.iter().copied().chain(std::iter::repeat(0));
        power = shifted
            .iter()
            .zip(low)
            .map(|(one, two)| {
                let sum = u16::from(*one) + u16::from(two) + carry;
                carry = sum >> 8;
                u8::try_from(sum & 0xff).unwrap()
            })
            .collect();
        assert_eq!(carry, 0);
    }
    let modulus: Vec<u8> = power.into_iter().rev().collect();
    let why = SigningKey::parse(&rsa_with(&modulus)).unwrap_err();
    assert!(why.code() == "key_weak" && why.to_string().contains("ROCA"), "{why}");
    let mut other = modulus;
    *other.last_mut().unwrap() ^= 2;
    assert_eq!(SigningKey::parse(&rsa_with(&other)).unwrap_err().code(), "key_inconsistent");
    let huge = SigningKey::parse(&rsa_with(&[0xff; 1032])).unwrap_err();
    assert_eq!(huge.code(), "key_too_large");
}
