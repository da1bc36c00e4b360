//! When all pairs are compiled: who signs what, and what each document says from now on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Discovery, Endpoint, Issuers, Pending, TokenWorld, discovery,
    introspection::Introspection,
    signer::{self, Signer, same_issuer},
};
use crate::{
    answer::Spliced,
    compile::{CompiledSnapshot, Fields, Living, Way},
    diagnostic::{Diagnostic, Diagnostics},
};

impl TokenWorld {
    /// Finishes the documents that [`TokenWorld::look`] has found.
    pub(crate) fn settle(compiled: &mut CompiledSnapshot, found: &mut Diagnostics) {
        let mut world = std::mem::take(&mut compiled.token_world);
        let pending = std::mem::take(&mut world.pending);
        world.issuers =
            Issuers::settle(&world.settings.issuer, &pending.discoveries, &compiled.slots, found);
        introspections(compiled, &pending.introspections, &world.issuers);
        world.name_issuers(compiled, &pending);
        if world.names_keys() || !pending.discoveries.is_empty() {
            world.signers = signer::of_slots(&compiled.slots);
            let (members, strays) =
                signer::assign(&world.signers, &world.sets, &pending.discoveries);
            for (set, members) in world.sets.iter_mut().zip(members) {
                set.members = members;
            }
            world.serve_sets(compiled, &pending);
            discoveries(compiled, &pending.discoveries, &world.signers);
            world.tell(&strays, &pending, found);
        }
        compiled.token_world = world;
    }

    /// Lets tokens and discovery documents name the issuers that recorded ones become.
    fn name_issuers(&self, compiled: &mut CompiledSnapshot, pending: &Pending) {
        if self.issuers.is_empty() {
            return;
        }
        compiled.slots.iter_mut().for_each(|slot| slot.issued_by(&self.issuers));
        for discovery in &pending.discoveries {
            let Some(instance) = compiled.instances.get_mut(discovery.instance) else { continue };
            if let Some(body) = self.issuers.rewrite(&instance.body, &discovery.issuer) {
                instance.body = body.into();
                Arc::make_mut(&mut instance.headers).remove(http::header::ETAG);
            }
        }
    }

    fn serve_sets(&self, compiled: &mut CompiledSnapshot, pending: &Pending) {
        for (instance, set) in &pending.sets {
            let Some(instance) = compiled.instances.get_mut(*instance) else { continue };
            instance.living = Some(Box::new(Living { tokens: 0, way: Way::KeySet(*set) }));
        }
        let at = |endpoint: &Endpoint| self.sets.iter().position(|set| set.endpoint == *endpoint);
        for (nth, endpoint) in &pending.unmodified {
            let Some(set) = at(endpoint) else { continue };
            let body = pending.sets.iter().find(|entry| entry.1 == set).and_then(|(first, _)| {
                let first = compiled.instances.get(*first)?;
                Some((first.body.clone(), first.headers.clone()))
            });
            let (Some((body, headers)), Some(instance)) = (body, compiled.instances.get_mut(*nth))
            else {
                continue;
            };
            instance.status = 200;
            instance.headers = headers;
            instance.body = body;
            instance.living = Some(Box::new(Living { tokens: 0, way: Way::KeySet(set) }));
        }
    }

