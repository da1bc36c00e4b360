//! Compiling small snapshots, and what is found while doing so.

use super::compile;
use crate::{
    snapshot::{Direction, RrPair, Serve},
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
