//! Tokens with their times moved: bytes in, bytes out.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::{SigningKey, TokenSlot};
use crate::{diagnostic::Diagnostics, jwt::ResignConfig};

const NOW: i64 = 1_800_000_000;

fn config(settings: &[(&str, &str)]) -> Arc<ResignConfig> {
    let mut all: BTreeMap<String, String> =
        settings.iter().map(|(k, v)| (k.to_ascii_lowercase(), (*v).to_owned())).collect();
    all.insert("secretpath".to_owned(), "a/b".to_owned());
    let mut found = Diagnostics::default();
    let config = ResignConfig::parse(&all, "c", &mut found);
    assert_eq!(found.into_vec(), []);
    Arc::new(config.unwrap())
}

fn token(header: &str, claims: &str) -> String {
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn render(token: &str, settings: &[(&str, &str)], key: &[u8]) -> String {
    let slot =
        TokenSlot::new(token.as_bytes(), &config(settings), Some(1_700_000_500 * 1_000_000_000))
            .unwrap();
    let mut out = Vec::new();
    slot.render(NOW, &SigningKey::parse(key).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Header and claims of the re-signed token.
fn parts(token: &str, settings: &[(&str, &str)]) -> (String, String) {
    let out = render(token, settings, &[7; 64]);
    let mut parts = out
        .split('.')
        .map(|part| String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(part).unwrap()).into_owned());
    (parts.next().unwrap(), parts.next().unwrap())
}

fn claims(recorded: &str, settings: &[(&str, &str)]) -> String {
    parts(&token(r#"{"alg":"HS256"}"#, recorded), settings).1
}

const CLAIMS: &str = r#"{ "b":1.0, "iat":1700000000, "exp" : 1700003600.25, "nbf":"1699999990","auth_time":1699990000, "updated_at":1600000000, "sub":"a" }"#;

#[test]
fn shift_moves_time_claims_and_nothing_else() {
    assert_eq!(
        claims(CLAIMS, &[]),
        r#"{ "b":1.0, "iat":1800000000, "exp" : 1800003600.25, "nbf":"1799999990","auth_time":1799990000, "updated_at":1600000000, "sub":"a" }"#
    );
}

#[test]
fn fixed_is_what_the_incumbent_does() {
    assert_eq!(
        claims(r#"{"iat":1,"exp":2,"nbf":3,"auth_time":4}"#, &[("timeClaims", "fixed")]),
        r#"{"iat":1800000000,"exp":1800172800,"nbf":1444435200,"auth_time":4}"#
    );
    assert_eq!(
        claims(r#"{"sub":"a"}"#, &[("timeClaims", "fixed")]),
        r#"{"sub":"a"}"#,
        "only what is there"
    );
}

#[test]
fn without_iat_the_recorded_moment_stands_in() {
    assert_eq!(claims(r#"{"exp":1700000800}"#, &[]), r#"{"exp":1800000300}"#);
}

#[test]
fn expires_in_sets_or_adds_the_expiry() {
    assert_eq!(
        claims(r#"{"iat":1700000000,"exp":1700003600}"#, &[("expiresIn", "15m")]),
        r#"{"iat":1800000000,"exp":1800000900}"#
    );
    assert_eq!(claims("{}", &[("expiresIn", "60")]), r#"{"exp":1800000060}"#);
}

#[test]
fn configured_claims_win_and_keep_the_recorded_type() {
    let settings = [("iss", "me"), ("claims", "exp=99,admin=true,aud=x,n=5,name=7,new=1,nbf=3")];
    assert_eq!(
        claims(r#"{"iss":"you","exp":1,"admin":false,"aud":["a"],"n":1,"name":"b"}"#, &settings),
        r#"{"iss":"me","exp":99,"admin":true,"aud":"x","n":5,"name":"7","new":"1","nbf":3}"#
    );
}

#[test]
fn header_changes_only_by_config() {
    let recorded = token(r#"{ "typ":"JWT", "alg":"HS256", "jku":"https://x" }"#, "{}");
    assert_eq!(parts(&recorded, &[]).0, r#"{ "typ":"JWT", "alg":"HS256", "jku":"https://x" }"#);
    assert_eq!(
        parts(&recorded, &[("kid", "k\"1"), ("alg", "HS512")]).0,
        r#"{ "typ":"JWT", "alg":"HS512", "jku":"https://x" ,"kid":"k\"1"}"#
    );
}

#[test]
fn prefixes_are_kept_and_others_are_no_tokens() {
    let recorded = token(r#"{"alg":"HS256"}"#, "{}");
    for prefix in ["", "Bearer ", "JWTBearer "] {
        assert!(
            render(&format!("{prefix}{recorded}"), &[], &[7; 64])
                .starts_with(&format!("{prefix}eyJ"))
        );
    }
    let slot = TokenSlot::new(format!("bearer {recorded}").as_bytes(), &config(&[]), None);
    assert_eq!(slot.unwrap_err().code(), "not_a_jwt");
}

#[test]
fn match_alg_leaves_other_tokens_alone() {
    let recorded = token(r#"{"alg":"HS256"}"#, "{}");
    let code = |alg| {
        TokenSlot::new(recorded.as_bytes(), &config(&[("matchAlg", alg)]), None)
            .map_or_else(|why| why.code(), |_| "ok")
    };
    assert_eq!((code("HS256"), code("RS256")), ("ok", "alg_filtered"));
}

#[test]
fn odd_dates_are_left_alone_or_saturate() {
    let odd = r#"{"iat":null,"exp":1e400,"nbf":12345678901234567890123}"#;
    assert_eq!(claims(odd, &[]), odd);
    assert_eq!(
        claims(r#"{"iat":-9223372036854775808,"exp":9223372036854775807}"#, &[]),
        format!(r#"{{"iat":{NOW},"exp":{}}}"#, i64::MAX)
    );
}

#[test]
fn tells_how_the_lifetime_changes() {
    let change = |settings: &[(&str, &str)]| {
        TokenSlot::new(
            token(r#"{"alg":"HS256"}"#, r#"{"iat":100,"exp":3700}"#).as_bytes(),
            &config(settings),
            None,
        )
        .unwrap()
        .lifetime_change()
    };
    assert_eq!(change(&[]), Some(0));
    assert_eq!(change(&[("expiresIn", "900")]), Some(-2700));
    assert_eq!(change(&[("timeClaims", "fixed")]), Some(172_800 - 3600));
    assert_eq!(change(&[("claims", "exp=99")]), None);
}

#[test]
fn a_key_that_does_not_fit_leaves_nothing_behind() {
    let slot =
        TokenSlot::new(token(r#"{"alg":"RS256"}"#, "{}").as_bytes(), &config(&[]), None).unwrap();
    let mut out = b"before".to_vec();
    assert_eq!(
        slot.render(NOW, &SigningKey::parse(&[7; 64]).unwrap(), &mut out).unwrap_err().code(),
        "key_not_private_rsa"
    );
    assert_eq!(out, b"before");
}

/// RFC 7515, appendix A.1 and A.2: kept as it is and signed with the key of the example, a token comes out byte for byte.
#[test]
fn reproduces_the_examples_of_rfc_7515() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let a1 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    let secret = URL_SAFE_NO_PAD.decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow").unwrap();
    assert_eq!(render(&a1, &[("timeClaims", "keep")], &secret), a1);
    let a2 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{claims}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    assert_eq!(
        render(&a2, &[("timeClaims", "keep")], include_bytes!("../vectors/rfc7515-a2.pem")),
        a2
    );
}

/// RFC 7515, appendix A.3: ECDSA signatures differ each time, so the public key of the example has to accept ours.
#[test]
fn a_verifier_of_rfc_7515_a_3_accepts_our_signature() {
    let a3 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let key = jsonwebtoken::DecodingKey::from_ec_components(
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    )
    .unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    rules.validate_exp = false;
    for token in [
        a3.to_owned(),
        render(a3, &[("timeClaims", "keep")], include_bytes!("../vectors/rfc7515-a3.pem")),
    ] {
        let claims =
            jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).unwrap().claims;
        assert_eq!(claims["iss"], "joe");
    }
}

#[test]
fn a_slot_prints_nothing_of_its_token() {
    let recorded = token(r#"{"alg":"HS256","kid":"canary-kid"}"#, r#"{"sub":"canary"}"#);
    let slot = TokenSlot::new(format!("Bearer {recorded}").as_bytes(), &config(&[]), None).unwrap();
    let printed = format!("{slot:?}");
    let bytes = format!("{:?}", b"canary");
    for part in recorded.split('.').chain(["canary", bytes.trim_matches(['[', ']'])]) {
        assert!(!printed.contains(part), "{printed}");
    }
}

#[test]
fn issued_at_is_never_later_than_now() {
    assert_eq!(
        claims(r#"{"iat":1700000000.75,"exp":1700003600.25,"nbf":1700000000.750}"#, &[]),
        r#"{"iat":1800000000.00,"exp":1800003599.50,"nbf":1800000000.000}"#
    );
    assert_eq!(
        claims(r#"{"iat":1.7e9,"exp":1700000060}"#, &[]),
        r#"{"iat":1800000000,"exp":1800000060}"#
    );
}

#[test]
fn a_configured_claim_never_changes_the_type_unasked() {
    let settings = [("claims", "aud=123,flag=5,list=[1],object={},text=true,none=1,exp=7.5")];
    assert_eq!(
        claims(
            r#"{"aud":["a"],"flag":true,"list":[],"object":{"a":1},"text":"x","none":null,"exp":null}"#,
            &settings
        ),
        r#"{"aud":"123","flag":"5","list":[1],"object":{},"text":"true","none":"1","exp":7.5}"#
    );
}

#[test]
fn expires_in_wins_over_an_expiry_that_cannot_be_read() {
    for (recorded, expected) in
        [("1e400", "1800000060"), ("null", "1800000060"), (r#""never""#, r#""1800000060""#)]
    {
        assert_eq!(
            claims(&format!(r#"{{"exp":{recorded}}}"#), &[("expiresIn", "60")]),
            format!(r#"{{"exp":{expected}}}"#)
        );
    }
}

#[test]
fn the_lifetime_without_iat_counts_from_the_recording() {
    let change = |claims: &str, settings: &[(&str, &str)]| {
        let recorded_at = Some(1_700_000_000 * 1_000_000_000);
        TokenSlot::new(
            token(r#"{"alg":"HS256"}"#, claims).as_bytes(),
            &config(settings),
            recorded_at,
        )
        .unwrap()
        .lifetime_change()
        .unwrap_or(0)
    };
    assert_eq!(change(r#"{"exp":1700003600}"#, &[("expiresIn", "900")]), -2700);
    assert_eq!(change(r#"{"exp":1700003600}"#, &[]), 0);
    assert_eq!(
        change(
            r#"{"iat":1700000000,"exp":1700003600}"#,
            &[("expiresIn", "900"), ("timeClaims", "keep")]
        ),
        -2700
    );
    assert_eq!(change(r#"{"iat":1700000000,"exp":1700003600}"#, &[("claims", "exp=7.5")]), 0);
}

#[test]
fn trimming_never_ends_in_an_empty_secret() {
    let recorded = token(r#"{"alg":"HS256"}"#, "{}");
    let slot = TokenSlot::new(recorded.as_bytes(), &config(&[("trim", "trailing_newline")]), None)
        .unwrap();
    let mut out = Vec::new();
    assert_eq!(
        slot.render(NOW, &SigningKey::parse(b"\n").unwrap(), &mut out).unwrap_err().code(),
        "key_weak"
    );
    let weak = ("allowWeakKeys", "true");
    let trimmed = render(&recorded, &[("trim", "trailing_newline"), weak], b"secret\r\n");
    assert_eq!(trimmed, render(&recorded, &[weak], b"secret"));
}

#[test]
fn placeholders_in_a_token_are_data() {
    let text = r#"{"x":"${{file:/etc/passwd}}","y":"${{secret:a/b}}"}"#;
    assert_eq!(claims(text, &[]), text);
}

proptest! {
    #[test]
    fn kept_tokens_keep_every_byte(names in prop::collection::btree_set("[a-zé\"\\\\]{1,6}", 0..6), space in " {0,3}") {
        let members: Vec<String> = names.iter().map(|name| format!("{space}{}:{space}[1.50,null]", serde_json::to_string(name).unwrap())).collect();
        let recorded = format!("{{{}{space}}}", members.join(","));
        let header = format!(r#"{{"alg":{space}"HS256"}}"#);
        prop_assert_eq!(parts(&token(&header, &recorded), &[("timeClaims", "keep")]), (header, recorded));
    }

    #[test]
    fn distances_are_kept(iat in 1..2_000_000_000_i64, life in 0..1_000_000_000_i64) {
        let shifted = claims(&format!(r#"{{"iat":{iat},"exp":{}}}"#, iat + life), &[]);
        prop_assert_eq!(shifted, format!(r#"{{"iat":{NOW},"exp":{}}}"#, NOW + life));
    }
}

#[test]
fn what_names_the_recorded_key_gives_way_to_the_thumbprint() {
    let recorded = token(
        r#"{"alg":"HS256", "x5t":"a","kid":"k", "x5c":["b"],"typ":"JWT","x5t#S256":"c"}"#,
        "{}",
    );
    let slot = TokenSlot::new(recorded.as_bytes(), &config(&[]), None).unwrap();
    let header = |kid: Option<&str>| {
        let mut out = Vec::new();
        let header = kid.and_then(|kid| slot.header_named(kid));
        let key = SigningKey::parse(&[7; 64]).unwrap();
        slot.render_with(NOW, &key, header.as_deref(), &mut out).unwrap();
        let header = out.split(|byte| *byte == b'.').next().unwrap();
        String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
    };
    assert_eq!(header(Some("ours")), r#"{"alg":"HS256","kid":"ours","typ":"JWT"}"#);
    assert!(header(None).contains(r#""x5t":"a","kid":"k""#), "without a key set all stays");
}