    fn tell(&self, strays: &[usize], pending: &Pending, found: &mut Diagnostics) {
        let asymmetric: Vec<&Signer> =
            self.signers.iter().filter(|signer| !signer.is_symmetric()).collect();
        let mut told = BTreeSet::new();
        for set in &self.sets {
            if !told.insert(set.endpoint.to_string()) {
                continue;
            }
            let place = set.endpoint.to_string();
            let names = names(set.members.iter().filter_map(|nth| self.signers.get(*nth)));
            if names.is_empty() {
                let why = if self.signers.is_empty() {
                    "no token is re-signed"
                } else {
                    "tokens are re-signed with HMAC only, whose secrets are never published"
                };
                let message = format!("the key set is served as recorded: {why}");
                found.push(Diagnostic::info("jwks_as_recorded", "", message).subject(place));
                continue;
            }
            let recorded = set.kids().count();
            let message = format!(
                "the key set is made of the keys of {names}; {recorded} recorded keys stand behind them"
            );
            found.push(Diagnostic::info("jwks_served", "", message).subject(place));
        }
        if self.sets.len() > 1 {
            for signer in strays.iter().filter_map(|nth| self.signers.get(*nth)) {
                let mut finding = Diagnostic::info(
                    "jwks_not_known",
                    "",
                    "no recorded key set belongs to these tokens, by kid or by issuer; every key set publishes their key",
                )
                .subject(format!("{} {}", signer.alg.as_str(), signer.iss));
                finding.count = signer.tokens;
                found.push(finding);
            }
        }
        for signer in asymmetric.iter().filter(|signer| signer.kid.is_some() && self.names_keys()) {
            let mut finding = Diagnostic::info(
                "kid_configured",
                "",
                "the chain sets a kid, which the next key will have, too; verifiers that keep a key set do not notice a rotation",
            )
            .hint("leave out `kid`; tokens then name the thumbprint of their key")
            .subject(signer.name());
            finding.count = signer.tokens;
            found.push(finding);
        }
        if pending.left_out > 0 {
            let mut finding = Diagnostic::warning(
                "token_documents_left_out",
                "",
                "the recording holds more key sets and discovery documents than are looked at; the rest is served as recorded",
            );
            finding.count = pending.left_out;
            found.push(finding);
        }
    }
}

/// Keys and the algorithms that they sign with, for people.
fn names<'s>(signers: impl Iterator<Item = &'s Signer>) -> String {
    let mut by_name: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for signer in signers {
        by_name.entry(signer.name()).or_default().insert(signer.alg.as_str());
    }
    let one = |(name, algs): (String, BTreeSet<&str>)| {
        format!("{name} ({})", algs.into_iter().collect::<Vec<_>>().join(", "))
    };
    by_name.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Adds the algorithms of an issuer's tokens, or of all tokens when none says that it is of that issuer.
fn discoveries(compiled: &mut CompiledSnapshot, discoveries: &[Discovery], signers: &[Signer]) {
    for discovery in discoveries {
        let own = |signer: &&Signer| same_issuer(&signer.iss, &discovery.issuer);
        let mut algs: BTreeSet<&str> =
            signers.iter().filter(own).map(|signer| signer.alg.as_str()).collect();
        if algs.is_empty() {
            algs = signers.iter().map(|signer| signer.alg.as_str()).collect();
        }
        let algs: Vec<&str> = algs.into_iter().collect();
        let Some(instance) = compiled.instances.get_mut(discovery.instance) else { continue };
        if let Some(body) = discovery::with_algs(&instance.body, &algs) {
            instance.body = body.into();
            Arc::make_mut(&mut instance.headers).remove(http::header::ETAG);
        }
    }
}

/// Leaves holes for the times in introspection answers.
fn introspections(compiled: &mut CompiledSnapshot, found: &[Introspection], issuers: &Issuers) {
    if found.is_empty() {
        return;
    }
    let mut by_claims: HashMap<&[u8], usize> = HashMap::new();
    for (nth, slot) in compiled.slots.iter().enumerate() {
        by_claims.entry(slot.recorded_claims_json()).or_insert(nth);
    }
    for introspection in found {
        let Some(instance) = compiled
            .instances
            .get_mut(introspection.instance)
            .filter(|instance| instance.living.is_none())
        else {
            continue;
        };
        let fills = introspection.fills(&instance.body, &by_claims, &compiled.slots, issuers);
        if fills.is_empty() {
            continue;
        }
        let mut holes = Vec::with_capacity(fills.len());
        for (span, fill) in fills {
            holes.push((span, compiled.fills.len()));
            compiled.fills.push(fill);
        }
        let way = Way::Spliced {
            headers: Fields { spliced: Vec::new(), plain: Arc::clone(&instance.headers) },
            body: Spliced::new(instance.body.clone(), holes),
            trailers: None,
        };
        instance.living = Some(Box::new(Living { tokens: 0, way }));
    }
}
