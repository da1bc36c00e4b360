//! Sessions, endpoints, and what flows through a session.

use countersign_engine::snapshot::{HttpRequest, HttpResponse};

use super::*;

/// A pair as a test writes it: method and path, its header fields, a body, and what was answered.
pub(crate) fn pair(
    line: &str,
    fields: &[(&str, &str)],
    body: &str,
    answer: (u16, &[(&str, &str)], &str),
) -> RrPair {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = |fields: &[(&str, &str)]| {
        fields
            .iter()
            .map(|(name, value)| Header { name: (*name).into(), value: (*value).to_owned().into() })
            .collect::<Vec<_>>()
    };
    RrPair {
        direction: Direction::In,
        command: method.into(),
        request: Some(HttpRequest {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            host: "api.example".into(),
            version: "1.1".into(),
            headers: headers(fields),
            body: body.to_owned().into(),
        }),
        response: HttpResponse {
            status: answer.0,
            headers: headers(answer.1),
            body: answer.2.to_owned().into(),
            ..HttpResponse::default()
        },
        ..RrPair::default()
    }
}

/// A recording of pairs, a second apart.
pub(crate) fn recording(mut pairs: Vec<RrPair>) -> Recording {
    for (nth, pair) in (0..).zip(&mut pairs) {
        pair.ordinal = nth;
        pair.ts = Some(1_700_000_000_000_000_000 + i64::try_from(nth).unwrap() * 1_000_000_000);
    }
    let options = Options { carry: true, keep_answers: true, ..Options::default() };
    Recording::new(pairs, &options).unwrap()
}

/// A token of somebody; `mark` tells one from another.
pub(crate) fn token(sub: &str, mark: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"{sub}","iat":1700000000,"exp":1700003600}}"#);
    format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#.into()), part(claims), part(mark.into()))
}

