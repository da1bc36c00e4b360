//! Tokens and keys that cannot, or must not, be signed.

use std::fs;

use harness::has_openssl;
use http::{HeaderMap, HeaderValue, Method};

use super::*;

const SECRET: &[u8] = b"a secret that is long enough for HS256";

fn hs256(name: &str, token: String) -> Case {
    Case::new(name, token, SECRET)
}

/// Serves tokens that are all left as they were recorded, for this reason.
async fn left(code: &str, tokens: &[(&str, String)]) {
    let cases = tokens.iter().map(|(name, token)| hs256(name, token.clone())).collect();
    let world = World::serve(cases).await;
    for (name, _) in tokens {
        world.unchanged(name, code).await;
    }
    drop(world.end().await);
}

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
async fn j01_alg_none_or_missing_is_never_signed() {
    let headers = [
        ("none", r#"{"alg":"none"}"#),
        ("upper", r#"{"alg":"None"}"#),
        ("caps", r#"{"alg":"NONE"}"#),
        ("mixed", r#"{"alg":"nOnE"}"#),
        ("empty", r#"{"alg":""}"#),
        ("missing", r#"{"typ":"JWT"}"#),
        ("number", r#"{"alg":5}"#),
        ("array", r#"{"alg":["RS256"]}"#),
    ];
    left("alg_not_allowed", &headers.map(|(name, header)| (name, token(header, TIMES)))).await;
}

#[tokio::test]
async fn j02_members_that_stand_twice_are_refused() {
    let twice = [
        ("alg", token(r#"{"alg":"none","alg":"HS256"}"#, TIMES)),
        ("escaped", token(r#"{"alg":"HS256","\u0061lg":"none"}"#, TIMES)),
        ("claim", token(r#"{"alg":"HS256"}"#, r#"{"sub":"a","sub":"b"}"#)),
    ];
    left("jwt_duplicate_member", &twice).await;
}

#[tokio::test]
async fn j03_an_hmac_token_is_not_signed_with_the_text_of_another_key() {
    if !has_openssl() {
        return;
    }
    let (private, public) = pair("genrsa 2048");
    let certificate = openssl_certificate();
    refused(&[
        ("private", "HS256", private.clone(), "key_alg_mismatch"),
        ("der", "HS256", convert(&private, "pkey -outform DER"), "key_alg_mismatch"),
        ("public", "HS256", public.into_bytes(), "key_is_public"),
        ("certificate", "HS256", certificate, "key_is_certificate"),
        ("jwk", "HS256", br#"{"kty":"oct","k":"AAAA"}"#.to_vec(), "key_malformed"),
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

#[tokio::test]
async fn j09_keys_work_in_the_forms_that_tools_write() {
    if !has_openssl() {
        return;
    }
    let (pkcs8, public) = pair("genrsa 2048");
    let text = String::from_utf8(pkcs8.clone()).unwrap();
    let bundle = [openssl_certificate(), pkcs8.clone()].concat();
    let forms = [
        ("pkcs1", convert(&pkcs8, "rsa -traditional")),
        ("der1", convert(&pkcs8, "rsa -traditional -outform DER")),
        ("der8", convert(&pkcs8, "pkey -outform DER")),
        ("crlf", text.replace('\n', "\r\n").into_bytes()),
        ("bom", [&b"\xef\xbb\xbf"[..], &pkcs8].concat()),
        ("bundle", bundle),
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

#[tokio::test]
async fn j18_other_forms_of_tokens_are_left_alone() {
    let detached = {
        let whole = of_alg("HS256");
        let parts: Vec<&str> = whole.split('.').collect();
        format!("{}..{}", parts[0], parts[2])
    };
    let header = |more: &str| format!(r#"{{"alg":"HS256",{more}}}"#);
    let forms = [
        (
            "jwe",
            format!(
                "{}.a.b.c.d",
                URL_SAFE_NO_PAD.encode(
                    r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483648,"zip":"DEF"}"#
                )
            ),
        ),
        ("nested", token(&header(r#""cty":"JWT""#), TIMES)),
        ("json", r#"{"payload":"e30","signatures":[]}"#.to_owned()),
        ("detached", detached),
        ("b64", token(&header(r#""b64":false"#), TIMES)),
        ("crit", token(&header(r#""crit":["exp"]"#), TIMES)),
    ];
    left("jwt_form_unsupported", &forms).await;
}

#[tokio::test]
async fn j19_texts_that_almost_are_tokens_are_refused_at_once() {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let world = World::serve(vec![
        hs256("dots", ".".repeat(1 << 20)),
        hs256("one", header.clone()),
        hs256("four", format!("{header}.e30.c2ln.c2ln")),
        hs256("unsigned", format!("{header}.e30.")),
        hs256("many", format!("{header}{}", ".e30".repeat(10_000))),
    ])
    .await;
    for (case, code) in [
        ("dots", "limit_exceeded"),
        ("one", "jwt_malformed"),
        ("four", "jwt_malformed"),
        ("unsigned", "jwt_malformed"),
        ("many", "jwt_malformed"),
    ] {
        world.unchanged(case, code).await;
    }
    drop(world.end().await);
}

#[tokio::test]
async fn j20_base64_that_is_not_base64url_is_refused() {
    let whole = of_alg("HS256");
    let parts: Vec<&str> = whole.split('.').collect();
    let with = |claims: &str| format!("{}.{claims}.{}", parts[0], parts[2]);
    let texts = [
        ("padded", with(&format!("{}==", parts[1]))),
        ("plus", with("e+/0")),
        ("space", with(&format!("{} ", parts[1]))),
        ("line", with(&format!("{}\n", parts[1]))),
        ("question", with(&format!("?{}", parts[1]))),
        // `{}` is e30; e31 has bits that stand for nothing.
        ("spare", with("e31")),
    ];
    left("jwt_malformed", &texts).await;
}

#[tokio::test]
async fn j21_claims_that_are_not_rewritten_keep_their_spelling() {
    let claims = r#"{"sub":"a","iat":1700000000,"exp":1700000600,"big":12345678901234567890123,"huge":1e400,"nbf":null,"low":-1,"f":1.50,"e":"\u0041"}"#;
    let world = World::serve(vec![
        hs256("kept", token(r#"{"alg":"HS256"}"#, claims)),
        hs256("text", token(r#"{"alg":"HS256"}"#, r#"{"exp":"123","iat":-5}"#)),
    ])
    .await;
    let claims_of = |token: &str| {
        let part = token.split('.').nth(1).unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let kept = claims_of(&world.token("kept").await);
    for part in [
        r#""big":12345678901234567890123"#,
        r#""huge":1e400"#,
        r#""nbf":null"#,
        r#""low":-1"#,
        r#""f":1.50"#,
        r#""e":"\u0041""#,
    ] {
        assert!(kept.contains(part), "{part} in {kept}");
    }
    let (begin, end) = (number(&kept, "iat"), number(&kept, "exp"));
    assert!(end - begin == 600 && begin > 1_700_000_000, "{kept}");
    // A time that was a text stays one.
    assert!(claims_of(&world.token("text").await).contains(r#""exp":""#));
    drop(world.end().await);
}

fn number(claims: &str, name: &str) -> i64 {
    let (_, rest) = claims.split_once(&format!("\"{name}\":")).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn j22_tokens_that_are_deep_wide_or_long_are_left_alone() {
    let header = r#"{"alg":"HS256"}"#;
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let wide: Vec<String> = (0..12_000).map(|n| n.to_string()).collect();
    let wide = format!(r#"{{"a":[{}]}}"#, wide.join(","));
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(64 * 1024));
    let texts = [("deep", deep), ("wide", wide), ("long", long)];
    left("limit_exceeded", &texts.map(|(name, claims)| (name, token(header, &claims)))).await;
}

#[tokio::test]
async fn j23_placeholders_in_a_token_are_text() {
    let claims = r#"{"sub":"${{secret:keys/placed}} ${{env_var:HOME}} ${{file:/etc/passwd}}","iat":1700000000,"exp":1700000600}"#;
    let world = World::serve(vec![hs256("placed", token(r#"{"alg":"HS256"}"#, claims))]).await;
    let served = world.token("placed").await;
    assert!(verifies(&served, SECRET));
    let part = URL_SAFE_NO_PAD.decode(served.split('.').nth(1).unwrap()).unwrap();
    let text = String::from_utf8(part).unwrap();
    assert!(
        text.contains("${{secret:keys/placed}} ${{env_var:HOME}} ${{file:/etc/passwd}}"),
        "{text}"
    );
    drop(world.end().await);
}

#[tokio::test]
async fn j24_a_placeholder_that_means_nothing_is_refused_at_upload() {
    let config = json!({"secretPath": "${{sceret:a/b}}"});
    refused_at_upload(&config, "secret_path_malformed", "secretPath").await;
}

#[tokio::test]
async fn j25_a_clock_that_is_far_off_does_not_end_signing() {
    // The replay's own clock stands for the machine's, which tests cannot set.
    let ranges = [("past", -3_000_000_000_i64), ("future", 7_000_000_000)];
    let cases = ranges.map(|(name, far)| {
        let claims = json!({"sub": "a", "iat": far, "exp": far + 600}).to_string();
        hs256(name, token(r#"{"alg":"HS256"}"#, &claims))
    });
    let world = World::serve(cases.to_vec()).await;
    for (name, _) in ranges {
        world.signed(name, SECRET).await;
        let one = world.token(name).await;
        let claims = URL_SAFE_NO_PAD.decode(one.split('.').nth(1).unwrap()).unwrap();
        let claims = String::from_utf8(claims).unwrap();
        assert_eq!(number(&claims, "exp") - number(&claims, "iat"), 600, "{claims}");
        assert!((number(&claims, "iat") - harness::now()).abs() <= 60, "{claims}");
    }
    drop(world.end().await);
}

#[tokio::test]
async fn j26_costly_signatures_do_not_keep_other_routes_waiting() {
    if !has_openssl() {
        return;
    }
    let (key, public) = pair("genrsa 4096");
    let world = World::serve(vec![Case::new("costly", of_alg("RS256"), &key)]).await;
    let asked = futures_util::future::join_all((0..200).map(|_| world.client.get("/costly"))).await;
    assert!(asked.iter().all(|answer| answer.status == 200 || answer.status == 503));
    assert!(asked.iter().any(|answer| answer.status == 200));
    world.signed_by("costly", "RS256", &public).await;
    // That the probe was served meanwhile is seen at the end.
    drop(world.end().await);
}

#[tokio::test]
async fn j27_urls_in_a_token_are_never_followed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/k", listener.local_addr().unwrap());
    let header = json!({"alg": "HS256", "jku": url, "x5u": url, "kid": url}).to_string();
    let world = World::serve(vec![hs256("urls", token(&header, TIMES))]).await;
    world.signed("urls", SECRET).await;
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(world.end().await);
}

#[tokio::test]
async fn j28_a_kid_is_compared_and_nothing_else() {
    let with = |kid: Value| token(&json!({"alg": "HS256", "kid": kid}).to_string(), TIMES);
    let good = [
        ("path", with(json!("../../etc/passwd"))),
        ("number", with(json!(7))),
        ("nul", with(json!("a\0b"))),
        ("line", with(json!("a\nb"))),
        ("sql", with(json!("' or 1=1 --"))),
    ];
    let mut cases: Vec<Case> =
        good.iter().map(|(name, token)| hs256(name, token.clone())).collect();
    cases.push(hs256("long", with(json!("x".repeat(5_000)))));
    let world = World::serve(cases).await;
    for (name, _) in &good {
        // Not every verifier reads a `kid` that is a number, which is left as it was.
        world.signed_by(name, "HS256", std::str::from_utf8(SECRET).unwrap()).await;
    }
    world.unchanged("long", "limit_exceeded").await;
    drop(world.end().await);
}

#[tokio::test]
async fn j29_many_requests_with_many_tokens_leave_nothing_behind() {
    let world = World::serve(vec![hs256("login", of_alg("HS256"))]).await;
    let ask = async |from: usize| {
        let asked = (from..from + 500).map(|nth| {
            let mut headers = HeaderMap::new();
            let bearer =
                format!("Bearer {}", token(r#"{"alg":"HS256"}"#, &json!({"sub": nth}).to_string()));
            headers.insert("authorization", HeaderValue::from_str(&bearer).unwrap());
            world.client.send(Method::GET, "/login", headers, Default::default())
        });
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
    };
    ask(0).await;
    let before = resident(&world).await;
    for round in 1..8 {
        ask(round * 500).await;
    }
    let after = resident(&world).await;
    assert!(after < before + 16 * 1024 * 1024, "{before} bytes became {after}");
    drop(world.end().await);
}

/// How much memory the responder has, by its own metrics.
async fn resident(world: &World) -> u64 {
    let pid = world.responder.id();
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test]
async fn j30_what_stands_before_a_token_stays_as_it_is() {
    let bare = of_alg("HS256");
    let cases = vec![
        hs256("bearer", format!("Bearer {bare}")),
        hs256("old", format!("JWTBearer {bare}")),
        hs256("double", format!("Bearer  {bare}")),
        hs256("two", format!("Bearer {bare} {bare}")),
    ];
    let world = World::serve(cases).await;
    for (case, prefix) in [("bearer", "Bearer "), ("old", "JWTBearer ")] {
        let served = world.token(case).await;
        let token = served.strip_prefix(prefix).unwrap();
        assert!(verifies(token, SECRET), "{case}: {served}");
    }
    for case in ["double", "two"] {
        let served = world.token(case).await;
        assert_eq!(served, world.recorded(case), "{case}");
    }
    drop(world.end().await);
}
