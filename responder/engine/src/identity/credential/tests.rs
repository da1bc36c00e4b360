//! Credentials by their look.

use proptest::prelude::*;

use super::*;

fn jwt(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(claims), part("signature"))
}

fn look(credential: Option<Credential<'_>>) -> String {
    match credential {
        None => "none".to_owned(),
        Some(Credential::Jwt(_)) => "jwt".to_owned(),
        Some(Credential::Opaque(text)) => format!("opaque {}", String::from_utf8_lossy(&text)),
        Some(Credential::User(name)) => format!("user {name}"),
    }
}

#[test]
fn authorization_comes_in_many_forms() {
    let token = jwt(r#"{"sub":"a"}"#);
    for (value, expected) in [
        (format!("Bearer {token}"), "jwt"),
        (format!("bearer   {token} "), "jwt"),
        (token.clone(), "jwt"),
        (format!("JWT {token}"), "jwt"),
        ("Bearer abc123".to_owned(), "opaque abc123"),
        ("Token abc123".to_owned(), "opaque abc123"),
        ("abc123".to_owned(), "opaque abc123"),
        ("Basic YW5uOnNlY3JldA==".to_owned(), "user ann"),
        ("Digest username=\"ann\", realm=\"x\"".to_owned(), "user ann"),
        ("Basic %%%".to_owned(), "none"),
        (String::new(), "none"),
    ] {
        assert_eq!(look(authorization(value.as_bytes())), expected, "{value}");
    }
}

#[test]
fn names_tell_credentials_from_tokens_of_other_kinds() {
    for name in [
        "X-Api-Key",
        "api_key",
        "access_token",
        "JSESSIONID",
        "connect.sid",
        "PHPSESSID",
        "x-auth",
        "X-Session-Id",
        "refreshToken",
        "client_assertion",
    ] {
        assert!(names_credential(name), "{name}");
    }
    for name in [
        "X-CSRF-Token",
        "xsrf-token",
        "token_type",
        "next_page_token",
        "session_state",
        "Accept",
        "author",
        "X-Request-Id",
        "deviceToken",
        "expires_in",
    ] {
        assert!(!names_credential(name), "{name}");
    }
}

#[test]
fn keys_follow_the_chosen_claims_and_nothing_else() {
    let chosen = Chosen(vec!["sub".to_owned(), "tenant".to_owned()]);
    let key = |claims: &str| chosen.key(b'j', claims.as_bytes());
    let own = key(r#"{"sub":"\u0061nn","iat":1}"#);
    assert!(own.is_some());
    assert_eq!(own, key(r#"{ "exp": 9, "sub" : "ann" }"#));
    for other in [
        r#"{"sub":"bob"}"#,
        r#"{"sub":"ann","tenant":""}"#,
        r#"{"tenant":"ann"}"#,
        r#"{"sub":["ann"]}"#,
    ] {
        assert_ne!(own, key(other), "{other}");
    }
    assert_ne!(key(r#"{"sub":5}"#), key(r#"{"sub":"5"}"#));
    assert_eq!(key(r#"{"sub":"ann","sub":"bob"}"#), None, "readers disagree");
    assert_eq!(key(r#"{"sub":"ann""#), None);
    assert_eq!(key(&format!(r#"{{"sub":"ann","x":{}}}"#, "[".repeat(100_000))), None);
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(authorization(&bytes).map(Credential::into_owned));
        let claims = URL_SAFE_NO_PAD.encode(&bytes);
        let token = format!("eyJhbGciOiJIUzI1NiJ9.{claims}.c2ln");
        let read = claims_of(token.as_bytes());
        prop_assert!(read.is_none_or(|read| read == bytes));
        prop_assert!(Chosen(vec!["sub".to_owned()]).key(b'j', &bytes).is_none_or(|key| key != [0; 16]));
    }

    #[test]
    fn what_is_not_chosen_never_matters(sub in ".{0,12}", iat in any::<i64>(), extra in ".{0,12}") {
        let claims = |iat: i64, extra: &str| serde_json::json!({"iat": iat, "sub": sub, "x": extra}).to_string();
        let chosen = Chosen(vec!["sub".to_owned()]);
        prop_assert_eq!(
            chosen.key(b'j', claims(iat, &extra).as_bytes()),
            chosen.key(b'j', claims(0, "").as_bytes())
        );
    }
}
