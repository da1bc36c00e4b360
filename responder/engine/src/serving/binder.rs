//! Joining token slots with keys, and what is wrong with the keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    compile::CompiledSnapshot,
    diagnostic::{Diagnostic, Diagnostics},
    jwt::{
        KeySource, TokenSlot,
        key::{KeyRing, SecretRef, SigningKey},
    },
};

/// Finds the key of each token slot and what is wrong with it, once for each kind of mistake.
pub(super) struct Binder<'k> {
    keys: &'k KeyRing,
    found: Diagnostics,
    said: BTreeSet<String>,
    unsigned: BTreeMap<String, u64>,
    /// Thumbprints by where their keys lie in memory: thousands of tokens share a key.
    kids: BTreeMap<usize, Option<Arc<str>>>,
    headers: Headers,
}

/// JOSE headers with the `kid` of their key, by what they were and that: those of many tokens are alike.
type Headers = HashMap<(Vec<u8>, Arc<str>), Option<Arc<[u8]>>>;

impl<'k> Binder<'k> {
    pub(super) fn new(keys: &'k KeyRing) -> Self {
        Self {
            keys,
            found: Diagnostics::default(),
            said: BTreeSet::new(),
            unsigned: BTreeMap::new(),
            kids: BTreeMap::new(),
            headers: Headers::new(),
        }
    }

    /// The JOSE header of a slot with a `kid`, in base64url with its dot; `None` where its own is used.
    pub(super) fn header_of(&mut self, slot: &TokenSlot, kid: &Arc<str>) -> Option<Arc<[u8]>> {
        let own = (slot.header().to_vec(), Arc::clone(kid));
        let named = || slot.header_named(kid).map(Arc::from);
        self.headers.entry(own).or_insert_with(named).clone()
    }

    pub(super) fn key_for(&mut self, slot: &TokenSlot) -> Option<Arc<SigningKey>> {
        let (name, key) = match slot.secret() {
            KeySource::Inline(key) => ("the key in the template".to_owned(), Some(Arc::clone(key))),
            KeySource::Secret(secret) => {
                (secret.to_string(), self.keys.get(secret).and_then(|entry| entry.key.clone()))
            }
        };
        let Some(key) = key else {
            *self.unsigned.entry(name).or_default() += 1;
            return None;
        };
        let alg = slot.alg();
        if let Err(why) = key.can_sign(alg) {
            let message = format!(
                "{name} cannot sign {}: {why}; tokens are served as recorded",
                alg.as_str()
            );
            if self.said.insert(message.clone()) {
                self.found.push(Diagnostic::error(why.code(), "", message).subject(name.clone()));
            }
            *self.unsigned.entry(name).or_default() += 1;
            return None;
        }
        if let Some(shortage) = slot.shortage(&key) {
            let message = format!("{shortage}; tokens are served as recorded");
            if self.said.insert(format!("{name} {message}")) {
                self.found.push(
                    Diagnostic::error("key_weak", "", message)
                        .hint("use a longer secret, or set `allowWeakKeys` to true if who verifies has this one")
                        .subject(name.clone()),
                );
            }
            *self.unsigned.entry(name).or_default() += 1;
            return None;
        }
        if let Some(weakness) = slot.weakness(&key)
            && self.said.insert(format!("{name} {weakness}"))
        {
            self.found.push(Diagnostic::warning("key_weak", "", weakness).subject(name));
        }
        Some(key)
    }

    /// The `kid` that a key set has for a key.
    pub(super) fn kid_of(&mut self, key: &Arc<SigningKey>) -> Option<Arc<str>> {
        let known = self.kids.entry(Arc::as_ptr(key).addr());
        known.or_insert_with(|| key.thumbprint().map(Arc::from)).clone()
    }

    /// Templates put HMAC secrets into answers, but no private keys.
    fn refuse_private_keys(&mut self, asked: &BTreeSet<SecretRef>) {
        for secret in asked {
            let key = self.keys.get(secret).and_then(|entry| entry.key.as_ref());
            if let Some(key) = key.filter(|key| !key.is_hmac()) {
                let message = format!(
                    "{secret} is a private key ({}), which is put into no answer; its placeholder stays",
                    key.kind()
                );
                self.found.push(
                    Diagnostic::error("secret_is_private_key", "", message)
                        .hint("take the placeholder out of the template")
                        .subject(secret.to_string()),
                );
            }
        }
    }

    pub(super) fn finish(mut self, snapshot: &CompiledSnapshot) -> Vec<Diagnostic> {
        self.refuse_private_keys(&snapshot.world.secret_texts);
        for secret in snapshot.required_secrets() {
            let name = secret.to_string();
            let tokens = self.unsigned.get(&name).copied().unwrap_or(0);
            match self.keys.get(secret) {
                Some(entry) => {
                    if let Some(problem) = &entry.problem {
                        let kept = if entry.key.is_some() { "; the key before it stays in use" } else { "" };
                        self.found.push(Diagnostic::error(problem.code, "", format!("{}{kept}", problem.message)).subject(name));
                    }
                }
                None => self.found.push(
                    Diagnostic::error(
                        "secret_missing",
                        "",
                        format!("the secret {name} is not mounted; {tokens} recorded tokens are served as recorded"),
                    )
                    .hint(format!("put the signing key into <secret-dir>/{name}"))
                    .subject(name),
                ),
            }
        }
        self.found.into_vec()
    }
}
