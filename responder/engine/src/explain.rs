//! Explanations: how a request would be matched, and why so. Nothing moves: no cursor, no scenario, no row.

use crate::{
    compile::{CompiledSnapshot, Way},
    identity::{Who, presented},
    near_miss::NearMiss,
    request::Request,
    serving::Serving,
    signature::Signature,
    transform::{Scope, Side},
};

/// What a key set that was not recorded is called among stubs.
const KEY_SET: &str = "the published key set";

/// How a request would be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The request chains that ran, by their path in the template.
    pub chains: Vec<String>,
    /// The signature of the request as it came.
    pub presented: Vec<(String, Vec<u8>)>,
    /// The signature that is looked up.
    pub signature: Vec<(String, Vec<u8>)>,
    /// The credentials that the request presents.
    pub credentials: Vec<Credential>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Recorded pairs have this signature.
    Hit {
        /// Those that whoever asks may get, in recorded order.
        candidates: Vec<Candidate>,
        /// Whose turn it is: an index into the candidates.
        chosen: usize,
        /// How it came to these candidates.
        narrowing: Narrowing,
    },
    /// A stub's conditions hold.
    Stub(String),
    /// Nothing recorded answers.
    Miss(NearMiss),
}

/// How the pairs of a signature were narrowed to those of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowing {
    /// Who asks, in words that give nothing away.
    pub identity: String,
    /// How many recorded pairs have the signature.
    pub recorded: usize,
    /// Whose they are, when none of them is of whoever asks.
    pub borrowed_from: Vec<String>,
    /// How many state-changing requests the identity had made when the candidates were recorded, where reads follow what was changed.
    pub epoch: Option<u32>,
}

impl Narrowing {
    /// The whole in a sentence, for `candidates` that are left.
    #[must_use]
    pub fn tell(&self, candidates: usize) -> String {
        let Self { identity, recorded, borrowed_from, epoch } = self;
        let left = match (candidates, recorded) {
            (1, 1) => "one recorded pair has this signature".to_owned(),
            (left, all) if left == *all => {
                format!("all {all} recorded pairs of this signature take turns")
            }
            (left, all) => format!("{left} of {all} recorded pairs are for this identity"),
        };
        match epoch {
            None if !borrowed_from.is_empty() => {
                format!("asked by {identity}: {left}, recorded for {}", borrowed_from.join(", "))
            }
            None => format!("asked by {identity}: {left}"),
            Some(0) => format!("asked by {identity}: {left}, as before it changed anything"),
            Some(epoch) => format!("asked by {identity}: {left}, as after its change {epoch}"),
        }
    }
}

/// A recorded pair that could answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its position in the recording.
    pub ordinal: u64,
    /// The status of its response.
    pub status: u16,
    /// How many of its tokens are made anew.
    pub tokens: u32,
    /// How the answer is made: `recorded`, `slots`, `per_request` or `key_set`.
    pub way: &'static str,
}

/// A credential that a request presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Where it stands, for example `header authorization`.
    pub place: String,
    /// What it is, in words that give nothing away.
    pub what: String,
}

impl CompiledSnapshot {
    /// What may be told of an instance.
    pub(crate) fn candidate(&self, nth: usize) -> Option<Candidate> {
        let instance = self.instances.get(nth)?;
        Some(Candidate {
            ordinal: instance.ordinal,
            status: instance.status,
            tokens: instance.living.as_ref().map_or(0, |living| living.tokens),
            way: match instance.living.as_ref().map(|living| &living.way) {
                None => "recorded",
                Some(Way::Spliced { .. }) => "slots",
                Some(Way::Dynamic { .. }) => "per_request",
                Some(Way::KeySet(_)) => "key_set",
            },
        })
    }
}

impl Serving {
    /// Explains how a request would be answered. `now` is in nanoseconds since the epoch.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>, now: i64) -> Explanation {
        let snapshot = self.snapshot();
        let live = snapshot.parts_of(request);
        let mut ran = Vec::new();
        let mut signature = None;
        let looking = Scope::looking(&snapshot.world, Side::Request, now);
        let found = snapshot.plan.run_on_live(&live, looking, |parts, scope| {
            let signed = snapshot.signature_of(parts, scope);
            let entry = snapshot.index.get(&signed);
            if signature.is_none() || entry.is_some() {
                ran.clone_from(&scope.ran);
                signature = Some(signed);
            }
            entry
        });
        let as_it_came = Signature::of(&live, &[]);
        let entries = |signature: &Signature| {
            signature.entries().map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
        };
        let presented_signature = entries(&as_it_came);
        let signature = signature.unwrap_or(as_it_came);
        let outcome = match found {
            Some((entry, scope)) => {
                let who = snapshot.identities.who(request, scope.session.as_deref());
                let list = entry.narrow(|| who, &snapshot.progress);
                let candidates = list.instances.iter().filter_map(|nth| snapshot.candidate(*nth));
                let recorded = list.instances.iter().filter_map(|nth| snapshot.instances.get(*nth));
                let owners: Vec<_> = recorded.map(|instance| instance.identity).collect();
                let own = matches!(who, Who::Known(identity) if owners.contains(&identity));
                let several = snapshot.identities.len() > 1;
                Outcome::Hit {
                    candidates: candidates.collect(),
                    chosen: list.peek(snapshot.end),
                    narrowing: Narrowing {
                        identity: match who {
                            Who::Known(identity) => snapshot.identities.label(identity).to_owned(),
                            Who::Unknown => "somebody whom the recording does not know".to_owned(),
                        },
                        recorded: entry.instances().len(),
                        borrowed_from: if own || !several {
                            Vec::new()
                        } else {
                            snapshot.identities.labels(owners.into_iter())
                        },
                        epoch: list.epoch,
                    },
                }
            }
            None => match snapshot.stubs.nearest(request, 1).into_iter().next() {
                Some(stub) if stub.failed.is_empty() => Outcome::Stub(stub.name),
                _ if self.well_known(request).is_some() => Outcome::Stub(KEY_SET.to_owned()),
                _ => Outcome::Miss(self.near_miss(request, now)),
            },
        };
        let chains = snapshot.plan.chains();
        Explanation {
            chains: ran
                .into_iter()
                .filter_map(|nth| chains.get(nth).map(|chain| chain.path.clone()))
                .collect(),
            presented: presented_signature,
            signature: entries(&signature),
            credentials: presented(request)
                .into_iter()
                .map(|(place, credential)| Credential { place, what: credential.tell(now) })
                .collect(),
            outcome,
        }
    }
}
