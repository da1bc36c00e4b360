//! Every order in which a few threads can meet as they take turns, and every value that a read may then see; run by `.ci/run model`.
//!
//! What runs is the code itself, with loom's atomics. Orders multiply, so that lists are short and threads are few; what holds for two requests
//! and a reset at every step of both holds for more of them. What lies around it and locks or waits is stood in for, and each place says so.

use loom::{
    sync::{Arc, Mutex},
    thread,
};

use super::{shared::Lease, *};

/// How often each place of a list was taken.
fn counts<const LEN: usize>(taken: impl IntoIterator<Item = usize>) -> [usize; LEN] {
    let mut counts = [0; LEN];
    for place in taken {
        counts[place] += 1;
    }
    counts
}

/// Takes so many turns of a cursor in a list that is longer than anybody gets in it.
fn take(cursor: &Cursor, turns: usize) -> Vec<usize> {
    (0..turns).map(|_| cursor.take(100, End::Stop)).collect()
}

/// Takes what is leased, so many turns at most.
fn take_leased(lease: &Lease, turns: usize) -> Vec<usize> {
    (0..turns).map_while(|_| lease.take(2)).collect()
}

/// A lease of so many turns.
fn leased(turns: u64) -> Arc<Lease> {
    let lease = Arc::new(Lease::default());
    lease.add(turns);
    lease
}

fn spawn<S: Send + Sync + 'static, T: 'static>(
    shared: &Arc<S>,
    run: impl FnOnce(&S) -> T + 'static,
) -> thread::JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || run(&shared))
}

#[test]
fn each_turn_of_a_cursor_is_taken_once_and_none_is_left_out() {
    loom::model(|| {
        let cursor = Arc::new(Cursor::default());
        let others = [2, 1].map(|turns| spawn(&cursor, move |cursor| take(cursor, turns)));
        let mut taken = take(&cursor, 2);
        assert!(taken.is_sorted(), "{taken:?}");
        taken.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
        assert_eq!(counts(taken), [1; 5]);
        assert_eq!(cursor.taken(), 5);
    });
}

#[test]
fn a_reset_parts_the_turns_of_a_cursor_in_two_runs_without_a_gap() {
    loom::model(|| {
        let cursor = Arc::new(Cursor::default());
        let others = [2, 1].map(|turns| spawn(&cursor, move |cursor| take(cursor, turns)));
        cursor.reset();
        let taken = others.into_iter().flat_map(|other| other.join().unwrap());
        let counts = counts::<3>(taken);
        let after = usize::try_from(cursor.taken()).unwrap();
        let expected: [usize; 3] = std::array::from_fn(|place| {
            usize::from(place < 3 - after) + usize::from(place < after)
        });
        assert_eq!(counts, expected, "{after} were taken after the reset");
    });
}

#[test]
fn each_leased_turn_is_taken_once_though_more_are_leased_meanwhile() {
    loom::model(|| {
        let lease = leased(2);
        let others = [2, 2].map(|turns| spawn(&lease, move |lease| take_leased(lease, turns)));
        lease.add(2);
        let others = others.into_iter().flat_map(|other| other.join().unwrap());
        let mut taken: Vec<_> = others.collect();
        taken.extend(take_leased(&lease, 5));
        assert_eq!(counts(taken), [2; 2]);
        assert_eq!(lease.peek(2), 0);
    });
}

#[test]
fn leased_turns_begin_a_cycle_anew_after_a_reset_and_take_no_place_twice() {
    loom::model(|| {
        let lease = leased(2);
        let taking = spawn(&lease, |lease| take_leased(lease, 3));
        let adding = spawn(&lease, |lease| lease.add(2));
        lease.reset();
        adding.join().unwrap();
        let taken = taking.join().unwrap();
        let left = take_leased(&lease, 5);
        let of_both = taken.iter().chain(&left).copied();
        let [first, second] = counts(of_both);
        // What the reset cut off is the end of a cycle, and everything else is whole.
        assert!(first >= second && first <= second + 1 && first <= 2, "{taken:?}, then {left:?}");
        assert!(left.last().is_none_or(|last| *last == 1), "{taken:?}, then {left:?}");
        assert_eq!(lease.peek(2), 0);
    });
}

/// A node's lease of a list and what it leases from.
struct Leasing {
    lease: Lease,
    /// Stands in for the room of a list, in which one request leases at a time.
    room: Mutex<()>,
    /// Stands in for the register of the list's owner: how many turns it has given out.
    given: Mutex<u64>,
}

impl Leasing {
    /// A turn as a responder takes it: what is leased, or else a cycle more unless somebody has leased one meanwhile.
    fn turn(&self) -> usize {
        if let Some(turn) = self.lease.take(2) {
            return turn;
        }
        let _alone = self.room.lock().unwrap();
        loop {
            if let Some(turn) = self.lease.take(2) {
                return turn;
            }
            *self.given.lock().unwrap() += 2;
            self.lease.add(2);
        }
    }
}

