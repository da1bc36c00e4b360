//! Compiling small snapshots, and what is found while doing so.

use bytes::Bytes;
use proptest::prelude::*;

use super::{compile, compile_encoded};
use crate::{
    dlp::Treatment,
    snapshot::{
        Direction, Header, HttpRequest, RrPair, Serve,
        chunk::{cut, sort_by_endpoint},
        encoded::Encoded,
        ordinals,
    },
    test_config::TestConfig,
    transform::Template,
};

fn compiled(pairs: Vec<RrPair>, serve: Serve) -> (usize, Vec<&'static str>) {
    let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
    let (compiled, found) = compile(pairs, &Template::default(), &config, serve);
    (compiled.pairs(), found.as_slice().iter().map(|d| d.code).collect())
}

fn with(direction: Direction, status: u16) -> RrPair {
    let mut pair = RrPair { direction, ..RrPair::default() };
    pair.response.status = status;
    pair
}

#[test]
fn serves_the_direction_that_is_asked_for() {
    let pairs =
        || vec![with(Direction::In, 200), with(Direction::Out, 200), with(Direction::In, 204)];
    assert_eq!(compiled(pairs(), Serve::In), (2, vec![]));
    assert_eq!(compiled(pairs(), Serve::Out), (1, vec![]));
    assert_eq!(compiled(pairs(), Serve::All), (3, vec![]));
    assert_eq!(compiled(vec![with(Direction::In, 200)], Serve::Out), (0, vec!["nothing_to_serve"]));
}

#[test]
fn leaves_out_what_http_cannot_replay() {
    assert_eq!(
        compiled(vec![with(Direction::Out, 101), with(Direction::Out, 0)], Serve::Out),
        (0, vec!["status_not_servable"; 2])
    );
}

const CHAIN: &str = r#"{"id": "t", "responder": [{
    "filters": {"filters": [{"include": true, "operator": "CONTAINS", "detectedLocation": "/login"}]},
    "extractor": {"type": "res_body"},
    "transforms": [{"type": "json_path", "config": {"path": "t"}}, {"type": "jwt_resign", "config": {"secretPath": "a/b"}}]
}]}"#;
/// Of `{"alg":"HS256"}`, `{"sub":"a","iat":1,"exp":9}`.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIiwiaWF0IjoxLCJleHAiOjl9.c2ln";

fn any_pair() -> impl Strategy<Value = RrPair> {
    let numbers = (0..4_u8, 0..3_u8, 0..3_u8, any::<bool>());
    (numbers, prop_oneof![Just(200_u16), Just(204), Just(404), Just(0)]).prop_map(
        |((path, kind, fields, out), status)| {
            let header = |name: &str, value: &str| Header {
                name: name.to_owned(),
                value: Bytes::copy_from_slice(value.as_bytes()),
            };
            let path = if path == 0 { "/login".to_owned() } else { format!("/p{path}") };
            let mut pair = RrPair { location: path.clone(), ..RrPair::default() };
            pair.direction = if out { Direction::Out } else { Direction::In };
            let body = ["", r#"{"user":"a"}"#, "x=1&y=2"][usize::from(kind)];
            pair.request = Some(HttpRequest {
                method: if kind == 0 { "GET" } else { "POST" }.to_owned(),
                path,
                host: "api:80".to_owned(),
                headers: vec![header("Authorization", &format!("Bearer {TOKEN}"))],
                body: Bytes::from_static(body.as_bytes()),
                ..HttpRequest::default()
            });
            pair.response.status = status;
            let value = ["a", "b", "\n"][usize::from(fields)];
            pair.response.headers = vec![header("X-A", value), header("Date", "now")];
            pair.response.body = format!(r#"{{"t":"{TOKEN}","n":{kind}}}"#).into();
            pair
        },
    )
}

proptest! {
    #[test]
    fn chunks_are_compiled_like_their_pairs(mut pairs in prop::collection::vec(any_pair(), 0..30)) {
        let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        let template = Template::parse(CHAIN.as_bytes()).0;
        for (ordinal, pair) in (0..).zip(&mut pairs) {
            pair.ordinal = ordinal;
        }
        let (one, found) = compile(pairs.clone(), &template, &config, Serve::Out);
        let (mut chunks, mut numbers) = (Vec::new(), Vec::new());
        sort_by_endpoint(&mut pairs);
        cut(pairs, |chunk| {
            chunks.push(Bytes::from(chunk.bytes));
            numbers.extend(chunk.ordinals);
            Ok::<(), std::convert::Infallible>(())
        }).unwrap();
        let encoded = Encoded::open(chunks, Some(&ordinals::encode(&numbers))).unwrap();
        let (other, also) = compile_encoded(encoded, &template, &config, Serve::Out, Treatment::default());
        prop_assert_eq!(found.as_slice(), also.as_slice());
        prop_assert_eq!(format!("{:?}", one.instances), format!("{:?}", other.instances));
        prop_assert_eq!(format!("{:?}", one.slots), format!("{:?}", other.slots));
        let entries = |of: &super::CompiledSnapshot| {
            let mut all: Vec<_> = of.index.entries().map(|(key, entry)| (key.to_vec(), entry.instances().to_vec())).collect();
            all.sort();
            all
        };
        prop_assert_eq!(entries(&one), entries(&other));
    }
}
