//! Who asks, and tokens signed for a request that is sent.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::{
    jwt::key::{KeyEntry, SecretRef},
    snapshot::HttpResponse,
};

fn token(sub: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"sub": sub, "iat": 1_700_000_000, "exp": 1_700_000_060});
    format!("{}.{}.{}", part(json!({"alg": "HS256"})), part(claims), part(json!("old")))
}

fn pair(ordinal: u64, path: &str, bearer: Option<&str>, body: &str) -> RrPair {
    let bearer = bearer.map(|token| Header {
        name: "Authorization".into(),
        value: format!("Bearer {token}").into(),
    });
    RrPair {
        ordinal,
        request: Some(HttpRequest {
            method: "GET".into(),
            path: path.into(),
            headers: bearer.into_iter().collect(),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            body: body.to_owned().into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

#[test]
fn pairs_belong_to_who_presents_or_is_given_a_token() {
    let (ann, bob) = (token("ann"), token("bob"));
    let login = |ordinal, token: &str| {
        pair(ordinal, "/login", None, &json!({ "access_token": token }).to_string())
    };
    let asked = survey(
        vec![
            pair(4, "/me", Some(&bob), "{}"),
            login(0, &ann),
            login(1, &bob),
            pair(2, "/health", None, "{}"),
            pair(3, "/me", Some(&ann), "{}"),
        ],
        None,
    );
    let ordinals: Vec<u64> = asked.pairs.iter().map(|pair| pair.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 3, 4]);
    let askers: Vec<_> = asked.askers.iter().map(|asker| asker.number()).collect();
    assert_eq!(askers, [Some(1), Some(2), None, Some(1), Some(2)]);
    assert!(asked.labels[1].contains("ann"), "{:?}", asked.labels);
    let presented: Vec<_> = asked.pairs.iter().map(presents_token).collect();
    assert_eq!(presented, [false, false, false, true, true]);
    assert!(!presents_token(&pair(0, "/me", Some("sk-key-0123456789"), "")));
    assert_eq!(endpoint(&pair(0, "/orders/17", None, "")).route, "/orders/{id}");
}

#[test]
fn tokens_of_requests_are_signed_anew() {
    const KEY: &[u8] = b"a secret of at least thirty-two bytes";
    let (template, found) = Template::parse(
        br#"{"id":"t","generator":[
            {"filters":{"filters":[{"include":true,"detectedLocation":"/me"}]},"extractor":{"type":"http_req_header","config":{"name":"Authorization"}},
             "transforms":[{"type":"jwt_resign","config":{"secretPath":"${{secret:demo/key}}"}}]},
            {"extractor":{"type":"res_body"},"transforms":[]}]}"#,
    );
    assert!(!found.has_errors(), "{found:?}");
    let secret = SecretRef { secret: "demo".into(), key: "key".into() };
    assert_eq!(template.generator_secrets(), std::slice::from_ref(&secret));
    let key = Some(Arc::new(SigningKey::parse(KEY).unwrap()));
    let entry = KeyEntry { key, problem: None, generation: 1, text: None, beside: Vec::new() };
    let ring = KeyRing::new(1, BTreeMap::from([(secret, entry)]));
    let recorded = pair(0, "/me", Some(&token("ann")), "{}");
    for (ring, signed) in [(ring, 1), (KeyRing::default(), 0)] {
        let generator = Generator::new(template.clone(), Arc::new(ring));
        assert_eq!(generator.chains(), 1);
        assert!(generator.admits(&pair(0, "/other", None, "")).is_empty());
        let admitted = generator.admits(&recorded);
        let headers = fields(recorded.request.as_ref().unwrap());
        let request = Request::recorded(recorded.request.as_ref().unwrap(), &headers);
        let changed = generator.run(&admitted, &request, None, 1_900_000_000 * NANOS);
        assert_eq!((changed.signed, changed.failed.len()), (signed, 1 - signed), "{changed:?}");
        let Some(headers) = changed.headers else { continue };
        let text = String::from_utf8(headers[0].1.to_vec()).unwrap();
        let made = text.strip_prefix("Bearer ").unwrap();
        let told: Value = serde_json::from_slice(&claims(made.as_bytes()).unwrap()).unwrap();
        assert_eq!(told, json!({"sub": "ann", "iat": 1_900_000_000, "exp": 1_900_000_060}));
        let verifier = jsonwebtoken::DecodingKey::from_secret(KEY);
        let mut how = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        how.validate_exp = false;
        jsonwebtoken::decode::<Value>(made, &verifier, &how).unwrap();
    }
}
