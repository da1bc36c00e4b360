//! Laying out the turns: which answers of a signature belong to which identity and epoch.
//!
//! Epochs are used where the recording shows them: a read whose answers differ, but never within one epoch. Where they would only be a guess,
//! answers take turns as ever.

use std::collections::{HashMap, HashSet};

use super::{Cursor, Group, ListId, Move, Progress, Run, Shared, Turns};
use rapidhash::v3::rapidhash_v3;

use crate::{
    identity::{IdentityId, Seen},
    index::Index,
    snapshot::HttpResponse,
    test_config::{Across, Order, Scope, Sequence, State},
};

/// What turns are made of: a recorded pair, seen from the outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recorded {
    /// Who is behind it.
    pub(crate) seen: Seen,
    /// It only reads.
    pub(crate) reads: bool,
    /// It changed something.
    pub(crate) changes: bool,
    /// A digest of its answer.
    pub(crate) answer: u64,
}

/// A pair with this method and response.
pub(crate) fn recorded(method: &str, response: &HttpResponse, seen: Seen) -> Recorded {
    let is = |methods: &[&str]| methods.iter().any(|known| method.eq_ignore_ascii_case(known));
    Recorded {
        seen,
        reads: is(&["GET", "HEAD"]),
        // A login or refresh begins or continues a session and changes nothing in it.
        changes: is(&["POST", "PUT", "PATCH", "DELETE"])
            && (200..300).contains(&response.status)
            && seen.issued.is_none(),
        answer: rapidhash_v3(&response.body) ^ u64::from(response.status),
    }
}

/// A pair's epoch before and after it.
#[derive(Debug, Clone, Copy, Default)]
struct Epochs {
    before: u32,
    after: u32,
    /// Of whose token it issues.
    issued: u32,
}

/// Lays out the turns of every signature. `recorded` are the instances, in recorded order. Returns how far identities are, and the move that
/// each instance makes.
pub(crate) fn plan(
    index: &mut Index,
    recorded: &[Recorded],
    identities: usize,
    rules: &Sequence,
) -> (Progress, Vec<Option<Move>>) {
    let mut moves = vec![None; recorded.len()];
    match rules.scope {
        // One order for everybody is the cursor that each signature has without any layout.
        Scope::Replica => return (Progress::default(), moves),
        Scope::Global => {
            index.lay_out(|signature, instances| shared(signature, instances, recorded, rules));
            return (Progress::default(), moves);
        }
        Scope::Identity => {}
    }
    let epochs = epochs(recorded);
    let mut moving = HashSet::new();
    index.lay_out(|signature, instances| {
        let turns = turns(instances, recorded, &epochs, rules.state, &mut moving);
        if rules.across == Across::Node {
            return turns;
        }
        share(turns, signature, instances, recorded)
    });
    if moving.is_empty() {
        return (Progress::default(), moves);
    }
    for ((pair, at), place) in recorded.iter().zip(&epochs).zip(&mut moves) {
        let own = pair.seen.identity;
        let issued = pair.seen.issued.filter(|identity| moving.contains(identity));
        if pair.changes && moving.contains(&own) {
            *place = Some(Move { identity: own, to: at.after, issues: false });
        } else if let Some(identity) = issued {
            *place = Some(Move { identity, to: at.issued, issues: true });
        }
    }
    (Progress::new(identities, rules.across == Across::Fleet), moves)
}

fn epochs(recorded: &[Recorded]) -> Vec<Epochs> {
    let mut now: HashMap<IdentityId, u32> = HashMap::new();
    recorded
        .iter()
        .map(|pair| {
            let own = now.entry(pair.seen.identity).or_default();
            let before = *own;
            *own = own.saturating_add(u32::from(pair.changes));
            let after = *own;
            let issued =
                pair.seen.issued.map_or(0, |issued| now.get(&issued).copied().unwrap_or_default());
            Epochs { before, after, issued }
        })
        .collect()
}

