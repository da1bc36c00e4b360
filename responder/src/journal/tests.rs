//! The journal by itself: what it keeps, what it gives up, and what it finds again.

use http::HeaderMap;

use super::{
    pack::{Packed, pack},
    *,
};

const LINE: Line<'_> = Line { method: "GET", host: "a:80", path: "/p", query: "x=1" };

fn note<'n>(at: i64) -> Note<'n> {
    Note {
        at,
        done: at,
        outcome: Outcome::Hit,
        status: 200,
        replay: None,
        origin: None,
        nearest: None,
        answer: None,
        messages: None,
    }
}

#[test]
fn a_head_is_unpacked_as_it_was() {
    let mut headers = HeaderMap::new();
    for (name, value) in [("accept", "a"), ("accept", "b"), ("x", "")] {
        headers.append(name, value.parse().unwrap());
    }
    let mut packed = Packed::default();
    for _ in 0..2 {
        pack(&mut packed, &LINE, Some(&headers), b"body", Some((b"text/plain", b"answer")));
        let head = packed.unpack();
        assert_eq!((head.method.as_str(), head.host.as_str()), ("GET", "a:80"));
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/p", "x=1"));
        assert_eq!((&head.headers, &*head.body), (&headers, &b"body"[..]));
        let (kind, answer) = head.answer.clone().unwrap();
        assert_eq!((&*kind, &*answer), (&b"text/plain"[..], &b"answer"[..]));
    }
    headers.append("large", "x".repeat(20_000).parse().unwrap());
    headers.append("behind", "y".parse().unwrap());
    pack(&mut packed, &LINE, Some(&headers), b"", None);
    assert!(packed.cut);
    assert_eq!(packed.unpack().headers.len(), 3);
}

#[test]
fn the_last_are_kept_and_no_more() {
    let journal = Journal::new(Settings { entries: 3, bodies: false }).unwrap();
    for at in 0..10 {
        journal.note_unread(0, &LINE, note(at));
    }
    let kept: Vec<i64> = journal.entries().iter().map(|packed| packed.at).collect();
    assert_eq!(kept, [9, 8, 7]);
    assert_eq!((journal.clear(), journal.entries().len()), (3, 0));
    assert!(Journal::new(Settings { entries: 0, bodies: false }).is_none());
}

#[test]
fn bytes_are_bounded_whatever_their_number() {
    let mut ring = Ring::new(1_000, 1024 * 1024);
    let body = vec![b'x'; MAX_BODY];
    for at in 0..100 {
        ring.push(|packed| {
            packed.at = at;
            pack(packed, &LINE, None, &body, None);
        });
        let held: usize = ring.copy().iter().map(Packed::size).sum();
        assert!(held <= 1024 * 1024 + 2 * MAX_BODY, "{held}");
    }
    assert_eq!(ring.copy().last().unwrap().at, 99);
}

#[test]
fn nobody_waits_for_a_reader() {
    let journal = Journal::new(Settings::default()).unwrap();
    let held: Vec<_> = journal.rings.iter().map(|ring| ring.lock().unwrap()).collect();
    journal.note_unread(0, &LINE, note(1));
    assert_eq!(journal.dropped(), 1);
    drop(held);
    journal.note_unread(0, &LINE, note(2));
    assert_eq!((journal.dropped(), journal.entries().len()), (1, 1));
}

#[test]
fn filters_are_read_and_mistakes_named() {
    let filter = Filter::parse("limit=5&outcome=miss&host=a%2Eb&path=/x+y&format=jsonl").unwrap();
    assert_eq!(filter.limit, 5);
    assert_eq!(filter.outcome.as_deref(), Some("miss"));
    assert_eq!((filter.host.as_deref(), filter.path.as_deref()), (Some("a.b"), Some("/x y")));
    assert_eq!(Filter::parse("").unwrap(), Filter::default());
    for wrong in ["limit=x", "outcome=won", "format=xml", "hots=a"] {
        assert!(Filter::parse(wrong).is_err(), "{wrong}");
    }
}

proptest::proptest! {
    #[test]
    fn no_query_panics(query in ".{0,60}", escapes in "[%a-f0-9=&]{0,60}") {
        drop((Filter::parse(&query), Filter::parse(&escapes)));
    }
}
