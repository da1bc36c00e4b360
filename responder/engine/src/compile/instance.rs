//! One compiled response: what is served when nothing in it is made anew, and the ways in which something is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

use super::{Aging, Keep, has_no_body};
use crate::{
    answer::{Hit, Spliced},
    body,
    identity::IdentityId,
    jwt::ResignConfig,
    snapshot::{HttpResponse, RrPair},
    transform::{Captured, message::Reply},
    turns::Move,
};

/// One response. There are as many as pairs, so it is kept small.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Served when there is no token in it, or when one of its tokens cannot be signed.
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) body: Bytes,
    /// How long the answer is held back.
    pub(crate) delay: Duration,
    pub(crate) living: Option<Box<Living>>,
    rare: Option<Box<Rare>>,
    /// The position of the pair in the recording.
    pub(crate) ordinal: u64,
    /// Whose pair it is.
    pub(crate) identity: IdentityId,
    pub(crate) status: u16,
    /// The body is compressed with gzip.
    pub(crate) folded: bool,
}

/// What hardly any response has.
#[derive(Debug)]
pub(crate) struct Rare {
    /// The fields behind the body.
    pub(crate) trailers: Option<Box<HeaderMap>>,
    /// The header fields that are as old as the recording; `None` when there are none.
    pub(crate) aging: Option<Box<Aging>>,
    /// What chains that compare recorded with live values have seen in the recording.
    pub(crate) captured: Vec<Captured>,
    /// The WebSocket connection that it begins.
    pub(crate) conversation: Option<usize>,
    /// What becomes of an identity's progress.
    pub(crate) moves: Option<Move>,
}

/// What most responses have of it.
static NOTHING: Rare = Rare::nothing();

impl Rare {
    const fn nothing() -> Self {
        Self { trailers: None, aging: None, captured: Vec::new(), conversation: None, moves: None }
    }
}

impl Instance {
    /// What hardly any other has.
    #[inline]
    pub(crate) fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING)
    }

    /// The same, to be changed.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(|| Box::new(Rare::nothing()))
    }
}

/// An instance with parts that are made anew.
#[derive(Debug)]
pub(crate) struct Living {
    /// How many tokens are in it.
    pub(crate) tokens: u32,
    pub(crate) way: Way,
}

/// A response as it is served when nothing in it is made anew.
pub(super) struct Served<'r> {
    pub(super) of: &'r HttpResponse,
    pub(super) trailers: Option<Box<HeaderMap>>,
    pub(super) delay: Duration,
}

impl Served<'_> {
    /// An instance of it, which nobody has asked for yet.
    pub(super) fn instance(
        self,
        pair: &RrPair,
        headers: Arc<HeaderMap>,
        keep: &mut Keep,
    ) -> Instance {
        let body = if has_no_body(self.of) { &[][..] } else { &self.of.body };
        let (aging, trailers) = (Aging::of(pair, &headers), self.trailers);
        let rare = (aging.is_some() || trailers.is_some())
            .then(|| Box::new(Rare { trailers, aging, ..Rare::nothing() }));
        Instance {
            headers,
            body: keep.bytes(body),
            delay: self.delay,
            living: None,
            rare,
            ordinal: pair.ordinal,
            identity: IdentityId::NOBODY,
            status: self.of.status,
            folded: body::is_gzip(body),
        }
    }
}

impl Instance {
    /// Whether its tokens stand in its body, and nothing else is made anew.
    pub(crate) fn has_holes_in_body_alone(&self) -> bool {
        self.living.as_deref().is_some_and(|living| match &living.way {
            Way::Spliced { headers, trailers, .. } => {
                headers.spliced.is_empty() && trailers.is_none()
            }
            _ => false,
        })
    }

    /// The answer of such an instance whose body was made already.
    pub(crate) fn of_ready(&self, body: Bytes) -> Option<Hit> {
        let living = self.living.as_deref()?;
        let Way::Spliced { headers, .. } = &living.way else { return None };
        let (resigned, delay) = (living.tokens, self.delay);
        Some(Hit { resigned, delay, ..Hit::new(self.status, (*headers.plain).clone(), body) })
    }
}

impl Living {
    /// The same with copies of what it holds of the recording. `plain` is the body without anything made anew, which is kept already: mostly
    /// the same bytes stand around the holes.
    pub(super) fn kept(mut self, plain: &Bytes, keep: &mut Keep) -> Self {
        match &mut self.way {
            Way::Spliced { headers, body, trailers } => {
                for fields in [Some(headers), trailers.as_deref_mut()].into_iter().flatten() {
                    fields.plain = keep.shared(&fields.plain);
                    for (_, value) in &mut fields.spliced {
                        value.keep(|bytes| keep.bytes(bytes));
                    }
                }
                match body.within(plain) {
                    Some(within) => *body = within,
                    None => body.keep(|bytes| keep.bytes(bytes)),
                }
            }
            Way::Dynamic { reply, .. } => {
                reply.response.body = keep.bytes(&reply.response.body);
                keep.fields(&mut reply.response.headers);
                keep.fields(&mut reply.trailers);
            }
            Way::KeySet(_) => {}
        }
        self
    }

    /// Whether something that goes into its holes is such.
    pub(crate) fn any_fill(&self, mut is: impl FnMut(usize) -> bool) -> bool {
        let Way::Spliced { headers, body, trailers } = &self.way else { return false };
        let mut in_fields =
            |fields: &Fields| fields.spliced.iter().any(|(_, value)| value.fills().any(&mut is));
        in_fields(headers)
            || trailers.as_deref().is_some_and(in_fields)
            || body.fills().any(&mut is)
    }
}

/// How an instance is made current.
#[derive(Debug)]
pub(crate) enum Way {
    /// By filling holes.
    Spliced { headers: Fields, body: Spliced, trailers: Option<Box<Fields>> },
    /// By running the chains again.
    Dynamic { reply: Box<Reply>, chains: Vec<usize>, known: Vec<Known>, recorded_at: Option<i64> },
    /// By taking the key set of this number from the token world.
    KeySet(usize),
}

/// Header or trailer fields, some of which have holes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(crate) spliced: Vec<(http::HeaderName, Spliced)>,
    pub(crate) plain: Arc<HeaderMap>,
}

/// A token that chains which run per request are expected to meet.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) token: Vec<u8>,
    pub(crate) config: Arc<ResignConfig>,
    pub(crate) slot: usize,
}
