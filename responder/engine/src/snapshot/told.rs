//! What a responder was told to hold, as one digest: both planes compute it, so that they notice when they differ.

/// The phase of what is only prepared, as the wire numbers it.
pub const PREPARE: u8 = 1;
/// The phase of what is served.
pub const ACTIVATE: u8 = 2;

/// One assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told<'a> {
    /// The replay's name.
    pub name: &'a str,
    /// [`PREPARE`] or [`ACTIVATE`].
    pub phase: u8,
    /// The hash of the bundle.
    pub bundle: &'a [u8; 32],
    /// The generation.
    pub generation: u64,
}

/// The digest of all of them; their order does not matter.
#[must_use]
pub fn state_digest(mut told: Vec<Told<'_>>) -> [u8; 32] {
    told.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for Told { name, phase, bundle, generation } in told {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
        hasher.update(bundle);
        hasher.update(&[phase]);
        hasher.update(&generation.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let one = Told { name: "a", phase: ACTIVATE, bundle: &[1; 32], generation: 1 };
        let two = Told { name: "b", phase: PREPARE, bundle: &[2; 32], generation: 7 };
        let all = state_digest(vec![one, two]);
        assert_eq!(state_digest(vec![two, one]), all);
        for other in [
            vec![one],
            vec![one, Told { name: "c", ..two }],
            vec![one, Told { phase: ACTIVATE, ..two }],
            vec![one, Told { bundle: &[3; 32], ..two }],
            vec![one, Told { generation: 8, ..two }],
        ] {
            assert_ne!(state_digest(other), all);
        }
    }
}
