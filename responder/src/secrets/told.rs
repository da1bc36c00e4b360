//! What may be told of keys: never their bytes.

/// What may be told about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether there is a key to sign with.
    pub(crate) resolved: bool,
    /// Its kind.
    pub(crate) kind: String,
    /// The RFC 7638 thumbprint of its public half; none for HMAC.
    pub(crate) thumbprint: Option<String>,
    /// What is wrong: a code and a sentence.
    pub(crate) problem: Option<(&'static str, String)>,
    /// What is worth knowing where nothing is wrong.
    pub(crate) note: Option<&'static Note>,
    /// Grows when the key is replaced.
    pub(crate) generation: u64,
}

/// Something that is worth knowing of a file that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// A stable code.
    pub(crate) code: &'static str,
    /// A sentence.
    pub(crate) message: &'static str,
}

/// A file that is mounted by itself is another one than its secret's from the next change on.
pub(super) const STAYS: Note = Note {
    code: "secret_will_not_rotate",
    message: "the file is mounted by itself (subPath), so that a change of the secret never reaches it; mount the secret as a directory",
};
/// Outside of the kubelet's mounts, which everybody in a container may read, this is mostly an oversight.
pub(super) const EXPOSED: Note = Note {
    code: "secret_world_readable",
    message: "everybody on this machine may read the file; take that away, for example with chmod 0400 (--strict-perms refuses it)",
};
