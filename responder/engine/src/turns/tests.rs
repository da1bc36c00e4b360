//! Turns without a snapshot around them.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::*;

#[test]
fn ten_thousand_steps_at_once_take_every_position_once() {
    const STEPS: usize = 10_000;
    let cursor = Cursor::default();
    let taken: Vec<AtomicUsize> = (0..STEPS).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                for _ in 0..STEPS / 16 {
                    taken[cursor.take(STEPS, End::Wrap)].fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert!(taken.iter().all(|count| count.load(Relaxed) == 1));
    assert_eq!(cursor.take(STEPS, End::Wrap), 0, "then from the start again");
}

#[test]
fn stops_at_the_last_where_it_is_told_to() {
    let cursor = Cursor::default();
    let taken: Vec<_> = (0..5).map(|_| cursor.take(3, End::Stop)).collect();
    assert_eq!(taken, [0, 1, 2, 2, 2]);
    assert_eq!((cursor.peek(3, End::Stop), cursor.taken()), (2, 5));
    reset([&cursor].into_iter());
    assert_eq!(cursor.peek(3, End::Stop), 0);
}
