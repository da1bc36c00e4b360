//! Who somebody is, and what they may do: a role in each of their projects.
//!
//! Roles of users are a ladder, each with the rights of those below it. Responders stand beside it, with one project each.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use countersign_tls::identity::{Identity, Role};

/// What a user may do in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Reads everything.
    Viewer,
    /// Changes snapshots, transforms and test configs too.
    Editor,
    /// Creates, starts, stops, rolls back and deletes replays too.
    Operator,
    /// May do everything.
    Admin,
}

impl Level {
    /// All of them, the lowest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Editor, Self::Operator, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no role; they are viewer, editor, operator, admin and, for responders, responder"
)]
pub struct UnknownRole(pub String);

impl FromStr for Level {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| UnknownRole(text.chars().take(64).collect()))
    }
}

/// What one caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// What a user may.
    User {
        /// In every project.
        everywhere: Option<Level>,
        /// In these projects, by id.
        projects: BTreeMap<Box<str>, Level>,
    },
    /// What a responder may: subscribe to its project, and read what the replays there are made of.
    Responder {
        /// The project's id.
        project: Box<str>,
        /// The name that it has to subscribe as; any, where several share a credential.
        name: Option<Box<str>>,
    },
    /// Ask whether the control plane is well, and nothing else.
    None,
}

impl Rights {
    /// Those of an administrator of everything.
    #[must_use]
    pub fn all() -> Self {
        Self::User { everywhere: Some(Level::Admin), projects: BTreeMap::new() }
    }

    /// What a user may in a project, given by its id; `None` for a stranger to it.
    #[must_use]
    pub fn level(&self, project: &str) -> Option<Level> {
        match self {
            Self::User { everywhere, projects } => {
                (*everywhere).max(projects.get(project).copied())
            }
            Self::Responder { .. } | Self::None => None,
        }
    }

    /// The most that a user may anywhere.
    #[must_use]
    pub fn highest(&self) -> Option<Level> {
        match self {
            Self::User { everywhere, projects } => {
                (*everywhere).max(projects.values().copied().max())
            }
            Self::Responder { .. } | Self::None => None,
        }
    }
}

/// How somebody has shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// Nobody asked.
    Open,
    /// By a certificate.
    Certificate,
    /// By a token of the users file.
    Token,
    /// By a token of an identity provider.
    Oidc,
}

impl Means {
    /// As it is logged.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Oidc => "oidc",
        }
    }
}

/// Somebody who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What they are called, in logs and messages.
    pub name: Box<str>,
    /// How that is known.
    pub means: Means,
    /// What they may do.
    pub rights: Rights,
}

impl Principal {
    /// Everybody, where nobody is asked.
    #[must_use]
    pub fn open() -> Arc<Self> {
        Arc::new(Self { name: "anybody".into(), means: Means::Open, rights: Rights::all() })
    }

    /// Who has this certificate, where the file of users says nothing of them: users may do everything.
    #[must_use]
    pub fn of_certificate(identity: &Identity) -> Self {
        let rights = match &identity.role {
            Role::Responder { project, name } => {
                Rights::Responder { project: project.clone(), name: name.clone() }
            }
            Role::ControlPlane { .. } => Rights::None,
            Role::User { .. } => Rights::all(),
        };
        Self { name: identity.to_string().into(), means: Means::Certificate, rights }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(everywhere: Option<Level>, projects: &[(&str, Level)]) -> Rights {
        let projects = projects.iter().map(|(id, level)| ((*id).into(), *level)).collect();
        Rights::User { everywhere, projects }
    }

    #[test]
    fn the_higher_of_two_roles_counts_and_strangers_have_none() {
        let rights = user(Some(Level::Viewer), &[("shop", Level::Operator)]);
        assert_eq!(rights.level("shop"), Some(Level::Operator));
        assert_eq!(rights.level("web"), Some(Level::Viewer));
        assert_eq!(rights.highest(), Some(Level::Operator));
        let rights = user(None, &[("shop", Level::Viewer)]);
        assert_eq!((rights.level("shop"), rights.level("sho")), (Some(Level::Viewer), None));
        let responder = Rights::Responder { project: "shop".into(), name: None };
        assert_eq!((responder.level("shop"), responder.highest()), (None, None));
    }

    #[test]
    fn roles_read_as_they_are_written() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert!("Admin".parse::<Level>().is_err() && "".parse::<Level>().is_err());
        assert!(Level::ALL.is_sorted());
    }
}
