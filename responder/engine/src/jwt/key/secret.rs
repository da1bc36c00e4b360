//! Names of secrets, and the paths that templates give for them.

use std::fmt;

/// Where the incumbent mounts secrets; a path below it names a secret wherever a node mounts it in truth.
pub const DEFAULT_SECRET_ROOT: &str = "/home/speedscale/secret";

/// The longest name of a secret or key.
const MAX_NAME: usize = 253;

/// Names a key of a mounted secret: the file `<secret-dir>/<secret>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef {
    /// The secret, which is a directory.
    pub secret: String,
    /// The key, which is a file in it.
    pub key: String,
}

/// Why a path names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct SecretPathError {
    /// A stable code: `secret_path_unsafe` or `secret_path_malformed`.
    pub code: &'static str,
    why: String,
}

impl SecretPathError {
    fn unsafe_(why: &str) -> Self {
        Self { code: "secret_path_unsafe", why: why.to_owned() }
    }

    fn malformed(why: String) -> Self {
        Self { code: "secret_path_malformed", why }
    }
}

impl SecretRef {
    /// Reads a `secretPath`: `/home/speedscale/secret/<secret>/<key>`, `${{secret:<secret>/<key>}}` or `<secret>/<key>`.
    ///
    /// # Errors
    /// When it is none of these or could lead out of the secret directory.
    pub fn parse(path: &str) -> Result<Self, SecretPathError> {
        let path = path.trim();
        let inner = match path.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")) {
            Some(placeholder) => placeholder
                .trim()
                .strip_prefix("secret:")
                .ok_or_else(|| {
                    SecretPathError::malformed(
                        "only ${{secret:<secret>/<key>}} may stand here".to_owned(),
                    )
                })?
                .trim(),
            None => match path.strip_prefix(DEFAULT_SECRET_ROOT) {
                Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
                _ if path.starts_with('/') => {
                    return Err(SecretPathError::unsafe_(&format!(
                        "an absolute path has to lie below {DEFAULT_SECRET_ROOT}, which stands for the node's secret directory"
                    )));
                }
                _ => path,
            },
        };
        let parts: Vec<&str> = inner.split('/').collect();
        if parts.iter().any(|part| part.starts_with("..") || *part == ".") {
            return Err(SecretPathError::unsafe_(
                "the path must not lead out of the secret directory",
            ));
        }
        let [secret, key] = parts.as_slice() else {
            return Err(SecretPathError::malformed(format!(
                "`{DEFAULT_SECRET_ROOT}/<secret>/<key>` is needed"
            )));
        };
        for name in [secret, key] {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(sound) {
                return Err(SecretPathError::malformed(
                    "names of secrets and keys have 1 to 253 letters, digits, dots, hyphens and underscores".to_owned(),
                ));
            }
        }
        Ok(Self { secret: (*secret).to_owned(), key: (*key).to_owned() })
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.secret, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spellings_name_the_same_key() {
        for path in [
            "/home/speedscale/secret/jwt-demo/tls.key",
            "${{secret:jwt-demo/tls.key}}",
            "jwt-demo/tls.key",
            " ${{ secret:jwt-demo/tls.key }} ",
        ] {
            assert_eq!(SecretRef::parse(path).unwrap().to_string(), "jwt-demo/tls.key", "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_secret_directory() {
        for path in [
            "/home/speedscale/secret/../../etc/passwd",
            "${{secret:../../x/y}}",
            "a/../b",
            "/etc/passwd",
            "/proc/self/environ",
            "/home/speedscale/secrets/a/b",
            "a/..data",
        ] {
            assert_eq!(SecretRef::parse(path).unwrap_err().code, "secret_path_unsafe", "{path}");
        }
        for path in [
            "",
            "a",
            "a/b/c",
            "a/",
            "/home/speedscale/secret//b",
            "a/b\0",
            "a/b c",
            "${{file:/x/y}}",
            &format!("a/{}", "k".repeat(254)),
        ] {
            assert!(SecretRef::parse(path).is_err(), "{path:?}");
        }
    }
}
