//! Pages: sizes and tokens. A token names the last item of the page before, and belongs to the list that it came from.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_engine::snapshot::digest::Digest;

use super::Problem;

const DEFAULT: usize = 50;
const CAP: usize = 1000;
const CHECK: usize = 8;

/// How many items a page may hold.
pub(crate) fn size(asked: i32) -> Result<usize, Problem> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT),
        Ok(size) => Ok(size.min(CAP)),
        Err(_) => Err(Problem::field(
            "page_size",
            "INVALID_PAGE_SIZE",
            "a page cannot have a negative size",
        )),
    }
}

/// The token for the page behind `last` in `list`.
pub(crate) fn token(list: &str, last: &str) -> String {
    let mut bytes = check(list, last);
    bytes.extend(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The last item of the page before; empty for the first page.
pub(crate) fn after(list: &str, token: &str) -> Result<String, Problem> {
    if token.is_empty() {
        return Ok(String::new());
    }
    let decoded = URL_SAFE_NO_PAD.decode(token).ok();
    let parts = decoded.as_deref().and_then(|bytes| bytes.split_at_checked(CHECK));
    parts
        .and_then(|(found, last)| {
            let last = std::str::from_utf8(last).ok()?;
            (found == check(list, last)).then(|| last.to_owned())
        })
        .ok_or_else(|| {
            Problem::field(
                "page_token",
                "INVALID_PAGE_TOKEN",
                "the token does not come from a page of this list",
            )
        })
}

fn check(list: &str, last: &str) -> Vec<u8> {
    Digest::of(format!("{list}\0{last}").as_bytes()).hash().iter().copied().take(CHECK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_list() {
        let made = token("projects/a/snapshots/", "projects/a/snapshots/x");
        assert_eq!(after("projects/a/snapshots/", &made).unwrap(), "projects/a/snapshots/x");
        assert!(after("projects/b/snapshots/", &made).is_err());
        for bad in ["x", "????", "AAAA", &format!("A{made}")] {
            assert!(after("projects/a/snapshots/", bad).is_err(), "{bad}");
        }
        assert_eq!(after("l", "").unwrap(), "");
    }

    #[test]
    fn sizes_are_capped() {
        assert_eq!((size(0).unwrap(), size(7).unwrap(), size(5000).unwrap()), (50, 7, 1000));
        assert!(size(-1).is_err());
    }
}
