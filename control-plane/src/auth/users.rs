//! The file of users: who has which token or certificate, and what they may do. Read again each second; a file that cannot be used never replaces one
//! that could.
//!
//! One line for each grant, in words: NAME ROLE PROJECTS CREDENTIAL and, if it ends, `expires=TIME`. PROJECTS are ids with commas between, or `*`; the
//! credential is a token's digest, `sha256:…`, or `certificate`, where NAME is what follows `spiffe://DOMAIN/` in it. Several lines for one credential add
//! up. `#` begins a comment.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_tls::identity::Identity;
use jiff::Timestamp;

use super::{
    rights::{Level, Means, Principal, Rights, UnknownRole},
    token::{NotAHash, TokenHash},
};
use crate::service::name::is_id;

/// The longest file.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// The longest name.
const MAX_NAME: usize = 200;
/// Stands for all projects.
const EVERYWHERE: &str = "*";
/// Stands where the digest of a token would.
const CERTIFICATE: &str = "certificate";
const RESPONDER: &str = "responder";

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("cannot read the users in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is too long.
    #[error("{} is longer than {MAX_FILE} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("{}, line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: LineError,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Too few or too many words.
    #[error("a line is NAME ROLE PROJECTS CREDENTIAL [expires=TIME]")]
    Words,
    /// The name.
    #[error("a name has up to {MAX_NAME} letters, digits and `.-_@/+:`")]
    Name,
    /// The role.
    #[error(transparent)]
    Role(#[from] UnknownRole),
    /// The projects.
    #[error("`{0}` is no project's id, and not `*` either")]
    Project(String),
    /// The credential.
    #[error("the credential is neither `certificate` nor the digest of a token")]
    Credential(#[from] NotAHash),
    /// The end.
    #[error("the end is written as in expires=2027-01-31T00:00:00Z")]
    Expires,
    /// A responder in several projects.
    #[error("a responder has one project and one line, and no other role")]
    Responder,
    /// A certificate that is not a user's.
    #[error(
        "certificates are listed for users only, as `user/anna`; those of responders say themselves whose they are"
    )]
    Certificate,
    /// Two names for one token.
    #[error("the same token is called `{0}` in another line")]
    Twice(String),
}

/// Who is listed.
#[derive(Debug, Default)]
pub struct Users {
    tokens: HashMap<TokenHash, Vec<Listed>>,
    certificates: BTreeMap<Box<str>, Vec<Listed>>,
}

/// One line.
#[derive(Debug, Clone)]
struct Listed {
    name: Box<str>,
    rights: Rights,
    expires: Option<Timestamp>,
}

/// What is known of a credential.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// It is somebody's.
    Good(Arc<Principal>),
    /// It was somebody's.
    Expired(Box<str>),
    /// It is nobody's.
    Unknown,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line of it is wrong.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let failed = |source| UsersError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(text.len()).map_or(true, |length| length > MAX_FILE) {
            return Err(UsersError::TooLong { path: path.to_owned() });
        }
        Self::parse(&text).map_err(|(line, source)| UsersError::Line {
            path: path.to_owned(),
            line,
            source,
        })
    }

    /// Reads lines; what is wrong, and in which one.
    fn parse(text: &str) -> Result<Self, (usize, LineError)> {
        let mut users = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() {
                users.add(&words).map_err(|wrong| (index + 1, wrong))?;
            }
        }
        Ok(users)
    }

    fn add(&mut self, words: &[&str]) -> Result<(), LineError> {
        let (name, role, projects, credential, expires) = match words {
            [name, role, projects, credential] => (*name, *role, *projects, *credential, None),
            [name, role, projects, credential, last] => {
                let text = last.strip_prefix("expires=").ok_or(LineError::Words)?;
                let end: Timestamp = text.parse().map_err(|_| LineError::Expires)?;
                (*name, *role, *projects, *credential, Some(end))
            }
            _ => return Err(LineError::Words),
        };
        let is_good = |c: char| c.is_ascii_alphanumeric() || ".-_@/+:".contains(c);
        if name.len() > MAX_NAME || !name.chars().all(is_good) {
            return Err(LineError::Name);
        }
        let listed = Listed { name: name.into(), rights: rights(role, projects)?, expires };
        let is_responder = matches!(listed.rights, Rights::Responder { .. });
        let beside = if credential == CERTIFICATE {
            if is_responder || !name.starts_with("user/") {
                return Err(LineError::Certificate);
            }
            self.certificates.entry(name.into()).or_default()
        } else {
            self.tokens.entry(credential.parse()?).or_default()
        };
        if let Some(other) = beside.first() {
            if other.name != listed.name {
                return Err(LineError::Twice(other.name.to_string()));
            }
            if is_responder || matches!(other.rights, Rights::Responder { .. }) {
                return Err(LineError::Responder);
            }
        }
        beside.push(listed);
        Ok(())
    }

    /// Whose token it is.
    #[must_use]
    pub fn of_token(&self, token: &str, now: Timestamp) -> Known {
        let lines = self.tokens.get(&TokenHash::of(token)).map_or(&[][..], Vec::as_slice);
        known(lines, Means::Token, None, now)
    }

    /// What a user may who has shown this certificate.
    #[must_use]
    pub fn of_certificate(&self, identity: &Identity, now: Timestamp) -> Known {
        let lines = self.certificates.get(&*identity.role.to_string());
        let lines = lines.map_or(&[][..], Vec::as_slice);
        known(lines, Means::Certificate, Some(identity), now)
    }
}

