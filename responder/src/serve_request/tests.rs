//! Defects of the engine.

use super::*;

#[test]
fn a_panic_of_the_engine_costs_its_own_request() {
    let lane = Lane::default();
    let outcome = guarded(|| Vec::<Outcome>::new().pop().unwrap());
    let (noted, response) = unanswered(outcome, &lane);
    assert_eq!((noted, response.status().as_u16()), (journal::Outcome::Defect, 500));
}
