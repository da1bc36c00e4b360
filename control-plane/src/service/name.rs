//! Resource names: `projects/{project}/{collection}/{id}`, parsed at the door.

use crate::store::Kind;

use super::Problem;

/// A parsed resource name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// `projects/{project}`.
    pub(crate) project: String,
    /// The whole name.
    pub(crate) full: String,
    /// The last part.
    pub(crate) id: String,
}

impl Name {
    /// Parses the name of a resource of this kind; `field` is where the request holds it.
    pub(crate) fn parse(kind: Kind, field: &str, name: &str) -> Result<Self, Problem> {
        let collection = collection(kind);
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            ["projects", project, found, id]
                if *found == collection && is_id(project) && is_id(id) =>
            {
                Ok(Self {
                    project: format!("projects/{project}"),
                    full: name.to_owned(),
                    id: (*id).to_owned(),
                })
            }
            _ => {
                let shown: String = name.chars().take(200).collect();
                let message = format!(
                    "`{shown}` is no name of a {kind}; it looks like `projects/default/{collection}/my-id`"
                );
                Err(Problem::field(field, "INVALID_NAME", message))
            }
        }
    }

    /// The name of a resource in a project.
    pub(crate) fn within(
        kind: Kind,
        project: &str,
        field: &str,
        id: &str,
    ) -> Result<Self, Problem> {
        if !is_id(id) {
            let shown: String = id.chars().take(200).collect();
            let message = format!(
                "`{shown}` is no id: use up to 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends"
            );
            return Err(Problem::field(field, "INVALID_ID", message));
        }
        Ok(Self {
            project: project.to_owned(),
            full: format!("{project}/{}/{id}", collection(kind)),
            id: id.to_owned(),
        })
    }
}

/// Parses `projects/{project}`.
pub(crate) fn project(field: &str, parent: &str) -> Result<String, Problem> {
    match parent.split_once('/') {
        Some(("projects", project)) if is_id(project) => Ok(parent.to_owned()),
        _ => {
            let shown: String = parent.chars().take(200).collect();
            Err(Problem::field(
                field,
                "INVALID_NAME",
                format!("`{shown}` is no project; it looks like `projects/default`"),
            ))
        }
    }
}

/// What the names of all resources of a kind in a project begin with.
pub(crate) fn prefix(kind: Kind, project: &str) -> String {
    format!("{project}/{}/", collection(kind))
}

fn collection(kind: Kind) -> &'static str {
    match kind {
        Kind::Snapshot | Kind::Holding => "snapshots",
        Kind::Transform => "transforms",
        Kind::TestConfig => "testConfigs",
        Kind::Replay | Kind::Assignment | Kind::Members | Kind::Report => "replays",
    }
}

/// Whether a text may be the id of a project or resource.
pub(crate) fn is_id(id: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    id.len() <= 63
        && ends(id.chars().next())
        && ends(id.chars().last())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_users_ids_and_refuses_the_rest() {
        for id in ["a", "a-b", "Ab_c.d", "0b2c3d4e-5f60-7180-92a3-b4c5d6e7f809"] {
            let name = Name::within(Kind::Snapshot, "projects/default", "snapshot_id", id).unwrap();
            assert_eq!(Name::parse(Kind::Snapshot, "name", &name.full).unwrap(), name);
        }
        for id in ["", "-a", "a-", "a/b", "..", "a b", "ä", &"a".repeat(64)] {
            assert!(
                Name::within(Kind::Snapshot, "projects/default", "snapshot_id", id).is_err(),
                "{id}"
            );
        }
        for name in [
            "",
            "x",
            "projects/p/snapshots/",
            "projects/p/transforms/x",
            "projects//snapshots/x",
            "/projects/p/snapshots/x",
        ] {
            assert!(Name::parse(Kind::Snapshot, "name", name).is_err(), "{name}");
        }
        assert!(project("parent", "projects/default").is_ok());
        for parent in ["", "projects", "projects/", "projects/a/b", "project/a"] {
            assert!(project("parent", parent).is_err(), "{parent}");
        }
    }
}
