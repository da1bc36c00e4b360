//! What a `jwt_resign` step may say, and what is told of what it may not.

use super::*;

fn parse(config: &[(&str, &str)]) -> (Option<ResignConfig>, Vec<Diagnostic>) {
    let config = config.iter().map(|(k, v)| (k.to_ascii_lowercase(), (*v).to_owned())).collect();
    let mut found = Diagnostics::default();
    (ResignConfig::parse(&config, "c", &mut found), found.into_vec())
}

#[test]
fn defaults_are_the_documented_ones() {
    let (config, found) = parse(&[
        ("secretPath", "a/b"),
        ("iss", "me"),
        ("claims", "role=admin,exp=5"),
        ("expiresIn", "15m"),
    ]);
    let config = config.unwrap();
    assert_eq!(found, []);
    assert_eq!(config.prefixes, ["Bearer ", "JWTBearer "]);
    assert_eq!(config.time, TimeClaims::Shift);
    assert_eq!(config.expires_in, Some(900));
    assert_eq!(
        config.claims.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["iss=me", "role=admin", "exp=5"]
    );
}

#[test]
fn placeholders_are_resolved_for_each_run() {
    let (config, found) = parse(&[
        ("secretPath", "a/b"),
        ("sub", "${{user}}"),
        ("claims", r#"exp=${{end}},id=${{rand_string:"[ab]{1,2}=x"}}"#),
        ("prefixes", "${{scheme}} ,Bearer "),
        ("kid", "${{env_var:KID}}"),
    ]);
    let config = config.unwrap();
    assert_eq!(found, []);
    assert_eq!(config.nature(), Nature::PerRequest);
    let materials = crate::transform::Materials {
        environment: BTreeMap::from([("KID".to_owned(), "k1".to_owned())]),
        ..Default::default()
    };
    let world = Arc::new(crate::transform::World::new(Arc::new(materials), Vec::new()));
    world.set_variable("user", "alice".into());
    let mut scope = Scope::live(&world, crate::transform::Side::Response, 0);
    let now = config.resolved(&mut scope).unwrap();
    assert_eq!(now.claims[0], ("sub".to_owned(), "alice".to_owned()));
    assert_eq!(now.claims[1].1, "${{end}}");
    assert!(now.claims[2].1.ends_with("=x"), "{:?}", now.claims);
    assert_eq!((now.kid.as_deref(), now.prefixes[1].as_str()), (Some("k1"), "Bearer "));
}

#[test]
fn doubtful_settings_are_told_and_taken() {
    let (config, found) =
        parse(&[("secretPath", "a/b"), ("claims", "exp=never"), ("expiredIn", "5")]);
    assert!(config.is_some());
    let found: Vec<_> = found.iter().map(|d| (d.code, d.path.as_str(), d.hint.as_str())).collect();
    assert_eq!(found[0], ("unknown_field", "c.expiredin", "did you mean `expiresIn`?"));
    assert_eq!((found[1].0, found[1].1), ("claim_not_numeric", "c.claims"));
}

#[test]
fn every_mistake_is_named() {
    let code = |config: &[(&str, &str)]| {
        let (parsed, found) = parse(config);
        assert!(parsed.is_none(), "{config:?}");
        found.iter().map(|d| format!("{} {}", d.path, d.code)).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(code(&[]), "c.secretPath missing_key");
    assert_eq!(code(&[("secretPath", "a/../../b")]), "c.secretPath secret_path_unsafe");
    assert_eq!(code(&[("key", "")]), "c.secretPath missing_key");
    assert_eq!(code(&[("secretPath", "a/b"), ("claims", "a")]), "c.claims claims_malformed");
    assert_eq!(
        code(&[("secretPath", "a/b"), ("claims", "a=b=c,,=x")]),
        "c.claims claims_malformed; ".repeat(3).trim_end_matches("; ")
    );
    assert_eq!(
        code(&[("secretPath", "a/b"), ("alg", "RS257"), ("timeClaims", "x"), ("expiresIn", "-1")]),
        "c.alg unknown_alg; c.timeClaims wrong_type; c.expiresIn wrong_type"
    );
    assert_eq!(
        code(&[("secretPath", "a/b"), ("sub", "${{secret:a/b}}")]),
        "c.sub secret_not_allowed"
    );
    assert_eq!(code(&[("secretPath", "a/b"), ("matchAlg", "HS265")]), "c.matchAlg unknown_alg");
    assert_eq!(code(&[("secretPath", "a/b"), ("trim", "trailing-newline")]), "c.trim wrong_type");
    assert_eq!(
        code(&[("key", "secret"), ("alg", "RS256")]),
        "c.key key_in_template; c.alg key_not_private_rsa"
    );
    assert_eq!(
        code(&[("key", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----")]),
        "c.key key_is_certificate"
    );
}