/// The turns of one signature; `None` when one cursor over all answers says the same.
fn turns(
    instances: &[usize],
    recorded: &[Recorded],
    epochs: &[Epochs],
    state: State,
    moving: &mut HashSet<IdentityId>,
) -> Option<Box<Turns>> {
    let identity = |nth: &usize| recorded.get(*nth).map(|pair| pair.seen.identity);
    let mut sorted = instances.to_vec();
    // Stable: within an identity the recorded order stays.
    sorted.sort_by_key(identity);
    let mut groups = Vec::new();
    for of_one in sorted.chunk_by(|a, b| identity(a) == identity(b)) {
        let Some(identity) = of_one.first().and_then(identity) else { continue };
        let runs = runs(of_one, recorded, epochs, state, identity);
        if runs.len() > 1 {
            moving.insert(identity);
        }
        groups.push(Group { identity, runs: runs.into_boxed_slice() });
    }
    let one = groups.len() == 1 && groups.first().is_some_and(|group| group.runs.len() == 1);
    (!one).then(|| Box::new(Turns { groups: groups.into_boxed_slice(), shared: None }))
}

/// The answers of some instances, if it matters which of them comes: they differ, or `moving` identities are moved on by them.
fn different<'r>(
    instances: &'r [usize],
    recorded: &'r [Recorded],
    moving: bool,
) -> Option<impl Iterator<Item = u64> + Clone + 'r> {
    let pairs = instances.iter().filter_map(|nth| recorded.get(*nth));
    let moves = |pair: &Recorded| pair.changes || pair.seen.issued.is_some();
    let moves = moving && pairs.clone().any(moves);
    let answers = pairs.map(|pair| pair.answer);
    let first = answers.clone().next()?;
    (moves || answers.clone().any(|answer| answer != first)).then_some(answers)
}

/// Turns that nodes share, one order for everybody; `None` when it does not matter which answer comes.
fn shared(
    signature: &[u8],
    instances: &[usize],
    recorded: &[Recorded],
    rules: &Sequence,
) -> Option<Box<Turns>> {
    let cycles = match rules.order {
        Order::Strict => None,
        Order::Cycles(count) => Some(count),
    };
    let answers = different(instances, recorded, false)?;
    let shared = Shared::new(ListId::of(signature, answers), cycles);
    Some(Box::new(Turns { groups: Box::default(), shared: Some(shared) }))
}

/// The same turns, which nodes share as far as it matters which answer comes.
fn share(
    turns: Option<Box<Turns>>,
    signature: &[u8],
    instances: &[usize],
    recorded: &[Recorded],
) -> Option<Box<Turns>> {
    let Some(all) = different(instances, recorded, true) else { return turns };
    let groups = Box::default();
    let mut turns = turns.unwrap_or_else(|| Box::new(Turns { groups, shared: None }));
    turns.shared = Some(Shared::new(ListId::of(signature, all), None));
    for group in &mut turns.groups {
        for run in &mut group.runs {
            let Some(answers) = different(&run.instances, recorded, true) else { continue };
            let whose = (group.identity, run.epoch);
            run.shared = Some(Shared::new(ListId::of_run(signature, whose, answers), None));
        }
    }
    Some(turns)
}

/// One identity's answers by epoch, or all in one run.
fn runs(
    instances: &[usize],
    recorded: &[Recorded],
    epochs: &[Epochs],
    state: State,
    identity: IdentityId,
) -> Vec<Run> {
    let run = |epoch: u32, instances: &[usize]| Run {
        epoch,
        instances: instances.into(),
        cursor: Cursor::default(),
        shared: None,
    };
    let epoch = |nth: &usize| epochs.get(*nth).map_or(0, |at| at.before);
    let answer = |nth: &usize| recorded.get(*nth).map(|pair| pair.answer);
    let reads = |nth: &usize| recorded.get(*nth).is_some_and(|pair| pair.reads);
    let differs = |instances: &[usize]| {
        instances.iter().any(|nth| answer(nth) != instances.first().and_then(answer))
    };
    // Pairs come in recorded order, so an identity's epochs only grow.
    let by_epoch: Vec<&[usize]> = instances.chunk_by(|a, b| epoch(a) == epoch(b)).collect();
    // Clients without a credential are one identity, but seldom one client.
    let shown = identity != IdentityId::NOBODY && !by_epoch.iter().any(|of_one| differs(of_one));
    let used = match state {
        State::Off => false,
        State::On => true,
        State::Auto => shown,
    };
    if !used || by_epoch.len() < 2 || !instances.iter().all(reads) || !differs(instances) {
        return vec![run(0, instances)];
    }
    by_epoch.into_iter().map(|of_one| run(of_one.first().map_or(0, epoch), of_one)).collect()
}