#[test]
fn each_user_has_a_session_in_recorded_order() {
    let (ann, bob) = (token("ann", "1"), token("bob", "1"));
    let bearer = |token: &str| format!("Bearer {token}");
    let login = |token: &str| format!(r#"{{"access_token":"{token}"}}"#);
    let made = recording(vec![
        pair("POST /login", &[], r#"{"user":"ann"}"#, (200, &[], &login(&ann))),
        pair("POST /login", &[], r#"{"user":"bob"}"#, (200, &[], &login(&bob))),
        pair("GET /orders/17", &[("Authorization", &bearer(&bob))], "", (200, &[], "{}")),
        pair("GET /orders/18", &[("Authorization", &bearer(&ann))], "", (200, &[], "{}")),
        pair("GET /health", &[], "", (200, &[], "ok")),
    ]);
    let told: Vec<Vec<&str>> = made
        .sessions
        .iter()
        .map(|session| session.steps.iter().map(|step| step.target.as_str()).collect())
        .collect();
    assert_eq!(told, [vec!["/login", "/orders/18"], vec!["/login", "/orders/17"], vec!["/health"]]);
    assert_eq!(made.endpoints, ["POST /login", "GET /orders/{id}", "GET /health"]);
    let summary = &made.summary;
    assert_eq!(
        (summary.requests, summary.users, summary.with_token, summary.carried),
        (5, 2, 2, 2)
    );
    assert_eq!((summary.length, summary.timed), (Duration::from_secs(4), true));
    let use_of = &made.sessions[0].steps[1].uses[0];
    assert_eq!((use_of.piece, use_of.span.start), (Piece::Header(0), "Bearer ".len()));
    let place = Place::Json("/access_token".into());
    assert_eq!(*made.sessions[0].steps[0].gives, [Give { slot: 0, place }]);
}

#[test]
fn values_flow_from_answers_into_each_part_of_requests() {
    let made = recording(vec![
        pair(
            "GET /start",
            &[("Authorization", "Bearer opaque-token-1")],
            "",
            (
                200,
                &[("Set-Cookie", "sid=abc12345; Path=/")],
                r#"{"order":{"id":"o-1005"},"n":4711,"mail":"ann@example.com"}"#,
            ),
        ),
        pair(
            "POST /orders/o-1005/items?page=4711",
            &[("Authorization", "Bearer opaque-token-1"), ("Cookie", "theme=dark; sid=abc12345")],
            r#"{"of":"o-1005","note":"o-1005 is \"mine\""}"#,
            (200, &[], "{}"),
        ),
        pair(
            "POST /form",
            &[
                ("Authorization", "Bearer opaque-token-1"),
                ("Content-Type", "application/x-www-form-urlencoded"),
            ],
            "a=1&order=o%2D1005",
            (200, &[], "{}"),
        ),
    ]);
    let [_, post, form] = &*made.sessions[0].steps else { panic!("three steps") };
    let spans: Vec<_> = post.uses.iter().map(|one| (one.piece, one.span.clone())).collect();
    for expected in [
        (Piece::Target, 8..14),
        (Piece::Target, 26..30),
        (Piece::Header(1), 16..24),
        (Piece::Body, 7..13),
    ] {
        assert!(spans.contains(&expected), "{expected:?} in {spans:?}");
    }
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert_eq!((form.uses[0].piece, form.uses[0].span.clone()), (Piece::Body, 10..18));
    // What the client said first is no value of the service.
    assert!(!made.sessions[0].slots.iter().any(|slot| slot.contains("opaque")));
}

#[test]
fn nobodys_pairs_hang_together_by_their_cookies() {
    let (cookie, csrf) = ("sid=cookie-4711-aaaa", "csrf-token-0815");
    let ann = token("ann", "1");
    let made = recording(vec![
        pair("GET /login", &[], "", (200, &[("Set-Cookie", cookie), ("X-CSRF-Token", csrf)], "")),
        pair("GET /login", &[], "", (200, &[("Set-Cookie", "sid=cookie-0000-bbbb")], "")),
        pair(
            "POST /login",
            &[("Cookie", cookie), ("X-CSRF-Token", csrf)],
            "{}",
            (200, &[], &format!(r#"{{"access_token":"{ann}"}}"#)),
        ),
        pair("GET /me", &[("Authorization", &format!("Bearer {ann}"))], "", (200, &[], "{}")),
    ]);
    let told: Vec<usize> = made.sessions.iter().map(|session| session.steps.len()).collect();
    assert_eq!(told, [3, 1], "{made:?}");
}

#[test]
fn a_direction_is_chosen_and_told() {
    let inbound = pair("GET /in", &[], "", (200, &[], ""));
    let outbound =
        RrPair { direction: Direction::Out, ..pair("GET /out", &[], "", (200, &[], "")) };
    let driven = |driven, pairs: &[&RrPair]| {
        let pairs = pairs.iter().map(|pair| (*pair).clone()).collect();
        Recording::new(pairs, &Options { driven, ..Options::default() })
    };
    let made = driven(Driven::Auto, &[&inbound, &outbound]).unwrap().summary;
    assert_eq!((made.direction, made.requests, made.other_direction), (Direction::In, 1, 1));
    let made = driven(Driven::Auto, &[&outbound]).unwrap().summary;
    assert_eq!((made.direction, made.other_direction), (Direction::Out, 0));
    assert_eq!(driven(Driven::All, &[&inbound, &outbound]).unwrap().summary.requests, 2);
    let why = driven(Driven::Outbound, &[&inbound]).unwrap_err().to_string();
    assert!(why.contains("--direction"), "{why}");
}

#[test]
fn what_is_alike_is_held_once() {
    let one = || pair("GET /a", &[("Accept", "*/*")], "", (200, &[], "a body"));
    let made = recording(vec![one(), one()]);
    let steps: Vec<_> = made.sessions.iter().flat_map(|session| &session.steps).collect();
    assert!(Arc::ptr_eq(&steps[0].headers, &steps[1].headers));
    assert_eq!(steps[0].expected.body.as_ptr(), steps[1].expected.body.as_ptr());
}

#[test]
fn what_is_taken_out_is_missed_by_no_session() {
    let token = token("ann", "1");
    let bearer = format!("Bearer {token}");
    let login = format!(r#"{{"access_token":"{token}"}}"#);
    let mut pairs = vec![
        pair("POST /login", &[], "{}", (200, &[("Set-Cookie", "sid=cookie-4711")], &login)),
        pair("GET /orders/17?a=1", &[("Authorization", &bearer)], "", (404, &[], "{}")),
    ];
    pairs[0].tags.insert("source".into(), "goproxy".into());
    pairs[0].extra_json = r#"{"netinfo":{}}"#.into();
    pairs[1].extra_json = r#"{"http":{"res":{"trailers":{"grpc-status":["5"]}}}}"#.into();
    let whole = format!("{:?}", recording(pairs.clone()));
    pairs.iter_mut().for_each(slim);
    assert_eq!(format!("{:?}", recording(pairs.clone())), whole);
    assert!(pairs[0].extra_json.is_empty() && !pairs[1].extra_json.is_empty());
}
