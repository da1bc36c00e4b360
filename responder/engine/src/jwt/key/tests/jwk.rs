//! Keys as JWKs: the examples of RFC 7520 and RFC 8037, and what is no sound JWK.

use super::*;

const RSA: &[u8] = include_bytes!("../../vectors/rfc7520-3.4.json");
const EC: &[u8] = include_bytes!("../../vectors/rfc7520-3.2.json");
const OCT: &[u8] = include_bytes!("../../vectors/rfc7520-3.5.json");
const ED: &[u8] = include_bytes!("../../vectors/rfc8037-a1.json");

/// The payload of all signatures of RFC 7520, section 4.
const PAYLOAD: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

/// A signature of RFC 7520.
struct Example {
    section: &'static str,
    jwk: &'static [u8],
    alg: Alg,
    /// The protected header.
    header: &'static str,
    signature: &'static str,
    /// Whether the algorithm makes the same one each time.
    is_fixed: bool,
}

const EXAMPLES: [Example; 4] = [
    Example {
        section: "4.1",
        jwk: RSA,
        alg: Alg::Rs256,
        header: "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg",
        is_fixed: true,
    },
    Example {
        section: "4.2",
        jwk: RSA,
        alg: Alg::Ps384,
        header: "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw",
        is_fixed: false,
    },
    Example {
        section: "4.3",
        jwk: EC,
        alg: Alg::Es512,
        header: "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
        signature: "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2",
        is_fixed: false,
    },
    Example {
        section: "4.4",
        jwk: OCT,
        alg: Alg::Hs256,
        header: "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
        signature: "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
        is_fixed: true,
    },
];

#[test]
fn the_keys_of_rfc_7520_verify_its_signatures_and_make_them_where_they_are_always_the_same() {
    for Example { section, jwk, alg, header, signature, is_fixed } in EXAMPLES {
        let key = SigningKey::parse(jwk).expect(section);
        let message = format!("{header}.{PAYLOAD}");
        let theirs = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(key.verifies(alg, message.as_bytes(), &theirs), "{section}");
        for place in [0, theirs.len() / 2, theirs.len() - 1] {
            let mut spoilt = theirs.clone();
            spoilt[place] ^= 1;
            assert!(!key.verifies(alg, message.as_bytes(), &spoilt), "{section}, byte {place}");
        }
        assert!(!key.verifies(alg, format!("{message}A").as_bytes(), &theirs), "{section}");
        let mut ours = Vec::new();
        key.sign(alg, message.as_bytes(), &mut ours).unwrap();
        assert!(key.verifies(alg, message.as_bytes(), &ours), "{section}");
        assert_eq!(ours == theirs, is_fixed, "{section}");
    }
}

#[test]
fn a_jwk_is_the_same_key_as_its_pem() {
    let pem = SigningKey::parse(include_bytes!("../../vectors/rfc8037-a1.pem")).unwrap();
    let jwk = SigningKey::parse(ED).unwrap();
    assert_eq!((jwk.thumbprint(), jwk.kind()), (pem.thumbprint(), pem.kind()));
    let secret = SigningKey::parse(OCT).unwrap();
    let plain = URL_SAFE_NO_PAD.decode("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg").unwrap();
    assert_eq!(sign(&secret, Alg::Hs256), sign(&SigningKey::parse(&plain).unwrap(), Alg::Hs256));
    let kinds: Vec<String> =
        [RSA, EC, OCT, ED].map(|jwk| SigningKey::parse(jwk).unwrap().kind()).into();
    assert_eq!(kinds, ["RSA 2048", "EC P-521", "HMAC", "Ed25519"]);
}

#[test]
fn the_alg_of_a_jwk_is_the_only_one_that_it_signs_with() {
    let key = SigningKey::parse(OCT).unwrap();
    assert!(key.can_sign(Alg::Hs256).is_ok());
    let refused = key.can_sign(Alg::Hs512).unwrap_err();
    assert_eq!(refused.code(), "key_alg_mismatch");
    assert!(refused.to_string().contains("HMAC (HS256 only)"), "{refused}");
    let free = SigningKey::parse(RSA).unwrap();
    assert!(free.can_sign(Alg::Ps512).is_ok());
    assert!(!free.verifies(Alg::Hs256, b"", b""));
}

