//! Hints for misspelt names.

/// The known name that is nearest to a misspelt one.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|candidate| (distance(name, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= 3 && distance < candidate.len() => {
            format!("did you mean `{candidate}`?")
        }
        _ => format!("known are: {}", known.join(", ")),
    }
}

/// Whether a name is a known one but for a slip: a letter or two of at least three times as many.
pub(crate) fn is_misspelt(name: &str, known: &[&str]) -> bool {
    let slip = |candidate: &&str| match distance(
        &name.to_ascii_lowercase(),
        &candidate.to_ascii_lowercase(),
    ) {
        0 => false,
        slips => slips <= 2 && 3 * slips <= candidate.chars().count(),
    };
    known.iter().any(slip)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let next = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = next;
            left = next;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["jwt_resign", "csv", "pad", "expiresIn"];
        for name in ["jwt_resing", "JWT_Resig", "expiredIn", "cvs1"] {
            assert_eq!(is_misspelt(name, &known), name != "cvs1", "{name}");
        }
        for name in ["path", "csv_iter", "jwt_verify", "", "JWT_RESIGN"] {
            assert!(!is_misspelt(name, &known), "{name}");
        }
    }
}
