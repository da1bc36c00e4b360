//! Small recordings of our own: the report as a whole, and templates that cover what was issued.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    diagnostic::Diagnostic,
    snapshot::{Header, HttpRequest, HttpResponse},
    test_config::TestConfig,
    transform::Template,
};

/// A token with this JOSE header and these claims.
fn jwt(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode("a JWS signature"))
}

fn hs(sub: &str) -> String {
    jwt(&json!({"alg": "HS256"}), &json!({"sub": sub, "iat": 1000, "exp": 1900}))
}

fn rs(sub: &str, kid: &str) -> String {
    let claims = json!({"iss": "https://id.example", "sub": sub, "iat": 1000, "exp": 4600});
    jwt(&json!({"alg": "RS256", "kid": kid}), &claims)
}

fn headers(fields: &[(&str, String)]) -> Vec<Header> {
    fields
        .iter()
        .map(|(name, value)| Header { name: (*name).into(), value: value.clone().into() })
        .collect()
}

/// A pair: `POST host/path`, request header fields and body, response header fields and body.
fn pair(
    target: &str,
    request: (&[(&str, String)], String),
    response: (&[(&str, String)], String),
) -> RrPair {
    let (method, rest) = target.split_once(' ').unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    RrPair {
        command: method.into(),
        location: format!("/{path}"),
        request: Some(HttpRequest {
            method: method.into(),
            path: format!("/{path}"),
            query: query.into(),
            host: host.into(),
            headers: headers(request.0),
            body: request.1.into(),
            ..HttpRequest::default()
        }),
        response: HttpResponse {
            status: 200,
            headers: headers(response.0),
            body: response.1.into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

/// A pair whose response is JSON.
fn answer(target: &str, body: &Value) -> RrPair {
    pair(target, (&[], String::new()), (&[], body.to_string()))
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("Authorization", format!("Bearer {token}"))]
}

fn numbered(mut pairs: Vec<RrPair>) -> Vec<RrPair> {
    for (ordinal, pair) in (0..).zip(&mut pairs) {
        pair.ordinal = ordinal;
    }
    pairs
}

fn analyse(pairs: &[RrPair]) -> Analysis {
    let mut analyzer = Analyzer::default();
    pairs.iter().rev().for_each(|pair| analyzer.push(pair));
    analyzer.finish()
}

/// The suggested template, how many tokens it covers, and every finding.
fn suggested(pairs: &[RrPair], secret: &str) -> (Value, u64, Vec<Diagnostic>) {
    let analysis = analyse(pairs);
    let suggestion = suggest(&analysis, &Options::new("t", secret).unwrap());
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let mut check = Check::new(&analysis, &suggestion, config);
    pairs.iter().for_each(|pair| check.push(pair));
    let (covered, missed) = check.finish();
    let (_, found) = Template::parse(suggestion.template_json.as_bytes());
    assert_eq!(found.as_slice(), [], "{}", suggestion.template_json);
    let findings = suggestion.findings.into_iter().chain(missed).collect();
    (serde_json::from_str(&suggestion.template_json).unwrap(), covered, findings)
}

fn codes(findings: &[Diagnostic]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

fn shop() -> Vec<RrPair> {
    let (access, refreshed) = (rs("ann", "k1"), rs("ann", "k1"));
    assert_eq!(access, refreshed, "tokens are made of their claims alone");
    let refreshed = jwt(
        &json!({"alg": "RS256", "kid": "k1"}),
        &json!({"iss": "https://id.example", "sub": "ann", "iat": 5000, "exp": 8600}),
    );
    let form = ("Content-Type", "application/x-www-form-urlencoded".to_owned());
    let jwe =
        format!("{}.a.b.c.d", URL_SAFE_NO_PAD.encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#));
    numbered(vec![
        answer(
            "GET id.example/.well-known/openid-configuration",
            &json!({"issuer": "https://id.example", "jwks_uri": "https://id.example/jwks"}),
        ),
        answer("GET id.example/jwks", &json!({"keys": [{"kty": "RSA", "kid": "k1", "n": "x"}]})),
        answer(
            "POST id.example/token",
            &json!({"access_token": access, "refresh_token": "first-refresh-token", "expires_in": 3600}),
        ),
        pair("GET shop.example/orders/17", (&bearer(&access), String::new()), (&[], "{}".into())),
        pair("GET shop.example/orders/18", (&bearer(&access), String::new()), (&[], "{}".into())),
        pair(
            "POST id.example/token",
            (&[form], "grant_type=refresh_token&refresh_token=first-refresh-token".into()),
            (
                &[],
                json!({"access_token": refreshed, "refresh_token": "second-refresh-token"})
                    .to_string(),
            ),
        ),
        pair("GET shop.example/admin", (&bearer(&hs("root")), String::new()), (&[], "{}".into())),
        answer(
            "GET shop.example/profile",
            &json!({"sealed": jwe, "app": "com.example.app", "version": "1.2.3", "at": "api.nasa.gov"}),
        ),
    ])
}

#[test]
fn the_report_of_a_small_recording() {
    let analysis = analyse(&shop());
    let report = analysis.report();
    let at = |sightings: &[Sighting]| {
        let each = sightings.iter().map(|at| format!("{} {} x{}", at.endpoint, at.place, at.count));
        each.collect::<Vec<_>>().join("; ")
    };
    let families: Vec<String> = report
        .families
        .iter()
        .map(|family| {
            format!(
                "{:?} {:?} alg={} kid={} iss={} | issued {} | used {} | {} tokens, {} uses, {} never used, lifetime {:?}, keys {:?}",
                family.kind.form,
                family.origin,
                family.kind.alg,
                family.kind.kid,
                family.kind.iss,
                at(&family.issued),
                at(&family.used),
                family.tokens,
                family.uses,
                family.never_used,
                family.lifetime,
                family.jwks.as_ref().map(|link| format!("{} by {}", link.endpoint, link.by)),
            )
        })
        .collect();
    let expected = [
        "Jws Issued alg=RS256 kid=k1 iss=https://id.example | issued POST id.example/token body access_token x2 | \
         used GET shop.example/orders/{id} header authorization Bearer x2 | 2 tokens, 2 uses, 1 never used, \
         lifetime Some((3600, 3600)), keys Some(\"GET id.example/jwks by kid\")",
        "Opaque Issued alg= kid= iss= | issued POST id.example/token body refresh_token x2 | \
         used POST id.example/token form refresh_token x1 | 2 tokens, 1 uses, 1 never used, lifetime None, keys None",
        "Jws Orphan alg=HS256 kid= iss= | issued  | used GET shop.example/admin header authorization Bearer x1 | \
         1 tokens, 1 uses, 0 never used, lifetime Some((900, 900)), keys None",
        "Jwe Issued alg=RSA-OAEP kid= iss= | issued GET shop.example/profile body sealed x1 | used  | \
         1 tokens, 0 uses, 1 never used, lifetime None, keys None",
    ];
    assert_eq!(families, expected);
    let friends: Vec<String> = report
        .false_friends
        .iter()
        .map(|friend| format!("{} is {}", friend.shown, friend.why))
        .collect();
    assert_eq!(
        friends,
        [
            "1.2.3 is a version number",
            "api.nasa.gov is a host name",
            "com.example.app is a package name"
        ]
    );
    let [refresh] = report.refreshes.as_slice() else { panic!("{:?}", report.refreshes) };
    assert_eq!(
        (refresh.presented.as_str(), refresh.issued.join(", "), refresh.count, refresh.known),
        ("form refresh_token", "body access_token, body refresh_token".to_owned(), 1, 1)
    );
    assert_eq!((report.pairs, report.tokens, report.documents.len()), (8, 6, 2));
    assert_eq!(report.left_out, LeftOut::default());
    let member = &report.families[0].members[0];
    assert_eq!((member.sub.as_str(), member.uses, member.first_pair), ("ann", 2, 2));
    let shown = format!("{report:?}");
    for secret in [
        "a JWS signature",
        "eyJ",
        "first-refresh-token",
        &URL_SAFE_NO_PAD.encode("a JWS signature"),
    ] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}

#[test]
fn the_template_of_a_small_recording() {
    let (template, covered, findings) = suggested(&shop(), "");
    let expected = json!({"id": "t", "responder": [{
        "filters": {"filters": [
            {"include": true, "detectedCommand": "POST"},
            {"include": true, "detectedLocation": "/token"}
        ]},
        "extractor": {"type": "http_res_body"},
        "transforms": [
            {"type": "json_path", "config": {"path": "access_token"}},
            {"type": "jwt_resign", "config": {"secretPath": "${{secret:jwt-id-example/tls.key}}"}}
        ]
    }]});
    assert_eq!(template, expected);
    assert_eq!(covered, 2);
    assert_eq!(
        codes(&findings),
        ["secret_needed", "jwks_recorded", "token_opaque", "token_never_issued", "token_encrypted"]
    );
    for (secret, path) in [("jwt-demo/k", "jwt-demo/k"), ("jwt-demo", "jwt-demo/tls.key")] {
        let (template, ..) = suggested(&shop(), secret);
        let given = &template["responder"][0]["transforms"][1]["config"]["secretPath"];
        assert_eq!(*given, format!("${{{{secret:{path}}}}}"));
    }
}

/// The steps of the only chain, shortened.
fn steps(template: &Value) -> String {
    let chains = template["responder"].as_array().unwrap();
    assert_eq!(chains.len(), 1, "{template:#}");
    let step = |step: &Value| {
        let config = step["config"].as_object().into_iter().flatten();
        let config = config
            .filter(|(name, _)| *name != "secretPath")
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()));
        format!("{}({})", step["type"].as_str().unwrap(), config.collect::<Vec<_>>().join(" "))
    };
    let transforms = chains[0]["transforms"].as_array().unwrap();
    std::iter::once(&chains[0]["extractor"])
        .chain(transforms)
        .map(step)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_place_gets_its_chain() {
    let token = hs("u");
    let body = |body: String| (vec![], body);
    let inner = json!({"jwt": token}).to_string();
    let field = |name, value: String| (vec![(name, value)], String::new());
    for ((fields, body), expected) in [
        (
            body(json!({"a": {"t.x": token}}).to_string()),
            r"http_res_body() json_path(path=a.t\.x) jwt_resign()",
        ),
        (
            body(json!({"l": [{"t": token}, {"t": hs("v")}]}).to_string()),
            "http_res_body() json_path(path=l.#.t) jwt_resign()",
        ),
        (
            body(json!({"l": ["x", token]}).to_string()),
            "http_res_body() json_path(path=l.1) jwt_resign()",
        ),
        (
            body(json!({"payload": inner}).to_string()),
            "http_res_body() json_path(path=payload) json_path(path=jwt) jwt_resign()",
        ),
        (
            body(json!({"b": STANDARD.encode(&inner)}).to_string()),
            "http_res_body() json_path(path=b) base64(pad=false) json_path(path=jwt) jwt_resign()",
        ),
        (
            body(json!({"p": format!("Token {token}")}).to_string()),
            "http_res_body() json_path(path=p) jwt_resign(prefixes=Token )",
        ),
        (
            body(format!("<r><jwt>{token}</jwt></r>")),
            r"http_res_body() regex(captureGroup=1 pattern=jwt>(e[yw][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)) jwt_resign()",
        ),
        (
            field("Location", format!("https://app/cb#access_token={token}&x=1")),
            "http_res_header(name=location) regex(captureGroup=1 pattern=[?&#]access_token=([^&#]*)) jwt_resign()",
        ),
        (
            field("Authorization", format!("Bearer {token}")),
            "http_res_header(name=authorization) jwt_resign()",
        ),
        (body(token), "http_res_body() jwt_resign()"),
    ] {
        let pairs = numbered(vec![pair("POST h/x", (&[], String::new()), (&fields, body))]);
        let (template, covered, findings) = suggested(&pairs, "");
        assert_eq!(steps(&template), expected);
        assert!(covered > 0 && codes(&findings) == ["secret_needed"], "{expected}: {findings:#?}");
    }
}

#[test]
fn cookies_are_covered_whatever_their_coding() {
    for (value, expected) in [
        (hs("u"), "http_res_cookie(name=sid) jwt_resign()"),
        (
            format!("Bearer%20{}", hs("u")),
            "http_res_cookie(name=sid) url_decode() jwt_resign() url_encode()",
        ),
    ] {
        let cookie = ("Set-Cookie", format!("sid={value}; Path=/; HttpOnly"));
        let answer = pair("POST h/x", (&[], String::new()), (&[cookie], String::new()));
        let (template, covered, findings) = suggested(&numbered(vec![answer]), "");
        assert_eq!(covered, 1, "{findings:?}");
        assert_eq!(steps(&template), expected);
        assert_eq!(codes(&findings), ["secret_needed"]);
    }
}

#[test]
fn what_cannot_be_covered_is_told() {
    let url_safe = URL_SAFE_NO_PAD.encode(format!("ÿÿ?>{}", hs("u")));
    let none = jwt(&json!({"alg": "none"}), &json!({"sub": "u"}));
    for (body, because) in [
        (json!({"b": url_safe}), "standard alphabet"),
        (json!({"t": none}), "alg_not_allowed"),
        (json!({"l": "x", "t": format!("{}\n{}", hs("a"), hs("b"))}), "token_not_covered"),
    ] {
        let (_, _, findings) = suggested(&numbered(vec![answer("POST h/x", &body)]), "");
        let missed: Vec<_> =
            findings.iter().filter(|finding| finding.code == "token_not_covered").collect();
        assert!(!missed.is_empty(), "{body}: {findings:#?}");
        assert!(missed.iter().any(|finding| finding.to_string().contains(because)), "{missed:#?}");
    }
    let (template, covered, findings) = suggested(&[], "");
    assert_eq!((template["responder"].as_array().unwrap().len(), covered), (0, 0));
    assert_eq!(codes(&findings), ["nothing_to_resign"]);
}

#[test]
fn filters_are_as_wide_as_they_have_to_be() {
    let filters = |pairs: Vec<RrPair>| -> Vec<String> {
        let (template, _, findings) = suggested(&numbered(pairs), "");
        assert!(!codes(&findings).contains(&"token_not_covered"), "{findings:#?}");
        let filter = |filter: &Value| {
            let members = filter.as_object().unwrap().iter().filter(|(name, _)| *name != "include");
            members
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap()))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let chains = template["responder"].as_array().unwrap().iter();
        chains
            .map(|chain| {
                let filters = chain["filters"]["filters"].as_array().unwrap().iter();
                filters.map(filter).collect::<Vec<_>>().join(", ")
            })
            .collect()
    };
    let issue = |target: &str, token: String| answer(target, &json!({"t": token}));
    assert_eq!(
        filters(vec![issue("POST a/login", hs("1")), issue("POST b/login", hs("2"))]),
        ["detectedCommand=POST, detectedLocation=/login"],
        "both hosts issue alike"
    );
    assert_eq!(
        filters(vec![
            issue("POST a/login", hs("1")),
            answer("POST b/login", &json!({"t": "opaque"}))
        ]),
        ["detectedCommand=POST, detectedLocation=/login, host=a"]
    );
    assert_eq!(
        filters(vec![issue("POST a/login", hs("1")), issue("POST b/login", rs("2", "k"))]),
        [
            "detectedCommand=POST, detectedLocation=/login, host=a",
            "detectedCommand=POST, detectedLocation=/login, host=b"
        ]
    );
    assert_eq!(
        filters(vec![issue("GET a/u/17/token", hs("1"))]),
        ["detectedCommand=GET, detectedLocation=/u/17/token"]
    );
    assert_eq!(
        filters(vec![issue("GET a/u/17/token", hs("1")), issue("GET a/u/18/token", hs("2"))]),
        ["detectedCommand=GET, detectedLocation=^/u/[^/]+/token$ operator=REGEX"]
    );
}

#[test]
fn several_algorithms_and_keys_at_one_place() {
    let pairs = numbered(vec![
        answer("POST h/login", &json!({"t": hs("a")})),
        answer("POST h/login", &json!({"t": rs("b", "k1")})),
    ]);
    let (template, covered, findings) = suggested(&pairs, "");
    let algs: Vec<&str> = template["responder"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chain| chain["transforms"][1]["config"]["matchAlg"].as_str().unwrap())
        .collect();
    assert_eq!((algs.as_slice(), covered), (["HS256", "RS256"].as_slice(), 2));
    assert_eq!(codes(&findings), ["secret_needed", "secret_needed"]);
    let pairs = numbered(vec![
        answer("POST h/login", &json!({"t": rs("a", "k1")})),
        answer("POST h/login", &json!({"t": rs("b", "k2")})),
        answer("POST h/login", &json!({"t": rs("c", "k2")})),
    ]);
    let (template, covered, findings) = suggested(&pairs, "");
    assert_eq!(
        template["responder"][0]["transforms"][1]["config"]["secretPath"],
        "${{secret:jwt-id-example-k2/tls.key}}"
    );
    assert_eq!(covered, 3);
    assert!(codes(&findings).contains(&"keys_share_place"), "{findings:?}");
}

#[test]
fn no_token_is_shown_where_it_is_a_name() {
    let token = hs("u");
    let pairs = numbered(vec![
        answer("POST h/x", &json!({ token.as_str(): {"t": hs("v")} })),
        answer(&format!("POST h/verify/{token}?t={token}"), &json!({"t": hs("w")})),
        answer(&format!("GET h/q?{token}=x.y.z"), &json!({})),
    ]);
    let analysis = analyse(&pairs);
    let suggestion = suggest(&analysis, &Options::new("t", "").unwrap());
    let shown = format!("{:?} {suggestion:?}", analysis.report());
    assert!(!shown.contains("eyJ"), "{shown}");
    let chain = r"^/verify/[^/]+$";
    assert!(suggestion.template_json.contains(chain), "{}", suggestion.template_json);
}

#[test]
fn an_echo_is_not_an_issue() {
    let token = hs("u");
    let pairs = numbered(vec![pair(
        "POST h/introspect",
        (&bearer(&token), String::new()),
        (&[], json!({"token": token}).to_string()),
    )]);
    let analysis = analyse(&pairs);
    assert_eq!(analysis.report().families[0].origin, Origin::Orphan);
    let (template, ..) = suggested(&pairs, "");
    assert_eq!(template["responder"], json!([]));
}
