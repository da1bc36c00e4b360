//! The bounds of the data plane as flags, and what the system lets us have of them.

use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Files that are kept for everything but data connections: the admin listener, the control plane, secrets, the cache.
const RESERVED: usize = 128;
const MIB: u64 = 1024 * 1024;

/// The flags of a responder's bounds.
#[derive(Debug, Clone, Args)]
pub struct LimitFlags {
    /// The largest request body in bytes; larger ones are answered with 413.
    #[arg(long, help_heading = "Limits", value_name = "BYTES", default_value_t = Limits::default().body)]
    pub max_body: usize,
    /// How much memory the bodies of all requests together may take while they are read, in MiB; what is more is answered with 503. The first 64
    /// KiB of each are not counted.
    #[arg(long, help_heading = "Limits", value_name = "MIB", default_value_t = mebibytes(Limits::default().bodies))]
    pub max_body_memory_mib: usize,
    /// The most connections at a time; more wait. Where the system allows fewer open files, there are fewer: 128 files, or half of all, are kept for
    /// everything else.
    #[arg(long, help_heading = "Limits", value_name = "COUNT", default_value_t = Limits::default().connections)]
    pub max_connections: usize,
    /// The most connections at a time of one address, or of a /64 of IPv6; more are closed. Nine tenths of --max-connections if not given.
    #[arg(long, help_heading = "Limits", value_name = "COUNT")]
    pub max_connections_per_source: Option<usize>,
    /// The memory of this process in MiB of which 92 % make idle connections end, and others with their next response, and 95 % have requests
    /// answered with 503. What the control group allows if not given; 0 turns it off. A snapshot that does not fit beside what is served is
    /// refused before anything is fetched, and what is served goes on.
    #[arg(long, help_heading = "Limits", env = "COUNTERSIGN_MEMORY_LIMIT_MIB", value_name = "MIB")]
    pub memory_limit_mib: Option<u64>,
    /// How long a connection may take to show which protocol it speaks, and a TLS handshake to end.
    #[arg(long, help_heading = "Limits", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub detect_timeout: Duration,
    /// How long the head of an HTTP/1 request may take from its first byte.
    #[arg(long, help_heading = "Limits", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub head_timeout: Duration,
    /// How long a request's body may pause.
    #[arg(long, help_heading = "Limits", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub body_timeout: Duration,
    /// How long a client may take no byte of a response.
    #[arg(long, help_heading = "Limits", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub write_timeout: Duration,
    /// How long an HTTP/1 connection may be idle between requests; it is closed before twice that.
    #[arg(long, help_heading = "Limits", value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub idle_timeout: Duration,
    /// How many requests may wait for an RSA signature; more are answered with 503 and asked to come again.
    #[arg(long, help_heading = "Limits", env = "COUNTERSIGN_SIGN_QUEUE", value_name = "REQUESTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sign_queue: u32,
}

impl From<LimitFlags> for Limits {
    fn from(flags: LimitFlags) -> Self {
        let connections = flags.max_connections;
        let of_one = flags
            .max_connections_per_source
            .unwrap_or_else(|| connections.saturating_sub(connections.div_ceil(10)));
        Self {
            body: flags.max_body,
            bodies: flags.max_body_memory_mib.saturating_mul(1024 * 1024),
            connections,
            connections_per_source: of_one.max(1),
            memory: flags.memory_limit_mib.map(|mib| mib.saturating_mul(MIB)),
            detect: flags.detect_timeout,
            handshake: flags.detect_timeout,
            head: flags.head_timeout,
            idle: flags.idle_timeout,
            write_pause: flags.write_timeout,
            body_pause: flags.body_timeout,
            sign_queue: usize::try_from(flags.sign_queue).unwrap_or(usize::MAX),
        }
    }
}

impl Limits {
    /// The same with so many connections as there may be open files. `files` is how many each may need.
    #[must_use]
    pub(crate) fn within(self, open_files: usize, files: usize) -> Self {
        let left = open_files - RESERVED.min(open_files / 2);
        let room = (left / files.max(1)).max(1);
        if room < self.connections {
            tracing::warn!(
                open_files,
                connections = room,
                "fewer connections than --max-connections, for the system allows so few open files"
            );
        }
        Self { connections: self.connections.min(room), ..self }
    }
}

/// How many files this process may have open, once it has asked for as many as it may.
pub(crate) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is refused it stays as it was.
    let _refused = setrlimit(Resource::Nofile, raised);
    let open = getrlimit(Resource::Nofile).current;
    open.map_or(usize::MAX, |open| usize::try_from(open).unwrap_or(usize::MAX))
}

fn mebibytes(bytes: usize) -> usize {
    bytes / (1024 * 1024)
}

/// A time such as `500ms`, `10s`, `2m`.
///
/// # Errors
/// How it looks, when it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 =
        number.parse().map_err(|_| "a time looks like 500ms, 10s, 2m or 1h".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err("a time looks like 500ms, 10s, 2m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        limits: LimitFlags,
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_flags_it_is_the_default_and_a_tenth_is_for_others() {
        let limits: Limits = Flags::parse_from(["r"]).limits.into();
        let default = Limits { connections_per_source: 9_000, ..Limits::default() };
        assert_eq!(format!("{limits:?}"), format!("{default:?}"));
        let one: Limits = Flags::parse_from(["r", "--max-connections", "1"]).limits.into();
        assert_eq!(one.connections_per_source, 1);
    }

    #[test]
    fn files_are_kept_for_everything_else() {
        let connections = |open, files| Limits::default().within(open, files).connections;
        assert_eq!(connections(1_000_000, 1), 10_000);
        assert_eq!(connections(256, 1), 128);
        assert_eq!(connections(256, 2), 64);
        assert_eq!(connections(1024, 1), 896);
        assert_eq!(connections(3, 1), 2);
        assert_eq!(connections(0, 1), 1);
    }
}
