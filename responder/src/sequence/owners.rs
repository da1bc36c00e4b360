//! Turns from the responders that own the lists: from this one's own register, or from a peer's.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use countersign_engine::turns::ListId;
use tokio::time::{Instant, timeout_at};

use super::{
    Given, Lost, SequenceStore,
    ledger::Ledger,
    peers::{NoTurns, Peers},
    register::{Refused, Step},
    view::{Peer, View},
};

/// How soon an owner is asked again that gave nothing.
const AGAIN: Duration = Duration::from_millis(50);

/// The stores of all members together.
#[derive(Debug)]
pub(super) struct Owners {
    name: Arc<str>,
    session: Arc<str>,
    pub(super) peers: Peers,
}

/// Where the turns of a list are.
enum Place {
    /// Here, and this is the first that was taken.
    Here(Given),
    /// Here, but not yet.
    Soon,
    /// There.
    At(Peer, u64),
    /// Nobody is known to have them.
    Nowhere,
}

impl Owners {
    pub(super) fn new(name: &str, session: &Arc<str>, peers: Peers) -> Self {
        Self { name: name.into(), session: Arc::clone(session), peers }
    }

    /// Takes over an epoch: first what others have to hand over, then turns are given out.
    pub(super) async fn adopt(&self, ledger: &Ledger, view: View) {
        let view = Arc::new(view);
        let Some(others) = ledger.change(|register| register.adopt(Arc::clone(&view))) else {
            return;
        };
        let answers = self.peers.hand_over(&ledger.replay, &self.name, &view, others).await;
        let silent = answers.iter().filter(|(_, answer)| answer.is_none()).count();
        let settled = ledger.change(|register| register.settle(view.epoch, answers));
        if settled && silent > 0 {
            tracing::warn!(
                replay = &*ledger.replay,
                epoch = view.epoch,
                silent,
                "responders that are gone have not handed over their turns; lists that they kept go on from what others have seen"
            );
        }
    }

    fn look(&self, ledger: &Ledger, list: ListId, step: Step) -> Place {
        let mut register = ledger.lock();
        let Some(view) = register.view().cloned() else { return Place::Nowhere };
        match view.owner(list) {
            None => Place::Nowhere,
            Some(owner) if owner.session == self.session => {
                match register.take(view.epoch, &[(list, step)]).map(|taken| taken.first().copied())
                {
                    Ok(Some(taken)) => {
                        Place::Here(Given { first: taken.first, breaks: taken.breaks, skipped: 0 })
                    }
                    Err(Refused::Stale(_) | Refused::NotSettled) => Place::Soon,
                    Ok(None) | Err(Refused::NotOwner) => Place::Nowhere,
                }
            }
            Some(owner) => Place::At(owner.clone(), view.epoch),
        }
    }
}

#[async_trait]
impl SequenceStore for Owners {
    async fn advance(
        &self,
        ledger: &Ledger,
        list: ListId,
        step: Step,
        deadline: Instant,
    ) -> Result<Given, Lost> {
        let mut changes = ledger.subscribe();
        let mut skipped = 0;
        let lost = |skipped| Lost { skipped };
        loop {
            changes.mark_unchanged();
            match self.look(ledger, list, step) {
                Place::Here(given) => return Ok(Given { skipped, ..given }),
                // Whoever has no time to wait asks nobody: the answer would come to nothing.
                Place::At(..) if Instant::now() >= deadline => return Err(lost(skipped)),
                Place::At(peer, epoch) => {
                    let of = (&ledger.replay, epoch);
                    let asked = self.peers.advance(&peer, of, (list, step));
                    match timeout_at(deadline, asked).await {
                        Ok(Ok(taken)) => {
                            ledger.lock().note(list, taken.term, step.behind(taken.first));
                            return Ok(Given { first: taken.first, breaks: false, skipped });
                        }
                        // It may have been given, and be on its way.
                        Err(_) => return Err(lost(skipped + 1)),
                        Ok(Err(NoTurns::Unanswered)) => skipped += 1,
                        Ok(Err(NoTurns::Unreached | NoTurns::Refused(_))) => {}
                    }
                    // Another epoch may come, or the owner may be found after all.
                    let again = deadline.min(Instant::now() + AGAIN);
                    drop(timeout_at(again, changes.changed()).await);
                    continue;
                }
                Place::Soon | Place::Nowhere => {}
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Err(lost(skipped));
            }
        }
    }

    async fn reset(&self, ledger: &Ledger, lists: &[ListId]) {
        ledger.change(|register| register.reset(lists));
        let view = ledger.lock().view().cloned();
        let others = view.iter().flat_map(|view| &view.members);
        let others = others.filter(|peer| peer.session != self.session && !peer.address.is_empty());
        let resets = others.map(async |peer| {
            if let Err(status) = self.peers.reset(peer, &ledger.replay, lists).await {
                tracing::warn!(peer = &*peer.name, %status, "turns were not begun anew there");
            }
        });
        futures_util::future::join_all(resets).await;
    }

    fn owner(&self, ledger: &Ledger, list: ListId) -> Option<Arc<str>> {
        let register = ledger.lock();
        Some(Arc::clone(&register.view()?.owner(list)?.name))
    }
}
