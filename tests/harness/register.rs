//! Whether what many clients were told could have come from one counter: a register that is read and raised in one step.
//!
//! Such a register is linearizable just when no turn is given out twice, whoever is answered before another one asks has the smaller turn,
//! and turns that nobody was told of are no more than calls whose answer was lost. Where responders report that the order broke, it may begin
//! anew there, and nowhere else.

use std::collections::HashMap;

/// A call of a client. Times are in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When it was sent.
    pub invoked: i64,
    /// When its answer was there, and which turn that was; `None` when no answer came.
    pub answered: Option<(i64, u64)>,
}

/// A discontinuity that a responder has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// A new owner goes on from this turn without having been told how far it was.
    Lost {
        /// When it said so, before it answered.
        time: i64,
        /// The turn.
        turn: u64,
    },
    /// A request was answered with this turn although the owner was not asked.
    Alone {
        /// When.
        time: i64,
        /// The turn.
        turn: u64,
    },
    /// Turns of so many calls may have been given out without reaching anybody.
    Skipped {
        /// How many calls.
        calls: u64,
    },
}

/// What was found when nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// Calls that were answered in order.
    pub ordered: usize,
    /// How often the order began anew.
    pub breaks: usize,
    /// Calls that were answered without asking the owner.
    pub alone: usize,
    /// Turns that nobody was told of.
    pub missing: u64,
    /// How many of them there may be.
    pub may_be_missing: u64,
}

/// Turns between two breaks.
struct Reign {
    time: i64,
    turn: u64,
    calls: HashMap<u64, (i64, i64)>,
}

/// Checks all calls for one list.
///
/// # Errors
/// What no register does and no report explains.
pub fn check(calls: &[Call], breaks: &[Break]) -> Result<Found, String> {
    let failed = calls.iter().filter(|call| call.answered.is_none()).count();
    let mut answered: Vec<(i64, i64, u64)> = calls
        .iter()
        .filter_map(|call| call.answered.map(|(time, turn)| (call.invoked, time, turn)))
        .collect();
    answered.sort_unstable_by_key(|(_, time, _)| *time);
    let mut found = Found::default();
    let mut may_be_missing = u64::try_from(failed).unwrap_or(u64::MAX);
    for one in breaks {
        match *one {
            Break::Skipped { calls } => may_be_missing += calls,
            Break::Alone { time, turn } => {
                // Later turns go on behind it, wherever they are taken.
                may_be_missing += 1;
                let is =
                    |call: &(i64, i64, u64)| call.2 == turn && (call.0..=call.1).contains(&time);
                if let Some(nth) = answered.iter().position(is) {
                    answered.remove(nth);
                    found.alone += 1;
                }
            }
            Break::Lost { .. } => {}
        }
    }
    let mut reigns = vec![Reign { time: i64::MIN, turn: 0, calls: HashMap::new() }];
    let mut lost: Vec<(i64, u64)> = breaks
        .iter()
        .filter_map(|one| match *one {
            Break::Lost { time, turn } => Some((time, turn)),
            Break::Alone { .. } | Break::Skipped { .. } => None,
        })
        .collect();
    lost.sort_unstable();
    reigns.extend(lost.iter().map(|(time, turn)| Reign {
        time: *time,
        turn: *turn,
        calls: HashMap::new(),
    }));
    for (invoked, time, turn) in answered {
        let nth = reign(&reigns, (invoked, time, turn))?;
        reigns[nth].calls.insert(turn, (invoked, time));
        found.ordered += 1;
    }
    for reign in &reigns {
        in_order(reign)?;
        let last = reign.calls.keys().max().map_or(reign.turn, |last| last + 1);
        let told = u64::try_from(reign.calls.len()).unwrap_or(u64::MAX);
        found.missing += last - reign.turn - told;
    }
    (found.breaks, found.may_be_missing) = (lost.len(), may_be_missing);
    if found.missing > may_be_missing {
        return Err(format!("turns are missing that nothing explains: {found:?}"));
    }
    Ok(found)
}