/// What lines for one credential say together.
fn known(lines: &[Listed], means: Means, identity: Option<&Identity>, now: Timestamp) -> Known {
    let Some(first) = lines.first() else { return Known::Unknown };
    let mut open = lines.iter().filter(|line| line.expires.is_none_or(|end| now < end));
    let Some(one) = open.next() else { return Known::Expired(first.name.clone()) };
    let rights = open.fold(one.rights.clone(), |sum, line| both(sum, &line.rights));
    let name = identity.map_or_else(|| first.name.clone(), |identity| identity.to_string().into());
    Known::Good(Arc::new(Principal { name, means, rights }))
}

/// The higher role in each project.
fn both(mut sum: Rights, more: &Rights) -> Rights {
    if let (
        Rights::User { everywhere, projects },
        Rights::User { everywhere: more_everywhere, projects: more_projects },
    ) = (&mut sum, more)
    {
        *everywhere = (*everywhere).max(*more_everywhere);
        for (project, level) in more_projects {
            let level = projects.get(project).map_or(*level, |before| (*before).max(*level));
            projects.insert(project.clone(), level);
        }
    }
    sum
}

/// What somebody with this role in these projects may do.
pub(super) fn rights(role: &str, projects: &str) -> Result<Rights, LineError> {
    let ids: Vec<&str> = projects.split(',').collect();
    if let Some(bad) = ids.iter().find(|id| !is_id(id))
        && projects != EVERYWHERE
    {
        return Err(LineError::Project(bad.chars().take(64).collect()));
    }
    if role == RESPONDER {
        return match ids.as_slice() {
            [project] if *project != EVERYWHERE => {
                Ok(Rights::Responder { project: (*project).into(), name: None })
            }
            _ => Err(LineError::Responder),
        };
    }
    let level: Level = role.parse()?;
    Ok(if projects == EVERYWHERE {
        Rights::User { everywhere: Some(level), projects: BTreeMap::new() }
    } else {
        let projects = ids.into_iter().map(|id| (id.into(), level)).collect();
        Rights::User { everywhere: None, projects }
    })
}

/// A line for a new token.
///
/// # Errors
/// When the file could not hold it.
pub fn line(
    name: &str,
    role: &str,
    projects: &str,
    hash: TokenHash,
    expires: Option<Timestamp>,
) -> Result<String, LineError> {
    let expires = expires.map(|end| format!(" expires={end}")).unwrap_or_default();
    let line = format!("{name} {role} {projects} {hash}{expires}");
    Users::parse(&line).map_err(|(_, wrong)| wrong)?;
    Ok(line)
}

#[cfg(test)]
mod tests;
