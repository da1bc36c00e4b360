//! What a recording shows of each method: how many messages its calls have on either side.

use std::collections::HashMap;

use super::{is_call, read};
use crate::{
    request::normal_path,
    snapshot::{HttpRequest, RrPair},
};

/// A recorded method. How many messages its longest call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Method {
    /// From the client.
    pub requests: usize,
    /// From the server.
    pub responses: usize,
}

/// The recorded methods by path.
#[derive(Debug, Default)]
pub(crate) struct Methods(HashMap<String, Method>);

impl Methods {
    /// Looks at a recorded pair.
    pub(crate) fn look(&mut self, pair: &RrPair) {
        if !is_call(pair) {
            return;
        }
        let path = match &pair.request {
            Some(HttpRequest { path, .. }) => path.as_str(),
            None => pair.location.as_str(),
        };
        let requests = pair.request.as_ref().map_or(0, |request| count(&request.body));
        let method = self.0.entry(normal_path(path).into_owned()).or_default();
        method.requests = method.requests.max(requests);
        method.responses = method.responses.max(count(&pair.response.body));
    }

    /// Whether there is none, as in most recordings.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The method of a path.
    pub(crate) fn get(&self, path: &str) -> Option<Method> {
        if self.is_empty() { None } else { self.0.get(&*normal_path(path)).copied() }
    }
}

fn count(body: &[u8]) -> usize {
    read(body).map_or(0, |body| body.messages.len())
}
