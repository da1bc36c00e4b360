//! Turns from the outside: which lists of answers there are, how far each has come, and beginning some of them anew.
//!
//! A list is told apart by the digest of its signature, so that nothing of a request's query or body is told. Looking moves nothing.

use rapidhash::v3::rapidhash_v3;

use crate::{
    compile::CompiledSnapshot,
    identity::IdentityId,
    index::Entry,
    request::keys,
    signature::Signature,
    turns::{ListId, Narrowed},
};

/// A list of answers that take turns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    /// The path of its requests.
    pub path: String,
    /// Their method.
    pub method: String,
    /// Their host.
    pub host: String,
    /// A digest of their whole signature, which tells lists of one endpoint apart.
    pub signature: u64,
    /// Whose answers they are, in words that give nothing away; `None` when they are for whoever has no own ones.
    pub identity: Option<String>,
    /// How many state-changing requests the identity had made when they were recorded, where reads follow what was changed.
    pub epoch: Option<u32>,
    /// How many answers there are.
    pub answers: usize,
    /// How many were taken since the start or the last reset.
    pub taken: u64,
    /// The answer that comes next, counted from 0.
    pub next: usize,
    /// Its pair's position in the recording.
    pub next_ordinal: u64,
    /// What the list is called among the nodes that share its turns; `None` where this node alone keeps them.
    pub shared: Option<ListId>,
}

/// Which lists are meant; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The method of their requests.
    pub method: Option<String>,
    /// The path of their requests.
    pub path: Option<String>,
    /// Whose answers they are, as [`Sequence::identity`] says it.
    pub identity: Option<String>,
}

impl Selection {
    /// Whether everything is meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.method.is_none() && self.path.is_none() && self.identity.is_none()
    }

    fn admits_endpoint(&self, endpoint: &Endpoint) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        is(&self.method, &endpoint.method) && is(&self.path, &endpoint.path)
    }

    fn admits_identity(&self, label: Option<&str>) -> bool {
        self.identity.is_none() || self.identity.as_deref() == label
    }
}

/// What a signature's requests have in common.
struct Endpoint {
    method: String,
    host: String,
    path: String,
}

impl Endpoint {
    fn of(signature: &[u8]) -> Self {
        let signature = Signature::from_bytes(signature).unwrap_or_default();
        let value = |wanted: &str| {
            let found = signature.entries().find(|(key, _)| *key == wanted);
            found.map_or_else(String::new, |(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        Self { method: value(keys::METHOD), host: value(keys::HOST), path: value(keys::URL) }
    }
}

impl CompiledSnapshot {
    /// The lists with more than one answer, and those that follow what was changed, by path, method and host.
    #[must_use]
    pub fn sequences(&self, which: &Selection) -> Vec<Sequence> {
        let mut found = Vec::new();
        self.each_list(which, |endpoint, signature, identity, list| {
            if list.instances.len() < 2 && list.epoch.is_none() {
                return;
            }
            let next = list.peek(self.end);
            let instance = list.instances.get(next).and_then(|nth| self.instances.get(*nth));
            found.push(Sequence {
                path: endpoint.path.clone(),
                method: endpoint.method.clone(),
                host: endpoint.host.clone(),
                signature,
                identity: identity.map(str::to_owned),
                epoch: list.epoch,
                answers: list.instances.len(),
                taken: list.cursor.taken(),
                next,
                next_ordinal: instance.map_or(0, |instance| instance.ordinal),
                shared: list.shared.map(|shared| shared.id),
            });
        });
        found.sort();
        found
    }

    /// The lists whose turns nodes share.
    pub fn shared_lists(&self) -> impl Iterator<Item = ListId> {
        self.index.shared().map(|shared| shared.id)
    }

    /// What stands for how far identities are, where nodes share that.
    pub fn shared_progress(&self) -> impl Iterator<Item = ListId> {
        self.progress.all_shared().map(|(_, list)| list)
    }

    /// Those of them that are selected.
    #[must_use]
    pub fn shared_among(&self, which: &Selection) -> Vec<ListId> {
        let mut found = Vec::new();
        self.each_list(which, |_, _, _, list| found.extend(list.shared.map(|shared| shared.id)));
        if let (Some(label), None, None) = (&which.identity, &which.method, &which.path) {
            let named = self.identities.named(label);
            found.extend(named.filter_map(|identity| self.progress.shared(identity)));
        }
        found
    }

    /// Has the turns that nodes share stand where they are known to.
    pub fn follow(&self, taken: impl Fn(ListId) -> Option<u64>) {
        for entry in self.index.entries().map(|(_, entry)| entry) {
            for list in entry.lists().map(|(_, list)| list).chain([entry.whole()]) {
                let strict = list.shared.filter(|shared| shared.cycles.is_none());
                if let Some(taken) = strict.and_then(|shared| taken(shared.id)) {
                    list.cursor.stand(taken);
                }
            }
        }
        for (identity, list) in self.progress.all_shared() {
            if let Some(to) = taken(list).and_then(|to| u32::try_from(to).ok()) {
                self.progress.stand(identity, to);
            }
        }
    }

    /// Begins the selected turns anew, and what the selected identity has changed; tells how many lists had moved. Scenarios of stubs belong to no
    /// endpoint and no identity: they begin anew when everything does.
    pub fn reset_selected(&self, which: &Selection) -> usize {
        let mut moved = 0;
        self.each_list(which, |_, _, _, list| {
            moved += usize::from(list.instances.len() > 1 && list.cursor.taken() > 0);
            if !which.is_all() {
                list.reset();
            }
        });
        if which.is_all() {
            self.reset();
        } else if let (Some(label), None, None) = (&which.identity, &which.method, &which.path) {
            self.identities.named(label).for_each(|identity| self.progress.reset_of(identity));
        }
        moved
    }

    fn each_list(
        &self,
        which: &Selection,
        mut visit: impl FnMut(&Endpoint, u64, Option<&str>, &Narrowed<'_>),
    ) {
        for (signature, entry) in self.index.entries() {
            if entry.instances().len() < 2 {
                continue;
            }
            let endpoint = Endpoint::of(signature);
            if !which.admits_endpoint(&endpoint) {
                continue;
            }
            let digest = rapidhash_v3(signature);
            for (identity, list) in entry.lists() {
                let label = Some(self.identities.label(identity));
                if which.admits_identity(label) {
                    visit(&endpoint, digest, label, &list);
                }
            }
            let label = self.only_identity(entry).map(|identity| self.identities.label(identity));
            if which.admits_identity(label) {
                visit(&endpoint, digest, label, &entry.whole());
            }
        }
    }

    /// Whose all answers of an entry are, where it has no lists of single identities.
    fn only_identity(&self, entry: &Entry) -> Option<IdentityId> {
        if entry.lists().next().is_some() {
            return None;
        }
        let mut all = entry.instances().iter().filter_map(|nth| self.instances.get(*nth));
        let first = all.next()?.identity;
        all.all(|instance| instance.identity == first).then_some(first)
    }
}
