//! How far recorded signatures are from that of a request, and which of them are nearest.

use super::keys;
use crate::{index::Index, signature::entries_of};

/// Paths that have less in common than this are equally far.
const MAX_PATH: usize = 63;

/// The numbers of the nearest signatures, nearest first. `alike` says that hosts are not compared.
pub(super) fn nearest(presented: &[u8], index: &Index, alike: bool, most: usize) -> Vec<usize> {
    let own: Vec<(&str, &[u8])> = entries_of(presented).collect();
    let around = index.order().around(presented, index);
    let mut ranked: Vec<(usize, &[u8], usize)> = around
        .iter()
        .filter_map(|nth| {
            let nth = usize::try_from(*nth).ok()?;
            let recorded = index.entry(nth)?.signature();
            Some((distance(&own, recorded, alike), recorded, nth))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(most).map(|(_, _, nth)| nth).collect()
}

/// A path or a method that differs weighs more than the rest: a request is rather meant for the same endpoint. Among different paths the
/// one with the longer common beginning is nearer.
fn distance(own: &[(&str, &[u8])], recorded: &[u8], alike: bool) -> usize {
    let mut own = own.iter().peekable();
    let mut recorded = entries_of(recorded).peekable();
    let (mut total, mut apart) = (0, 0);
    loop {
        let (key, ours, others) = match (own.peek(), recorded.peek()) {
            (None, None) => return total * (MAX_PATH + 1) + apart,
            (Some((key, value)), None) => (*key, Some(*value), None),
            (None, Some((key, value))) => (*key, None, Some(*value)),
            (Some((a, ours)), Some((b, others))) => {
                (*a.min(b), (a <= b).then_some(*ours), (b <= a).then_some(*others))
            }
        };
        own.next_if(|_| ours.is_some());
        recorded.next_if(|_| others.is_some());
        if ours == others || alike && key == keys::HOST && ours.is_some() && others.is_some() {
            continue;
        }
        total += match key {
            keys::URL => 8,
            keys::METHOD => 4,
            _ => 2,
        };
        if key == keys::URL {
            apart = ours.zip(others).map_or(MAX_PATH, |(a, b)| {
                let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                (a.len().max(b.len()) - common).min(MAX_PATH)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{request::Parts, signature::Signature};

    fn signature(host: &str, method: &str, path: &str, query: &str) -> Signature {
        let parts = Parts {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            query: crate::request::sorted_query(query),
            ..Parts::default()
        };
        Signature::of(&parts, &[])
    }

    fn index(signatures: &[Signature]) -> Index {
        let mut index = Index::default();
        for (nth, signature) in signatures.iter().enumerate() {
            index.add(signature, nth);
        }
        index
    }

    /// The distance, by its definition.
    fn plainly(own: &Signature, recorded: &Signature) -> usize {
        let value = |signature: &Signature, key: &str| {
            signature.entries().find(|entry| entry.0 == key).map(|entry| entry.1.to_vec())
        };
        let all = own.entries().chain(recorded.entries()).map(|entry| entry.0);
        let all: std::collections::BTreeSet<&str> = all.collect();
        let differing = all.into_iter().filter(|key| value(own, key) != value(recorded, key));
        let weight = |key| match key {
            "http:url" => 8,
            "http:method" => 4,
            _ => 2,
        };
        let total: usize = differing.map(weight).sum();
        let (a, b) = (value(own, "http:url").unwrap(), value(recorded, "http:url").unwrap());
        let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        total * 64 + (a.len().max(b.len()) - common).min(63)
    }

    fn signatures() -> impl Strategy<Value = Signature> {
        ("[ab]", "GET|POST", "/[ab]{0,3}(/[cd]{0,70})?", "[xy]=[12]|")
            .prop_map(|(host, method, path, query)| signature(&host, &method, &path, &query))
    }

    proptest! {
        #[test]
        fn among_few_none_is_nearer(all in prop::collection::vec(signatures(), 0..200), own in signatures()) {
            let index = index(&all);
            let mut expected: Vec<_> = index
                .entries()
                .map(|(bytes, _)| (plainly(&own, &Signature::from_bytes(bytes).unwrap()), bytes.to_vec()))
                .collect();
            expected.sort();
            let found: Vec<_> = nearest(&own.to_bytes(), &index, false, 3)
                .into_iter()
                .map(|nth| index.entry(nth).unwrap().signature().to_vec())
                .collect();
            let expected: Vec<_> = expected.into_iter().take(3).map(|(_, bytes)| bytes).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn among_many_those_beside_it_are_found_whatever_order_they_were_recorded_in() {
        let mut all: Vec<Signature> = (0..20_000)
            .map(|nth| signature("a", "GET", &format!("/orders/{nth:05}"), ""))
            .collect();
        all.extend((0..2_000).map(|nth| signature("a", "POST", "/search", &format!("q={nth}"))));
        all.push(signature("a", "GET", "/me", ""));
        let told = |all: &[Signature], own: &Signature| -> Vec<String> {
            let index = index(all);
            assert!(
                index.order().around(&own.to_bytes(), &index).len() <= 256,
                "no more are looked at"
            );
            nearest(&own.to_bytes(), &index, false, 3)
                .into_iter()
                .filter_map(|nth| Signature::from_bytes(index.entry(nth)?.signature()))
                .map(|near| String::from_utf8(near.entries().last().unwrap().1.to_vec()).unwrap())
                .collect()
        };
        let backwards: Vec<Signature> = all.iter().rev().cloned().collect();
        for (own, expected) in [
            (signature("a", "GET", "/orders/123456", ""), "/orders/12345"),
            (signature("a", "DELETE", "/orders/01234", ""), "/orders/01234"),
            (signature("a", "GET", "/me", "a=1"), "/me"),
            (signature("a", "POST", "/search", "q=none"), "/search"),
        ] {
            let found = told(&all, &own);
            assert_eq!(found[0], expected);
            assert_eq!(found, told(&backwards, &own));
        }
    }

    #[test]
    fn a_signature_without_a_path_is_far_from_one_with() {
        let bare = Signature::of(
            &Parts::default(),
            &[crate::signature::Edit::Delete { key: keys::URL.into() }],
        );
        let index = index(&[bare, signature("a", "GET", "/b", "")]);
        assert_eq!(nearest(&signature("a", "GET", "/c", "").to_bytes(), &index, false, 1), [1]);
    }
}
