//! When a resource is looked at again.

use super::*;

#[test]
fn failures_are_repeated_later_each_time() {
    let pause = |failures| again(&Failed { text: String::new(), failures });
    assert_eq!(pause(0), Action::requeue(Duration::from_secs(1)));
    assert_eq!(pause(3), Action::requeue(Duration::from_secs(8)));
    assert_eq!(pause(i64::MAX), Action::requeue(LONGEST));
    assert_eq!(pause(-1), Action::requeue(Duration::from_secs(1)));
}
