//! Scripts: the calls of gRPC methods whose clients send several messages, message by message, so that a call can be recognised while it
//! goes on.

use std::collections::HashMap;

use rapidhash::v3::rapidhash_v3;

use super::CompiledSnapshot;
use crate::{
    grpc,
    identity::Identities,
    protobuf::form::Purpose,
    request::{Parts, Request, host_key, normal_path},
};

/// Recorded calls by path, in recorded order.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    by_path: HashMap<String, Vec<Script>>,
}

/// The messages of a client under one signature.
#[derive(Debug)]
pub(crate) struct Script {
    /// The signature, by its place in the index.
    pub(crate) entry: usize,
    host: Box<[u8]>,
    /// A hash of each message.
    messages: Vec<u64>,
}

impl Scripts {
    /// Adds a call, if it is one whose client says several things; equal ones are one script.
    pub(super) fn add(&mut self, parts: &Parts, identities: &Identities, entry: usize) {
        if !parts.listed || !parts.is_call() {
            return;
        }
        let scripts = self.by_path.entry(normal_path(&parts.path).into_owned()).or_default();
        if scripts.iter().all(|script| script.entry != entry) {
            let (host, messages) = (host_key(&parts.host).into(), hashes(parts, identities));
            scripts.push(Script { entry, host, messages });
        }
    }

    /// The calls that begin with the messages of this one; with `ended` those that have no others.
    /// A host that was recorded stands for itself alone.
    pub(crate) fn find(
        &self,
        parts: &Parts,
        identities: &Identities,
        ended: bool,
        knows_host: impl Fn(&[u8]) -> bool,
    ) -> Vec<&Script> {
        let Some(scripts) = self.by_path.get(&*normal_path(&parts.path)) else {
            return Vec::new();
        };
        let heard = hashes(parts, identities);
        let host = host_key(&parts.host);
        let known = knows_host(&host);
        let fits = |script: &&Script| {
            (!known || *script.host == *host)
                && script.messages.starts_with(&heard)
                && (!ended || script.messages.len() == heard.len())
        };
        scripts.iter().filter(fits).collect()
    }
}

fn hashes(parts: &Parts, identities: &Identities) -> Vec<u64> {
    let Some(body) = grpc::read(&parts.body) else { return Vec::new() };
    let hash = |message: &grpc::Message<'_>| {
        let mut form = Vec::new();
        message.write_form(Purpose::Compare, &mut form);
        rapidhash_v3(identities.marked(&form).as_deref().unwrap_or(&form))
    };
    body.messages.iter().map(hash).collect()
}

impl CompiledSnapshot {
    /// The parts of a live request.
    pub(crate) fn parts_of(&self, request: &Request<'_>) -> Parts {
        let mut parts = Parts::of_live(request);
        parts.listed = self.lists(&parts);
        parts
    }

    pub(super) fn lists(&self, parts: &Parts) -> bool {
        self.methods.get(&parts.path).is_some_and(|method| method.requests > 1)
    }

    /// The gRPC method of a path, if it was recorded.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<grpc::Method> {
        self.methods.get(path)
    }
}

impl Script {
    /// How many messages the client sends.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }
}
