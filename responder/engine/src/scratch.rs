//! Memory of a thread that is used again and again, for bytes whose length is known only when they are there.

use std::cell::RefCell;

/// The largest piece that a thread keeps.
const MOST: usize = 64 * 1024;
/// How many it keeps: work for which memory was lent may need some itself.
const PIECES: usize = 3;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends empty memory. Whoever is lent some meanwhile, on the same thread, gets other memory.
pub(crate) fn with<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut lent = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let done = work(&mut lent);
    if lent.capacity() <= MOST {
        lent.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < PIECES {
                spare.push(lent);
            }
        });
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_lent_empty_and_used_again() {
        let first = with(|out| {
            out.extend_from_slice(b"abc");
            out.as_ptr()
        });
        with(|out| {
            assert!(out.is_empty());
            assert_eq!(out.as_ptr(), first);
            out.push(1);
            with(|other| assert!(other.is_empty()));
            assert_eq!(out.len(), 1);
        });
    }

    #[test]
    fn much_memory_is_given_back() {
        with(|out| out.reserve(2 * MOST));
        with(|out| assert!(out.capacity() <= MOST));
    }
}
