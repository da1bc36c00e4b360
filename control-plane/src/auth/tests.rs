//! Who somebody is by what they show.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::jwt::{alg::Alg, key::SigningKey, trusted::TrustedKeys};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{rights::Level, token::TokenHash, *};

fn users(dir: &tempfile::TempDir, text: &str) -> Settings {
    let path = dir.path().join("users");
    fs::write(&path, text).unwrap();
    Settings { users: Some(path), oidc: None }
}

fn here() -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, 1]))
}

#[test]
fn a_token_is_sent_once_and_as_it_has_to_be() {
    let said = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        match Said::of(&headers) {
            Said::Nothing => "nothing".to_owned(),
            Said::Token(token) => token.to_owned(),
            Said::Malformed => "malformed".to_owned(),
        }
    };
    assert_eq!(said(&[]), "nothing");
    assert_eq!(said(&["Bearer a.b-c_d~e+f/g="]), "a.b-c_d~e+f/g=");
    assert_eq!(said(&["bearer x"]), "x");
    for bad in ["", "Bearer", "Bearer ", "Bearer  x", "Bearer x y", "Basic eDp5", "x", "Bearer x,y"]
    {
        assert_eq!(said(&[bad]), "malformed", "{bad}");
    }
    assert_eq!(said(&["Bearer x", "Bearer y"]), "malformed");
}

#[tokio::test]
async fn tokens_are_good_until_the_file_says_otherwise_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("anna editor shop {}", TokenHash::of("cst_one"));
    let settings = users(&dir, &line);
    let authority = Authority::new(settings, false).unwrap();
    let who =
        async |token: &str| authority.who(&Caller::Anonymous, here(), Said::Token(token)).await;
    assert_eq!(who("cst_one").await.unwrap().rights.level("shop"), Some(Level::Editor));
    assert_eq!(who("cst_two").await, Err(Stranger::Token));
    let nothing = authority.who(&Caller::Anonymous, here(), Said::Nothing).await;
    assert!(matches!(nothing, Err(Stranger::Nothing(_))));

    users(&dir, "broken");
    authority.reload();
    assert!(who("cst_one").await.is_ok());
    users(&dir, &format!("bob viewer * {}", TokenHash::of("cst_two")));
    authority.reload();
    assert_eq!(who("cst_one").await, Err(Stranger::Token));
    assert_eq!(&*who("cst_two").await.unwrap().name, "bob");
}

#[tokio::test]
async fn who_tries_too_many_is_refused_unseen_but_good_tokens_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("anna editor shop {}", TokenHash::of("cst_one"));
    let authority = Authority::new(users(&dir, &line), false).unwrap();
    let who =
        async |token: &str| authority.who(&Caller::Anonymous, here(), Said::Token(token)).await;
    for _ in 0..attempts::BURST {
        assert_eq!(who("cst_guess").await, Err(Stranger::Token));
    }
    assert_eq!(who("cst_guess").await, Err(Stranger::TooMany));
    assert!(who("cst_one").await.is_ok());
    let elsewhere = Some(IpAddr::from([10, 0, 0, 1]));
    let other = authority.who(&Caller::Anonymous, elsewhere, Said::Token("cst_guess")).await;
    assert_eq!(other, Err(Stranger::Token));
}

#[tokio::test]
async fn bad_tokens_lock_out_no_good_one_of_a_provider_at_the_same_address() {
    const KEY: &[u8] = include_bytes!("../../../responder/engine/src/jwt/vectors/rfc8037-a1.pem");
    let key = SigningKey::parse(KEY).unwrap();
    let provider = oidc::Settings {
        issuer: "https://id.example".into(),
        audience: "countersign".into(),
        role_claim: "role".into(),
        project_claim: "projects".into(),
        authorities: None,
    };
    let settings = Settings { users: None, oidc: Some(provider) };
    let authority = Authority::new(settings, false).unwrap();
    let set = serde_json::json!({ "keys": [key.jwk().unwrap()] });
    let keys = TrustedKeys::parse(set.to_string().as_bytes()).unwrap();
    authority.oidc.as_ref().unwrap().keep(keys, Instant::now());
    let claims = serde_json::json!({
        "iss": "https://id.example", "aud": "countersign", "sub": "anna", "role": "editor",
        "projects": "shop", "exp": Timestamp::now().as_second() + 600,
    });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(r#"{"alg":"EdDSA"}"#), part(&claims.to_string()));
    let mut signature = Vec::new();
    key.sign(Alg::EdDsa, message.as_bytes(), &mut signature).unwrap();
    let good = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let bad = format!("{message}.{}", part("no signature of that key"));
    let who =
        async |token: &str| authority.who(&Caller::Anonymous, here(), Said::Token(token)).await;
    for _ in 0..attempts::BURST {
        assert_eq!(who(&bad).await, Err(Stranger::Token));
    }
    assert_eq!(who(&bad).await, Err(Stranger::TooMany));
    assert_eq!(who(&good).await.unwrap().rights.level("shop"), Some(Level::Editor));
}

#[tokio::test]
async fn users_with_certificates_have_to_be_listed_once_there_is_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let settings = users(&dir, "user/anna viewer shop certificate");
    let listed = Authority::new(settings, true).unwrap();
    let free = Authority::new(Settings::default(), true).unwrap();
    let caller = |name: &str| {
        let identity: Identity = format!("spiffe://a.example/{name}").parse().unwrap();
        Caller::Known(Arc::new(identity))
    };
    let level = async |authority: &Authority, name: &str| {
        let who = authority.who(&caller(name), here(), Said::Nothing).await;
        who.map(|who| who.rights.level("shop"))
    };
    assert_eq!(level(&listed, "user/anna").await, Ok(Some(Level::Viewer)));
    assert!(matches!(level(&listed, "user/eve").await, Err(Stranger::Unlisted(_))));
    assert_eq!(level(&listed, "responder/shop").await, Ok(None));
    assert_eq!(level(&free, "user/eve").await, Ok(Some(Level::Admin)));
    // A token that is no good is not made good by a certificate.
    let both = listed.who(&caller("user/anna"), here(), Said::Token("cst_x")).await;
    assert_eq!(both, Err(Stranger::Token));
}

#[tokio::test]
async fn where_nobody_is_asked_everybody_may_do_everything() {
    let open = Authority::new(Settings::default(), false).unwrap();
    let who = open.who(&Caller::Anonymous, None, Said::Malformed).await.unwrap();
    assert_eq!(who.rights.level("any"), Some(Level::Admin));
}
