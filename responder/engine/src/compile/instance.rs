//! One compiled response: what is served when nothing in it is made anew, and the ways in which something is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

use super::{Aging, Keep, has_no_body};
use crate::{
    answer::Spliced,
    body,
    identity::IdentityId,
    jwt::ResignConfig,
    snapshot::{HttpResponse, RrPair},
    transform::{Captured, message::Reply},
    turns::Move,
};

/// One response.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) status: u16,
    /// Served when there is no token in it, or when one of its tokens cannot be signed.
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) body: Bytes,
    /// The fields behind the body.
    pub(crate) trailers: Option<Box<HeaderMap>>,
    /// The body is compressed with gzip.
    pub(crate) folded: bool,
    /// How long the answer is held back.
    pub(crate) delay: Duration,
    /// The header fields that are as old as the recording; `None` when there are none.
    pub(crate) aging: Option<Box<Aging>>,
    /// What chains that compare recorded with live values have seen in the recording.
    pub(crate) captured: Box<[Captured]>,
    pub(crate) living: Option<Box<Living>>,
    /// The position of the pair in the recording.
    pub(crate) ordinal: u64,
    /// Whose pair it is.
    pub(crate) identity: IdentityId,
    /// The WebSocket connection that it begins.
    pub(crate) conversation: Option<usize>,
    /// What becomes of an identity's progress.
    pub(crate) moves: Option<Move>,
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
        Instance {
            status: self.of.status,
            aging: Aging::of(pair, &headers),
            headers,
            body: keep.bytes(body),
            trailers: self.trailers,
            folded: body::is_gzip(body),
            delay: self.delay,
            captured: Box::default(),
            living: None,
            ordinal: pair.ordinal,
            identity: IdentityId::NOBODY,
            conversation: None,
            moves: None,
        }
    }
}

impl Living {
    /// The same with copies of what it holds of the recording.
    pub(super) fn kept(mut self, keep: &mut Keep) -> Self {
        match &mut self.way {
            Way::Spliced { headers, body, trailers } => {
                for fields in [Some(headers), trailers.as_deref_mut()].into_iter().flatten() {
                    fields.plain = keep.map(&fields.plain);
                    for (_, value) in &mut fields.spliced {
                        value.keep(|bytes| keep.bytes(bytes));
                    }
                }
                body.keep(|bytes| keep.bytes(bytes));
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

    /// What goes into its holes.
    pub(crate) fn fills(&self) -> impl Iterator<Item = usize> {
        let (fields, body) = match &self.way {
            Way::Spliced { headers, body, trailers } => {
                ([Some(headers), trailers.as_deref()], Some(body))
            }
            _ => ([None, None], None),
        };
        let fields = fields.into_iter().flatten().flat_map(|fields| &fields.spliced);
        let fields = fields.flat_map(|(_, value)| value.fills());
        fields.chain(body.into_iter().flat_map(Spliced::fills))
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
    pub(crate) plain: HeaderMap,
}

/// A token that chains which run per request are expected to meet.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) token: Vec<u8>,
    pub(crate) config: Arc<ResignConfig>,
    pub(crate) slot: usize,
}
