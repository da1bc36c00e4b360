//! Requests with a body that were looked up already.
//!
//! A body takes part in the signature in a form that does not depend on how it was written, and to find that form takes longer than everything
//! else. Clients that repeat a recording send the same bytes again and again, though. So each thread remembers where the last ones have led
//! to; the bytes of the whole request are compared, not their hash alone.

use std::cell::RefCell;

use rapidhash::v3::rapidhash_v3;

use crate::{request::Request, scratch, signature::write_part};

/// How many requests a thread remembers.
const PLACES: usize = 4096;
/// The longest that it remembers. All of them together take at most eight megabytes.
const LONGEST: usize = 2048;

thread_local! {
    static SEEN: RefCell<Box<[Option<Seen>]>> = RefCell::default();
}

#[derive(Debug)]
struct Seen {
    /// By which serving.
    serial: u64,
    request: Box<[u8]>,
    /// The number of its entry in the index.
    entry: usize,
}

/// The entry of a request, which `find` finds unless this thread has seen the request before. Such requests only whose entry depends on
/// nothing but themselves.
pub(super) fn or_find(
    serial: u64,
    request: &Request<'_>,
    find: impl FnOnce() -> Option<usize>,
) -> Option<usize> {
    if request.body.len() > LONGEST {
        return find();
    }
    scratch::with(|bytes| {
        write(request, bytes);
        let place = usize::try_from(rapidhash_v3(bytes)).unwrap_or_default() % PLACES;
        let known = SEEN.with_borrow(|seen| {
            let seen = seen.get(place)?.as_ref()?;
            (seen.serial == serial && *seen.request == **bytes).then_some(seen.entry)
        });
        if known.is_some() {
            return known;
        }
        let entry = find()?;
        if bytes.len() <= LONGEST {
            remember(place, Seen { serial, request: bytes.as_slice().into(), entry });
        }
        Some(entry)
    })
}

fn remember(place: usize, new: Seen) {
    SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            *seen = (0..PLACES).map(|_| None).collect();
        }
        if let Some(place) = seen.get_mut(place) {
            *place = Some(new);
        }
    });
}

/// Everything of a request that its signature may depend on.
fn write(request: &Request<'_>, out: &mut Vec<u8>) {
    let content_type = request.headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.map_or(&[][..], |value| value.as_bytes());
    let (method, host) = (request.method.as_bytes(), request.host.as_bytes());
    let (path, query) = (request.path.as_bytes(), request.query.as_bytes());
    for part in [method, host, path, query, content_type, request.body] {
        write_part(part, out);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    #[test]
    fn a_request_is_looked_up_once_and_every_other_one_by_itself() {
        let headers = |content_type| {
            let content_type = HeaderValue::from_static(content_type);
            HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)])
        };
        let (json, text) = (headers("application/json"), headers("text/plain"));
        let asked = Request {
            method: "POST",
            host: "h",
            path: "/p",
            query: "q",
            headers: &json,
            body: b"{}",
            ..Request::default()
        };
        let never = || -> Option<usize> { panic!("it was seen") };
        let serial = u64::MAX;
        assert_eq!(or_find(serial, &asked, || None), None, "a miss is not remembered");
        assert_eq!(or_find(serial, &asked, || Some(3)), Some(3));
        assert_eq!(or_find(serial, &asked, never), Some(3));
        let others = [
            Request { method: "PUT", ..asked },
            Request { host: "i", ..asked },
            Request { path: "/", query: "pq", ..asked },
            Request { query: "", ..asked },
            Request { headers: &text, ..asked },
            Request { body: b"[]", ..asked },
        ];
        for (nth, other) in others.iter().enumerate() {
            assert_eq!(or_find(serial, other, || Some(nth)), Some(nth));
        }
        assert_eq!(or_find(serial - 1, &asked, || Some(9)), Some(9));
    }

    #[test]
    fn long_requests_are_not_remembered() {
        let (body, headers) = (vec![b' '; LONGEST], HeaderMap::new());
        let long = Request { body: &body, headers: &headers, ..Request::default() };
        for entry in [1, 2] {
            assert_eq!(or_find(7, &long, || Some(entry)), Some(entry));
        }
    }
}
