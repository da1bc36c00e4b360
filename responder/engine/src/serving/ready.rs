//! Bodies that were filled already: within a second an answer is made once by each thread, and then given out as it is.
//!
//! Filling the holes of a body asks memory in many places for its token. What comes of it is kept by the thread in one place, for so many
//! answers that all of them fit into a fraction of its cache; others are made anew each time, at little more than what keeping would cost.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

/// How many bodies a thread keeps.
const PLACES: usize = 2048;
/// The longest that it keeps. With longer ones copying takes the time, not finding what to copy.
const LONGEST: usize = 8 * 1024;

thread_local! {
    static READY: RefCell<Box<[Option<Made>]>> = RefCell::default();
}

/// A body and what it is good for.
#[derive(Debug)]
struct Made {
    /// Of which serving.
    serial: u64,
    /// Of which of its instances.
    instance: usize,
    /// The only second.
    second: i64,
    body: Bytes,
}

/// A number that no other serving of the process has.
pub(super) fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The body of an instance for this second, if this thread has made it.
pub(super) fn get(serial: u64, instance: usize, second: i64) -> Option<Bytes> {
    READY.with_borrow(|ready| {
        let made = ready.get(instance % PLACES)?.as_ref()?;
        let fits = (made.serial, made.instance, made.second) == (serial, instance, second);
        fits.then(|| made.body.clone())
    })
}

/// Keeps a body, unless there is another one in its place that is good for this second too: were there more answers than places, each would
/// cost the one before.
pub(super) fn keep(serial: u64, instance: usize, second: i64, body: &Bytes) {
    if body.len() > LONGEST {
        return;
    }
    READY.with_borrow_mut(|ready| {
        if ready.is_empty() {
            *ready = (0..PLACES).map(|_| None).collect();
        }
        let Some(place) = ready.get_mut(instance % PLACES) else { return };
        if place.as_ref().is_none_or(|made| made.serial != serial || made.second != second) {
            *place = Some(Made { serial, instance, second, body: body.clone() });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_good_for_its_own_answer_and_second_alone() {
        let (ours, other) = (serial(), serial());
        let body = Bytes::from_static(b"body");
        keep(ours, 7, 100, &body);
        assert_eq!(get(ours, 7, 100), Some(body.clone()));
        assert_eq!(get(ours, 7, 101), None);
        assert_eq!(get(ours, 7 + PLACES, 100), None);
        assert_eq!(get(other, 7, 100), None);
        keep(ours, 7 + PLACES, 100, &body);
        assert_eq!(get(ours, 7 + PLACES, 100), None, "the place is taken");
        keep(ours, 7 + PLACES, 101, &body);
        assert_eq!(get(ours, 7 + PLACES, 101), Some(body));
    }

    #[test]
    fn long_bodies_are_not_kept() {
        let ours = serial();
        keep(ours, 8, 100, &Bytes::from(vec![0; LONGEST + 1]));
        assert_eq!(get(ours, 8, 100), None);
    }
}