#[test]
fn whoever_finds_nothing_leased_leases_a_cycle_and_no_more_than_is_needed() {
    loom::model(|| {
        let (room, given) = (Mutex::new(()), Mutex::new(0));
        let leasing = Arc::new(Leasing { lease: Lease::default(), room, given });
        let others = [(), ()].map(|()| spawn(&leasing, Leasing::turn));
        let mut taken = vec![leasing.turn()];
        taken.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(counts(taken), [2, 1]);
        assert_eq!(*leasing.given.lock().unwrap(), 4, "three turns are two cycles");
        assert_eq!(take_leased(&leasing.lease, 5), [1]);
    });
}

const SOMEBODY: IdentityId = IdentityId::NOBODY;

fn to(epoch: u32) -> Move {
    Move { identity: SOMEBODY, to: epoch, issues: false }
}

/// How far somebody is, looked at so many times.
fn look(progress: &Progress, times: usize) -> Vec<u32> {
    (0..times).map(|_| progress.of(SOMEBODY)).collect()
}

/// Moves somebody on twice.
fn move_on(progress: &Progress) {
    progress.make(to(1));
    progress.make(to(2));
}

#[test]
fn nobody_sees_progress_go_back_while_one_request_follows_another() {
    loom::model(|| {
        let progress = Arc::new(Progress::new(1, false));
        let looking = [2, 2].map(|times| spawn(&progress, move |it| look(it, times)));
        move_on(&progress);
        for seen in looking.map(|looking| looking.join().unwrap()) {
            assert!(seen.is_sorted(), "{seen:?}");
        }
        assert_eq!(progress.of(SOMEBODY), 2);
    });
}

#[test]
fn only_a_reset_leads_back_and_it_leads_to_the_start() {
    loom::model(|| {
        let progress = Arc::new(Progress::new(1, false));
        let moving = spawn(&progress, move_on);
        let looking = spawn(&progress, |it| look(it, 3));
        progress.reset();
        moving.join().unwrap();
        let seen = looking.join().unwrap();
        let back: Vec<_> = seen.windows(2).filter(|two| two[0] > two[1]).collect();
        assert!(back.len() < 2 && back.iter().all(|two| two[1] == 0), "{seen:?}");
    });
}

// Apart from the one before: a read that happened meanwhile blurs for loom in which order others have written.
#[test]
fn of_moves_and_a_reset_at_once_the_last_one_stays() {
    loom::model(|| {
        let progress = Arc::new(Progress::new(1, false));
        let moving = spawn(&progress, move_on);
        progress.reset();
        moving.join().unwrap();
        assert!([0, 2].contains(&progress.of(SOMEBODY)), "a move that is over is no more");
    });
}

#[test]
fn whoever_sees_a_move_sees_the_turn_that_made_it() {
    loom::model(|| {
        let shared = Arc::new((Cursor::default(), Progress::new(1, false)));
        let moving = spawn(&shared, |(cursor, progress)| {
            cursor.take(2, End::Wrap);
            progress.make(to(1));
        });
        let (cursor, progress) = &*shared;
        if progress.of(SOMEBODY) == 1 {
            assert_eq!((cursor.taken(), cursor.peek(2, End::Wrap)), (1, 1));
        }
        moving.join().unwrap();
    });
}

/// Answers of one identity in two epochs.
fn in_two_epochs() -> Turns {
    let run = |epoch: u32, instances: [usize; 3]| Run {
        epoch,
        instances: instances.into(),
        ..Run::default()
    };
    let runs = [run(0, [0, 1, 2]), run(1, [3, 4, 5])].into();
    Turns { groups: [Group { identity: SOMEBODY, runs }].into(), shared: None }
}

#[test]
fn reads_take_each_turn_of_an_epoch_once_and_none_of_an_epoch_that_is_over() {
    loom::model(|| {
        let shared = Arc::new((in_two_epochs(), Progress::new(1, false)));
        let read = |(turns, progress): &(Turns, Progress)| {
            let list = turns.narrow(Who::Known(SOMEBODY), progress).unwrap();
            list.instances[list.cursor.take(3, End::Stop)]
        };
        let reading = spawn(&shared, move |shared| [read(shared), read(shared)]);
        let changing = spawn(&shared, move |shared| {
            shared.1.make(to(1));
            read(shared)
        });
        let taken = reading.join().unwrap();
        let own = changing.join().unwrap();
        assert!(own >= 3, "a read sees what was changed before it: {own}");
        assert!(taken.is_sorted(), "{taken:?}");
        let counts = counts::<6>(taken.into_iter().chain([own]));
        assert!(counts.iter().all(|count| *count < 2), "{taken:?} and {own}");
        assert!(
            counts.chunks(3).all(|of_one| of_one.is_sorted_by(|a, b| a >= b)),
            "{taken:?} and {own}"
        );
    });
}
