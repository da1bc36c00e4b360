//! Which parts of a body are compared: paths such as `user.name`, `items[*].id`, `/data/0/at`, or the name of a member anywhere.

use std::str::FromStr;

use countersign_engine::sending;

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path such as user.name, items[*].id or access_token")]
pub struct PathsError(String);

/// Parts of bodies that are left out of comparisons, or that alone are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    ignored: Vec<Pattern>,
    only: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<String>);

impl FromStr for Pattern {
    type Err = PathsError;

    fn from_str(text: &str) -> Result<Self, PathsError> {
        let plain = text.trim().trim_start_matches('$').replace(['[', '/'], ".").replace(']', "");
        let parts: Vec<String> =
            plain.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.is_empty() { Err(PathsError(text.to_owned())) } else { Ok(Self(parts)) }
    }
}

impl Pattern {
    /// Whether it names this part or one that this is inside of. A single name stands for a member of that name anywhere.
    fn covers(&self, path: &[String]) -> bool {
        if let [name] = self.0.as_slice()
            && path.iter().any(|part| part == name)
        {
            return true;
        }
        self.0.len() <= path.len() && self.fits(path)
    }

    /// Whether this part and it are on one way.
    fn fits(&self, path: &[String]) -> bool {
        self.0.iter().zip(path).all(|(wanted, part)| {
            wanted == part
                || (matches!(wanted.as_str(), "*" | "#") && part.parse::<usize>().is_ok())
        })
    }
}

impl Paths {
    /// Leaves out parts that are named by these, each a list with commas between or one path.
    ///
    /// # Errors
    /// When one is no path.
    pub fn ignore<'p>(
        &mut self,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<(), PathsError> {
        for path in
            paths.into_iter().flat_map(|list| list.split(',')).filter(|p| !p.trim().is_empty())
        {
            self.ignored.push(path.parse()?);
        }
        Ok(())
    }

    /// Compares nothing but parts that are named by these.
    ///
    /// # Errors
    /// When one is no path.
    pub fn include<'p>(
        &mut self,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<(), PathsError> {
        for path in
            paths.into_iter().flat_map(|list| list.split(',')).filter(|p| !p.trim().is_empty())
        {
            self.only.push(path.parse()?);
        }
        Ok(())
    }

    /// Whether a part may matter.
    pub(crate) fn compares(&self, path: &[String]) -> bool {
        if self.ignored.iter().any(|pattern| pattern.covers(path)) {
            return false;
        }
        // On the way to a part that is compared its surroundings have to be looked into.
        let leads = |pattern: &Pattern| pattern.0.len() > path.len() && pattern.fits(path);
        self.only.is_empty()
            || self.only.iter().any(|pattern| pattern.covers(path) || leads(pattern))
    }
}

/// A longer name of a member is not told.
const MAX_NAME: usize = 64;

/// A path for people. A name that may be content, because it is long or holds a token, is not told.
pub(super) fn shown(path: &[String]) -> String {
    if path.is_empty() {
        return "the document".to_owned();
    }
    let told = |name: &String| {
        let content = name.len() > MAX_NAME || !sending::tokens_in(name.as_bytes()).is_empty();
        if content { "…".to_owned() } else { name.clone() }
    };
    path.iter().map(told).collect::<Vec<_>>().join(".")
}

/// A path as a JSON pointer.
pub(super) fn pointer(path: &[String]) -> String {
    path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compares(paths: &Paths, path: &str) -> bool {
        let parts: Vec<String> =
            path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        paths.compares(&parts)
    }

    #[test]
    fn what_is_ignored_is_ignored_with_all_that_is_in_it() {
        let mut paths = Paths::default();
        paths.ignore(["access_token, user.seen", "items[*].at", "/a/0/b"]).unwrap();
        for (path, compared) in [
            ("", true),
            ("user", true),
            ("user.seen", false),
            ("user.seen.by", false),
            ("seen", true),
            ("deep.down.access_token", false),
            ("items.3.at", false),
            ("items.x.at", true),
            ("items.3.id", true),
            ("a.0.b", false),
            ("a.1.b", true),
        ] {
            assert_eq!(compares(&paths, path), compared, "{path}");
        }
        assert!(paths.ignore(["$"]).is_err());
    }

    #[test]
    fn names_that_may_be_content_are_not_told() {
        let token = crate::recording::tests::token("ann", "1");
        let path = ["of".to_owned(), token, "x".repeat(65), "name".to_owned()];
        assert_eq!(shown(&path), "of.….….name");
    }

    #[test]
    fn where_parts_are_named_nothing_else_is_compared() {
        let mut paths = Paths::default();
        paths.include(["user.name"]).unwrap();
        for (path, compared) in [
            ("", true),
            ("user", true),
            ("user.name", true),
            ("user.name.first", true),
            ("user.id", false),
            ("id", false),
        ] {
            assert_eq!(compares(&paths, path), compared, "{path}");
        }
    }
}