/// The reign that an answer can belong to, the latest first.
fn reign(reigns: &[Reign], (invoked, time, turn): (i64, i64, u64)) -> Result<usize, String> {
    let may = |nth: &usize| {
        let reign = &reigns[*nth];
        let over = reigns.get(nth + 1).is_some_and(|next| next.time < invoked);
        reign.time <= time && !over && reign.turn <= turn && !reign.calls.contains_key(&turn)
    };
    (0..reigns.len()).rev().find(may).ok_or_else(|| {
        format!(
            "turn {turn} was given from {invoked} to {time}, which is once too often or too late"
        )
    })
}

/// Whoever was answered before another one asked has the smaller turn.
fn in_order(reign: &Reign) -> Result<(), String> {
    let mut by_answer: Vec<(i64, u64)> =
        reign.calls.iter().map(|(turn, (_, answered))| (*answered, *turn)).collect();
    by_answer.sort_unstable();
    let mut by_call: Vec<(i64, u64)> =
        reign.calls.iter().map(|(turn, (invoked, _))| (*invoked, *turn)).collect();
    by_call.sort_unstable();
    let (mut before, mut greatest) = (by_answer.into_iter().peekable(), None);
    for (invoked, turn) in by_call {
        while let Some((_, earlier)) = before.next_if(|(answered, _)| *answered < invoked) {
            greatest = greatest.max(Some(earlier));
        }
        if greatest.is_some_and(|greatest| greatest > turn) {
            return Err(format!("turn {turn} was asked for after turn {greatest:?} was told"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(invoked: i64, time: i64, turn: u64) -> Call {
        Call { invoked, answered: Some((time, turn)) }
    }

    fn failed(invoked: i64) -> Call {
        Call { invoked, answered: None }
    }

    fn ordered(found: Result<Found, String>) -> (usize, u64) {
        found.map(|found| (found.ordered, found.missing)).unwrap()
    }

    #[test]
    fn concurrent_calls_may_be_answered_in_any_order() {
        let calls = [call(1, 9, 2), call(2, 8, 0), call(3, 7, 1), call(10, 11, 3)];
        assert_eq!(ordered(check(&calls, &[])), (4, 0));
    }

    #[test]
    fn a_turn_that_comes_twice_or_too_late_is_found() {
        let twice = [call(1, 2, 0), call(3, 4, 1), call(5, 6, 1)];
        assert!(check(&twice, &[]).unwrap_err().contains("once too often"));
        let late = [call(1, 2, 1), call(3, 4, 0)];
        assert!(check(&late, &[]).unwrap_err().contains("asked for after"));
    }

    #[test]
    fn a_missing_turn_needs_a_lost_answer() {
        let calls = [call(1, 2, 0), call(3, 4, 2)];
        assert!(check(&calls, &[]).unwrap_err().contains("missing"));
        let calls = [call(1, 2, 0), failed(2), call(3, 4, 2)];
        assert_eq!(ordered(check(&calls, &[])), (2, 1));
        let calls = [call(1, 2, 0), call(3, 4, 2)];
        assert_eq!(ordered(check(&calls, &[Break::Skipped { calls: 1 }])), (2, 1));
    }

    #[test]
    fn the_order_may_begin_anew_where_it_is_said_and_nowhere_else() {
        let calls = [call(1, 2, 0), call(3, 4, 1), call(7, 8, 1), call(9, 10, 2)];
        assert!(check(&calls, &[]).is_err());
        assert_eq!(ordered(check(&calls, &[Break::Lost { time: 6, turn: 1 }])), (4, 0));
        assert!(check(&calls, &[Break::Lost { time: 6, turn: 2 }]).is_err(), "not from there");
        assert!(check(&calls, &[Break::Lost { time: 9, turn: 1 }]).is_err(), "not before it");
        let again = [&calls[..], &[call(11, 12, 2)]].concat();
        assert!(check(&again, &[Break::Lost { time: 6, turn: 1 }]).is_err(), "once only");
    }

    #[test]
    fn who_does_not_ask_the_owner_has_no_place_in_the_order() {
        let calls = [call(1, 2, 0), call(3, 8, 1), call(4, 9, 1), call(10, 11, 2)];
        assert!(check(&calls, &[]).is_err());
        let found = check(&calls, &[Break::Alone { time: 5, turn: 1 }]).unwrap();
        assert_eq!((found.ordered, found.alone), (3, 1));
        assert!(check(&calls, &[Break::Alone { time: 10, turn: 1 }]).is_err());
    }
}
