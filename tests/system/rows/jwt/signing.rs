//! Keys that are something else than they should be, weak or damaged, and the forms in which good ones come.

use super::*;

/// Serves tokens of these algorithms with keys that are no good for them.
async fn refused(rows: &[(&str, &str, Vec<u8>, &str)]) {
    let cases = rows.iter().map(|(name, alg, key, _)| Case::new(name, of_alg(alg), key)).collect();
    let world = World::serve(cases).await;
    for (name, _, _, code) in rows {
        world.unchanged(name, code).await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn j03_an_hmac_token_is_not_signed_with_the_text_of_another_key() {
    if !has_openssl() {
        return;
    }
    let (private, public) = pair("genrsa 2048");
    let certificate = openssl_certificate();
    // A file that holds no private key of any kind is told as what it is, whatever the token asks for: that is what has to be put right.
    refused(&[
        ("private", "HS256", private.clone(), "key_alg_mismatch"),
        ("der", "HS256", convert(&private, "pkey -outform DER"), "key_alg_mismatch"),
        ("public", "HS256", public.into_bytes(), "key_is_public"),
        ("certificate", "HS256", certificate, "key_is_certificate"),
        ("jwk", "HS256", br#"{"kty":"oct","k":"A+=="}"#.to_vec(), "key_malformed"),
    ])
    .await;
}

fn openssl_certificate() -> Vec<u8> {
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=a -keyout /dev/null";
    openssl(&words.split(' ').collect::<Vec<_>>())
}

#[tokio::test]
async fn j04_an_rsa_token_is_not_signed_with_random_bytes() {
    let random: Vec<u8> = (0..64_u8).map(|nth| nth.wrapping_mul(37) ^ 0xa5).collect();
    refused(&[("random", "RS256", random, "key_not_private_rsa")]).await;
}

#[tokio::test]
async fn j05_a_certificate_is_told_from_its_key() {
    let world =
        World::serve(vec![Case::new("tls.crt", of_alg("RS256"), &openssl_certificate())]).await;
    world.unchanged("tls.crt", "key_is_certificate").await;
    let found = world.findings("key_is_certificate").await;
    assert!(found[0]["message"].as_str().unwrap().contains("tls.key"), "{found:?}");
    drop(world.end().await);
}

#[tokio::test]
async fn j06_a_public_key_signs_nothing() {
    if !has_openssl() {
        return;
    }
    let (_, rsa) = pair("genrsa 2048");
    let (_, ec) = pair("ecparam -name prime256v1 -genkey -noout");
    refused(&[
        ("rsa", "RS256", rsa.into_bytes(), "key_is_public"),
        ("ec", "ES256", ec.into_bytes(), "key_is_public"),
    ])
    .await;
}

#[tokio::test]
async fn j07_an_encrypted_key_is_named_as_such() {
    if !has_openssl() {
        return;
    }
    let (private, _) = pair("genrsa 2048");
    let pkcs8 = convert(&private, "pkcs8 -topk8 -passout pass:x");
    let old = convert(&private, "rsa -traditional -aes128 -passout pass:x");
    refused(&[("pkcs8", "RS256", pkcs8, "key_encrypted"), ("old", "RS256", old, "key_encrypted")])
        .await;
}

#[tokio::test]
async fn j08_sec1_keys_work_with_and_without_parameters() {
    if !has_openssl() {
        return;
    }
    let with = openssl(&["ecparam", "-name", "prime256v1", "-genkey"]);
    let public = String::from_utf8(convert(&with, "pkey -pubout")).unwrap();
    let text = String::from_utf8(with.clone()).unwrap();
    let start = text.find("-----BEGIN EC PRIVATE KEY-----").unwrap();
    assert!(start > 0, "openssl wrote the parameters first");
    let without = text.as_bytes()[start..].to_vec();
    let world = World::serve(vec![
        Case::new("with", of_alg("ES256"), &with),
        Case::new("without", of_alg("ES256"), &without),
    ])
    .await;
    for case in ["with", "without"] {
        world.signed_by(case, "ES256", &public).await;
    }
    drop(world.end().await);
}

/// What Node.js makes of a private key.
fn jwk_of(pem: &[u8]) -> String {
    const SCRIPT: &str = "console.log(JSON.stringify(require('crypto').createPrivateKey(process.env.KEY).export({format: 'jwk'})))";
    let pem = String::from_utf8(pem.to_vec()).unwrap();
    let out = Command::new("node").args(["-e", SCRIPT]).env("KEY", pem).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn j09_keys_work_in_the_forms_that_tools_write() {
    if !has_openssl() {
        return;
    }
    let (pkcs8, public) = pair("genrsa 2048");
    let text = String::from_utf8(pkcs8.clone()).unwrap();
    // Of several blocks exactly one may be a private key.
    let bundle = [openssl_certificate(), pkcs8.clone()].concat();
    let jwk = jwk_of(&pkcs8);
    let forms = [
        ("pkcs1", convert(&pkcs8, "rsa -traditional")),
        ("der1", convert(&pkcs8, "rsa -traditional -outform DER")),
        ("der8", convert(&pkcs8, "pkey -outform DER")),
        ("crlf", text.replace('\n', "\r\n").into_bytes()),
        ("bom", [&b"\xef\xbb\xbf"[..], &pkcs8].concat()),
        ("bundle", bundle),
        ("jwks", format!("{{\"keys\": [{jwk}]}}").into_bytes()),
        ("jwk", jwk.into_bytes()),
    ];
    let mut cases: Vec<Case> =
        forms.iter().map(|(name, key)| Case::new(name, of_alg("RS256"), key)).collect();
    let two = [pkcs8, pair("genrsa 2048").0].concat();
    cases.push(Case::new("two", of_alg("RS256"), &two));
    let world = World::serve(cases).await;
    for (name, _) in &forms {
        world.signed_by(name, "RS256", &public).await;
    }
    world.unchanged("two", "key_ambiguous").await;
    drop(world.end().await);
}

#[tokio::test]
async fn j10_damaged_keys_are_refused_with_a_guess() {
    if !has_openssl() {
        return;
    }
    let (key, _) = pair("genrsa 2048");
    let doubled = base64::engine::general_purpose::STANDARD.encode(&key).into_bytes();
    let rows = [
        ("cut", "RS256", key[..key.len() / 2].to_vec(), "key_malformed"),
        ("doubled", "RS256", doubled, "key_malformed"),
        ("trailing", "RS256", [&key[..], b"garbage"].concat(), "key_malformed"),
    ];
    let cases = rows.iter().map(|(name, alg, key, _)| Case::new(name, of_alg(alg), key)).collect();
    let world = World::serve(cases).await;
    for (name, _, _, code) in &rows {
        world.unchanged(name, code).await;
    }
    let found = world.findings("key_malformed").await;
    assert!(found.iter().any(|f| f["message"].as_str().unwrap().contains("encoded twice")));
    drop(world.end().await);
}

#[tokio::test]
async fn j11_weak_and_huge_rsa_keys_are_refused() {
    if !has_openssl() {
        return;
    }
    let rows = [
        ("small", "RS256", pair("genrsa 1024").0, "key_weak"),
        ("huge", "RS256", huge_rsa(), "key_too_large"),
    ];
    refused(&rows).await;
}

/// A PKCS#1 key of 8256 bits; that its numbers are no key is not looked at any more.
fn huge_rsa() -> Vec<u8> {
    let wrap = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, content].concat()
    };
    let number = |bytes: &[u8]| wrap(0x02, &[&[0], bytes].concat());
    let rest = vec![number(&[1]); 6].concat();
    wrap(0x30, &[number(&[]), number(&[0xff; 1032]), number(&[1, 0, 1]), rest].concat())
}

#[tokio::test]
async fn j12_a_key_for_pss_only_does_not_sign_pkcs1() {
    if !has_openssl() {
        return;
    }
    let (key, public) = pair("genpkey -algorithm rsa-pss -pkeyopt rsa_keygen_bits:2048");
    let cases =
        vec![Case::new("rs", of_alg("RS256"), &key), Case::new("ps", of_alg("PS256"), &key)];
    let world = World::serve(cases).await;
    world.unchanged("rs", "key_alg_mismatch").await;
    let token = world.token("ps").await;
    assert_ne!(token, world.recorded("ps"), "{public}");
    drop(world.end().await);
}

#[tokio::test]
async fn j13_a_curve_signs_its_own_algorithm_only() {
    if !has_openssl() {
        return;
    }
    let ec = |curve: &str| pair(&format!("ecparam -name {curve} -genkey -noout"));
    let (p521, public) = ec("secp521r1");
    let world = World::serve(vec![
        Case::new("p384", of_alg("ES256"), &ec("secp384r1").0),
        Case::new("p521", of_alg("ES256"), &p521),
        Case::new("k256", of_alg("ES256"), &ec("secp256k1").0),
        Case::new("es512", of_alg("ES512"), &p521),
    ])
    .await;
    for case in ["p384", "p521", "k256"] {
        world.unchanged(case, "key_alg_mismatch").await;
    }
    world.signed_by("es512", "ES512", &public).await;
    drop(world.end().await);
}

#[tokio::test]
async fn j14_a_key_whose_halves_do_not_fit_is_refused_when_it_is_read() {
    if !has_openssl() {
        return;
    }
    let halves = |make: &str| [0, 1].map(|_| convert(&pair(make).0, "pkey -outform DER"));
    let [mut one, other] = halves("ecparam -name prime256v1 -genkey -noout");
    // The point is the last 64 bytes.
    let at = one.len() - 64;
    one[at..].copy_from_slice(&other[other.len() - 64..]);
    let mut off = other;
    let last = off.len() - 1;
    off[last] ^= 1;
    refused(&[
        ("mixed", "ES256", one, "key_inconsistent"),
        ("off", "ES256", off, "key_inconsistent"),
    ])
    .await;
}

#[tokio::test]
async fn j15_short_hmac_secrets_are_refused_unless_they_are_allowed() {
    let cases = vec![
        hs256("empty", of_alg("HS256")).with("allowWeakKeys", "true"),
        hs256("one", of_alg("HS256")),
        hs256("short", of_alg("HS256")),
        hs256("shorter", of_alg("HS512")),
        hs256("allowed", of_alg("HS256")).with("allowWeakKeys", "true"),
    ];
    let keys: [&[u8]; 5] = [b"", b"1", &[b'x'; 31], &[b'x'; 63], b"short"];
    let cases = cases.into_iter().zip(keys);
    let cases = cases.map(|(case, key)| Case { key: Some(key.to_vec()), ..case }).collect();
    let world = World::serve(cases).await;
    for case in ["empty", "one", "short", "shorter"] {
        world.unchanged(case, "key_weak").await;
    }
    world.signed("allowed", b"short").await;
    world.told("allowed", "key_weak").await;
    drop(world.end().await);
}

#[tokio::test]
async fn j16_a_line_feed_at_the_end_of_a_secret_is_part_of_it_and_told() {
    let file = [SECRET, b"\n"].concat();
    let world = World::serve(vec![
        Case::new("exact", of_alg("HS256"), &file),
        Case::new("trimmed", of_alg("HS256"), &file).with("trim", "trailing_newline"),
    ])
    .await;
    world.signed("exact", &file).await;
    world.signed("trimmed", SECRET).await;
    world.told("exact", "key_weak").await;
    let found = world.findings("key_weak").await;
    assert!(found[0]["message"].as_str().unwrap().contains("line feed"), "{found:?}");
    drop(world.end().await);
}

#[tokio::test]
async fn j17_ed448_is_no_key_for_eddsa_here_and_the_new_name_of_ed25519_is_known() {
    if !has_openssl() {
        return;
    }
    let (key, public) = pair("genpkey -algorithm ed25519");
    let world = World::serve(vec![
        Case::new("ed448", of_alg("EdDSA"), &pair("genpkey -algorithm ed448").0),
        Case::new("eddsa", of_alg("EdDSA"), &key),
        Case::new("ed25519", of_alg("Ed25519"), &key),
    ])
    .await;
    world.unchanged("ed448", "key_alg_mismatch").await;
    world.signed_by("eddsa", "EdDSA", &public).await;
    // PyJWT does not know the name yet, so that only the change is seen.
    let token = world.token("ed25519").await;
    assert_ne!(token, world.recorded("ed25519"));
    drop(world.end().await);
}
