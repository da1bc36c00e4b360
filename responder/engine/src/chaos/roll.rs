//! Dice that fall the same way in every run.
//!
//! A roll is the FNV-64a hash of the seed, the rule's id, the signature, how often that signature was hit before, and the number of the
//! effect; its bits are mixed afterwards, because the last bytes that FNV takes in hardly reach the high ones.

/// The offset basis of FNV-64a.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-64a of some bytes.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    go_on(BASIS, bytes)
}

fn go_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The dice of one rule for one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dice(u64);

impl Dice {
    /// `signature` is the hash of what was asked for.
    pub(crate) fn new(seed: u64, rule: &str, signature: u64, occurrence: u64) -> Self {
        let hash = go_on(BASIS, &seed.to_le_bytes());
        let hash = go_on(hash, rule.as_bytes());
        let hash = go_on(hash, &signature.to_le_bytes());
        Self(go_on(hash, &occurrence.to_le_bytes()))
    }

    /// The roll for the effect of this number.
    pub(crate) fn roll(self, effect: u64) -> u64 {
        let mut hash = go_on(self.0, &effect.to_le_bytes());
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// One of so many, by a roll.
pub(crate) fn below(roll: u64, count: u64) -> u64 {
    let scaled = (u128::from(roll) * u128::from(count)) >> 64;
    u64::try_from(scaled).unwrap_or_default()
}

/// One of some things, by a roll; `None` when there are none.
pub(crate) fn one_of<T>(roll: u64, things: &[T]) -> Option<&T> {
    let count = u64::try_from(things.len()).unwrap_or(u64::MAX);
    things.get(usize::try_from(below(roll, count)).unwrap_or_default())
}

/// A share of all, in millionths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u64);

impl Share {
    const WHOLE: u64 = 100_000_000;
    /// Always.
    pub(crate) const ALL: Self = Self(Self::WHOLE);

    /// Reads a percentage from 0 to 100, with or without its sign.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let number = text.strip_suffix('%').unwrap_or(text).trim();
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 = number.parse().ok().filter(|n| plain && (0.0..=100.0).contains(n))?;
        Some(Self(format!("{percent:.6}").replace('.', "").parse().ok()?))
    }

    /// Whether a roll falls into it.
    pub(crate) fn takes(self, roll: u64) -> bool {
        below(roll, Self::WHOLE) < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_fnv_64a() {
        // From the tables of the algorithm's authors.
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325_u64),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_share_takes_its_part_of_many_rolls() {
        for (percent, expected) in [("0", 0..=0), ("10%", 900..=1100), ("50", 4800..=5200)] {
            let share = Share::parse(percent).unwrap();
            let taken = (0..10_000)
                .filter(|nth| share.takes(Dice::new(7, "chaos-1", fnv(b"GET /pay"), *nth).roll(1)))
                .count();
            assert!(expected.contains(&taken), "{percent}: {taken}");
        }
        assert_eq!(Share::parse("100"), Some(Share::ALL));
        assert!((0..1000).all(|nth| Share::ALL.takes(Dice::new(0, "", nth, 0).roll(0))));
        for text in ["", "%", "-1", "101", "1e1", "ten", "nan"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }

    #[test]
    fn everything_that_a_roll_depends_on_matters() {
        let roll =
            |seed, rule, signature, nth, effect| Dice::new(seed, rule, signature, nth).roll(effect);
        let all = [
            roll(1, "a", 1, 1, 1),
            roll(2, "a", 1, 1, 1),
            roll(1, "b", 1, 1, 1),
            roll(1, "a", 2, 1, 1),
            roll(1, "a", 1, 2, 1),
            roll(1, "a", 1, 1, 2),
        ];
        let different: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(roll(1, "a", 1, 1, 1), all[0]);
    }

    #[test]
    fn a_roll_picks_within_bounds() {
        assert_eq!(one_of(u64::MAX, &[1, 2, 3]), Some(&3));
        assert_eq!(one_of(0, &[1, 2, 3]), Some(&1));
        assert_eq!(one_of::<u8>(5, &[]), None);
    }
}