/// The document with some members set, or taken away by `null`.
fn with(jwk: &[u8], members: &[(&str, serde_json::Value)]) -> serde_json::Value {
    let mut document: serde_json::Value = serde_json::from_slice(jwk).unwrap();
    let object = document.as_object_mut().unwrap();
    for (name, value) in members {
        if value.is_null() {
            object.remove(*name).unwrap();
        } else {
            object.insert((*name).to_owned(), value.clone());
        }
    }
    document
}

fn public_of(rsa: &[u8]) -> serde_json::Value {
    let null = || serde_json::Value::Null;
    with(rsa, &["d", "p", "q", "dp", "dq", "qi"].map(|name| (name, null())))
}

fn code(text: &str) -> &'static str {
    SigningKey::parse(text.as_bytes()).map_or_else(|why| why.code(), |_| "ok")
}

#[test]
fn what_a_jwk_must_not_be_is_told_by_its_code() {
    use serde_json::json;
    let null = serde_json::Value::Null;
    let mut rsa_1024 = with(RSA, &[]);
    rsa_1024["n"] = json!(URL_SAFE_NO_PAD.encode([0xc5; 128]));
    let rows: &[(serde_json::Value, &str)] = &[
        (with(RSA, &[("use", json!("enc"))]), "key_alg_mismatch"),
        (with(RSA, &[("use", null.clone()), ("key_ops", json!(["sign"]))]), "ok"),
        (with(RSA, &[("key_ops", json!(["verify", "sign"]))]), "ok"),
        (with(RSA, &[("key_ops", json!(["verify"]))]), "key_alg_mismatch"),
        (with(RSA, &[("alg", json!("RS512"))]), "ok"),
        (with(RSA, &[("alg", json!("RSA-OAEP"))]), "key_alg_mismatch"),
        (with(RSA, &[("alg", json!("none"))]), "key_alg_mismatch"),
        (with(RSA, &[("alg", json!("ES256"))]), "key_inconsistent"),
        (with(RSA, &[("e", json!("AQ"))]), "key_weak"),
        (with(RSA, &[("e", json!("AAEAAQ"))]), "ok"),
        (public_of(RSA), "key_is_public"),
        (with(RSA, &[("q", null.clone())]), "key_malformed"),
        (with(RSA, &[("oth", json!([]))]), "key_alg_mismatch"),
        (with(RSA, &[("dp", json!("AQAB"))]), "key_inconsistent"),
        (with(RSA, &[("n", json!("n4EPtAOCc9AlkeQHPzHSt+=="))]), "key_malformed"),
        (rsa_1024, "key_weak"),
        (with(EC, &[("crv", json!("P-256"))]), "key_malformed"),
        (with(EC, &[("crv", json!("secp256k1"))]), "key_alg_mismatch"),
        (with(EC, &[("crv", null.clone())]), "key_malformed"),
        (with(EC, &[("x", json!(URL_SAFE_NO_PAD.encode([1; 66])))]), "key_inconsistent"),
        (with(EC, &[("d", json!(URL_SAFE_NO_PAD.encode([0; 66])))]), "key_inconsistent"),
        (with(ED, &[("crv", json!("X25519"))]), "key_alg_mismatch"),
        (with(ED, &[("d", json!(URL_SAFE_NO_PAD.encode([1; 32])))]), "key_inconsistent"),
        (with(ED, &[("x", null.clone())]), "key_malformed"),
        (with(OCT, &[("k", json!(""))]), "key_weak"),
        (with(OCT, &[("k", null.clone())]), "key_is_public"),
        (with(RSA, &[("d", null)]), "key_malformed"),
        (with(RSA, &[("d", json!(URL_SAFE_NO_PAD.encode([1; 300])))]), "key_inconsistent"),
        (with(OCT, &[("k", json!(5))]), "key_malformed"),
        (with(OCT, &[("kty", json!("oct2")), ("d", json!("AA"))]), "key_alg_mismatch"),
        (json!({"kty": ["RSA"]}), "key_malformed"),
        (json!({"keys": 5}), "key_malformed"),
    ];
    for (document, expected) in rows {
        assert_eq!(code(&document.to_string()), *expected, "{document}");
    }
    let twice =
        String::from_utf8(OCT.to_vec()).unwrap().replace("\"kty\"", "\"k\": \"AAAA\", \"kty\"");
    assert_eq!(code(&twice), "key_malformed", "a member that stands twice");
    let escaped = String::from_utf8(OCT.to_vec()).unwrap().replace("hJtX", "h\\u004atX");
    assert_eq!(code(&escaped), "key_malformed", "escapes");
    let text = String::from_utf8(RSA.to_vec()).unwrap();
    assert_eq!(code(&STANDARD.encode(&text)), "key_malformed", "encoded twice");
    assert_eq!(
        code(&format!("\"{}\"", text.replace('"', "\\\""))),
        "key_malformed",
        "text in text"
    );
    assert_eq!(code(&format!("[{text}]")), "key_malformed", "a list");
    assert_eq!(code(&text.replace("kty", "\\u006bty")), "key_malformed", "an escaped name");
    assert_eq!(code(r#"{"client_secret": "something else"}"#), "key_malformed", "other JSON");
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(SigningKey::parse(&utf16).is_err());
    assert_eq!(code(&format!("\u{feff} {text}\n")), "ok", "byte order mark and white space");
    assert_eq!(code(&"[".repeat(100_000)), "ok", "no JWK, but an HMAC secret");
    assert_eq!(code(&format!("{{\"kty\":{}", "[".repeat(100_000))), "key_malformed", "depth");
}

#[test]
fn of_a_set_the_one_private_key_counts() {
    use serde_json::json;
    let public = public_of(RSA);
    let half = with(RSA, &[("d", serde_json::Value::Null)]);
    let set = |keys: &[serde_json::Value]| json!({"keys": keys}).to_string();
    let (rsa, oct) = (with(RSA, &[]), with(OCT, &[]));
    assert_eq!(code(&set(&[public.clone(), rsa.clone()])), "ok");
    assert_eq!(code(&set(std::slice::from_ref(&public))), "key_is_public");
    assert_eq!(code(&set(&[])), "key_is_public");
    assert_eq!(code(&set(&[with(OCT, &[]), half])), "key_ambiguous", "a private part is private");
    assert_eq!(code(&set(&[rsa.clone(), oct.clone()])), "key_ambiguous");
    assert_eq!(
        code(&set(&[public, oct.clone()])),
        "key_malformed",
        "a secret beside what is published"
    );
    assert_eq!(code(&set(std::slice::from_ref(&oct))), "ok");
    assert_eq!(code(&set(&[oct.clone(), oct])), "key_ambiguous", "also when they are the same");
    assert_eq!(code(&set(&[json!({"kty": "RSA", "n": 5}), rsa])), "key_malformed");
}

/// What a writer that dies, or a disk that is full, leaves of a file; also behind what was lost of its beginning.
#[test]
fn no_part_of_a_jwk_is_taken_for_an_hmac_secret() {
    for jwk in [RSA, EC, OCT, ED] {
        // Members in the order of their names, in which private ones come early, and in that of the example.
        let sorted = with(jwk, &[]).to_string().into_bytes();
        for text in [sorted.as_slice(), jwk.trim_ascii()] {
            for cut in 0..text.len() {
                for part in [&text[..cut], &text[cut..]] {
                    let is_one = SigningKey::parse(part).is_ok_and(|key| key.is_hmac());
                    // What is left has more than a single value in it.
                    let quotes = part.contains(&b'"') && part.len() < text.len();
                    assert!(!is_one || !quotes, "{}", String::from_utf8_lossy(part));
                }
            }
        }
    }
}

#[test]
fn the_text_of_a_jwk_is_not_the_secret() {
    assert!(SigningKey::parse(b"a secret of at least thirty-two bytes").unwrap().is_text());
    assert!(!SigningKey::parse(OCT).unwrap().is_text());
    assert!(!SigningKey::parse(RSA).unwrap().is_text());
}
