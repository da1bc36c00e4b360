//! Memory of a thread that is used again and again, for bytes whose length is known only when they are there.

use std::cell::Cell;

/// What a thread keeps at most.
const MOST: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends empty memory. Whoever is lent some meanwhile, on the same thread, gets other memory.
pub(crate) fn with<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut spare = SPARE.take();
    spare.clear();
    let done = work(&mut spare);
    if spare.capacity() <= MOST {
        SPARE.set(spare);
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
