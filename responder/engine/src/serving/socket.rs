//! What the server of a recorded WebSocket connection says, at its beginning and to what a client says.

use std::time::Duration;

use bytes::Bytes;

use super::Serving;
use crate::{
    answer::Hit,
    compile::{Conversation, Step, socket_key},
    request::{Parts, Request},
    transform::{Scope, Side},
};

/// Where a live connection is in a recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Talk {
    conversation: usize,
    /// The next step.
    at: usize,
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it says.
    pub bytes: Bytes,
    /// It is text.
    pub text: bool,
    /// How long after what was said before.
    pub after: Duration,
    /// How many tokens in it were re-signed.
    pub resigned: u32,
    /// How many tokens in it are served as recorded, because their key cannot sign.
    pub unsigned: u32,
}

impl Serving {
    /// The connection that an answered handshake begins; `None` when the answer is no handshake.
    #[must_use]
    pub fn talk(&self, hit: &Hit) -> Option<Talk> {
        let instance = self.snapshot.instances.get(hit.origin?.instance)?;
        instance.rare().conversation.map(|conversation| Talk { conversation, at: 0 })
    }

    /// What the server says before the client said anything.
    #[must_use]
    pub fn greet(&self, talk: &mut Talk, now: i64) -> Vec<Said> {
        self.go_on(talk, &mut None, now)
    }

    /// What the server says to a message of the client, which is the body of `request`; the rest of it is the handshake. `None` when no
    /// recorded connection like this has such a message.
    #[must_use]
    pub fn say(&self, talk: &mut Talk, request: &Request<'_>, now: i64) -> Option<Vec<Said>> {
        let snapshot = &*self.snapshot;
        let at = snapshot.clock.at(now, self.start);
        let live = snapshot.parts_of(request);
        let first = Scope::live(&snapshot.world, Side::Request, at);
        let find = |parts: &Parts, _: &Scope| {
            let key = socket_key(&parts.body, &snapshot.identities);
            let own = snapshot.conversations.get(talk.conversation)?;
            if let Some(found) = place(own, talk.at, &key) {
                return Some(Talk { at: found, ..*talk });
            }
            let others = snapshot.conversations.iter().enumerate();
            others.filter(|(_, other)| other.path == own.path).find_map(|(conversation, other)| {
                place(other, 0, &key).map(|at| Talk { conversation, at })
            })
        };
        let (found, scope) = snapshot.plan.run_on_live(&live, first, find)?;
        *talk = found;
        let mut scope = (!snapshot.plan.is_empty()).then_some(scope);
        Some(self.go_on(talk, &mut scope, now))
    }

    /// Everything up to the next message of the client.
    fn go_on(&self, talk: &mut Talk, scope: &mut Option<Scope>, now: i64) -> Vec<Said> {
        let now = self.snapshot.clock.at(now, self.start);
        let mut said = Vec::new();
        let Some(conversation) = self.snapshot.conversations.get(talk.conversation) else {
            return said;
        };
        while let Some(Step::Server { instance, text, after }) = conversation.steps.get(talk.at) {
            talk.at += 1;
            let Some(instance) = self.snapshot.instances.get(*instance) else { continue };
            let hit = self.current(instance, scope.take(), now, None);
            said.push(Said {
                bytes: hit.body,
                text: *text,
                after: *after,
                resigned: hit.resigned,
                unsigned: hit.unsigned,
            });
        }
        said
    }
}

/// The step behind this message of a client, from a place on and then from the start.
fn place(conversation: &Conversation, from: usize, key: &[u8]) -> Option<usize> {
    let is =
        |at: &usize| matches!(conversation.steps.get(*at), Some(Step::Client(own)) if own == key);
    let all = from..conversation.steps.len();
    all.chain(0..from).find(is).map(|at| at + 1)
}
