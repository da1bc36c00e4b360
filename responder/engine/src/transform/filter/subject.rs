//! What is asked: a recorded pair, or a live request that does not know everything.

use std::cell::OnceCell;

use crate::{request::Parts, snapshot::RrPair};

/// A recorded pair. What a request is matched by is only worked out when somebody asks for it.
#[derive(Debug)]
pub(crate) struct Recorded<'a> {
    pub(crate) pair: &'a RrPair,
    given: Option<&'a Parts>,
    made: OnceCell<Parts>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Subject<'a> {
    Recorded(&'a Recorded<'a>),
    Live(&'a Parts),
}

impl<'a> Recorded<'a> {
    pub(crate) fn new(pair: &'a RrPair) -> Self {
        Self { pair, given: None, made: OnceCell::new() }
    }

    /// One whose parts were worked out already.
    pub(crate) fn of(pair: &'a RrPair, parts: Parts) -> Self {
        Self { pair, given: None, made: parts.into() }
    }

    pub(super) fn with(pair: &'a RrPair, parts: &'a Parts) -> Self {
        Self { pair, given: Some(parts), made: OnceCell::new() }
    }

    /// What a request is matched by.
    pub(crate) fn parts(&self) -> &Parts {
        match self.given {
            Some(parts) => parts,
            None => self.made.get_or_init(|| Parts::of_recorded(self.pair)),
        }
    }
}

impl Subject<'_> {
    /// The request, live or recorded.
    pub(super) fn parts(&self) -> &Parts {
        match self {
            Self::Recorded(recorded) => recorded.parts(),
            Self::Live(parts) => parts,
        }
    }

    /// The pair, which a live request has none of yet.
    pub(super) fn pair(&self) -> Option<&RrPair> {
        match self {
            Self::Recorded(recorded) => Some(recorded.pair),
            Self::Live(_) => None,
        }
    }
}
