//! Names in a workload's hosts file lead it to the responders, and what was there before comes back.
//!
//! What the workload had is written into an annotation of it by the very write that changes it, so that whoever comes next, also after a crash,
//! can take it back. What somebody else has changed meanwhile stays.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::HostAlias;
use serde::{Deserialize, Serialize};

use crate::plan::Target;

/// The annotation of a workload whose host aliases were changed.
pub const BEFORE: &str = "countersign.dev/host-aliases-before";
/// The label of such a workload: the name of the replay's responders.
pub const ROUTED: &str = "countersign.dev/routed-to";

/// What a workload had before, and what was added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// The name of the replay that changed it.
    pub replay: String,
    /// The host aliases that it had; `None` where it had no such field.
    pub aliases: Option<Vec<HostAlias>>,
    /// Where its names lead to now.
    pub ip: String,
    /// The names.
    pub hosts: BTreeSet<String>,
}

/// The hosts of a workload that lead to the responders.
#[must_use]
pub fn hosts(target: &Target, recorded: &[String]) -> BTreeSet<String> {
    let is_meant = |host: &&String| {
        let names = |mock: &String| {
            mock == "*" || mock.split(':').any(|part| part.eq_ignore_ascii_case(host))
        };
        target.mocks.is_empty() || target.mocks.iter().any(names)
    };
    // An address is not looked up, so that no name can lead elsewhere.
    let is_name = |host: &&String| host.parse::<std::net::IpAddr>().is_err() && is_host_name(host);
    recorded.iter().filter(is_meant).filter(is_name).map(|host| host.to_ascii_lowercase()).collect()
}

/// Whether it can stand in a hosts file: a DNS name other than those that a pod needs for itself.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        is_end(label.chars().next())
            && is_end(label.chars().last())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    !host.eq_ignore_ascii_case("localhost") && host.len() <= 253 && host.split('.').all(is_label)
}

/// The ports that recorded services were reached at, as far as `mocks` names them.
#[must_use]
pub fn ports(targets: &[Target]) -> BTreeSet<u16> {
    let named = targets.iter().flat_map(|target| &target.mocks);
    named
        .filter_map(|mock| mock.rsplit(':').next()?.parse().ok())
        .filter(|port| *port > 0)
        .collect()
}

/// The host aliases of a workload that had these: the hosts lead to the address, all else stays.
#[must_use]
pub fn routed(had: Option<&[HostAlias]>, ip: &str, hosts: &BTreeSet<String>) -> Vec<HostAlias> {
    let mut aliases: Vec<HostAlias> =
        had.unwrap_or_default().iter().filter_map(|a| without(a, hosts)).collect();
    if !hosts.is_empty() {
        // An address may stand there once only.
        let names = hosts.iter().cloned();
        match aliases.iter_mut().find(|alias| alias.ip == ip) {
            Some(same) => same.hostnames.get_or_insert_default().extend(names),
            None => aliases.push(HostAlias { ip: ip.to_owned(), hostnames: Some(names.collect()) }),
        }
    }
    aliases
}

/// An alias without these names; `None` when nothing is left of it.
fn without(alias: &HostAlias, hosts: &BTreeSet<String>) -> Option<HostAlias> {
    let names = alias.hostnames.iter().flatten();
    let kept: Vec<String> =
        names.filter(|name| !hosts.contains(&name.to_ascii_lowercase())).cloned().collect();
    (!kept.is_empty()).then(|| HostAlias { ip: alias.ip.clone(), hostnames: Some(kept) })
}

/// The host aliases of a workload as they would be without us. Where somebody has changed them meanwhile, that stays: our names go, and those that they
/// stood in the way of come back unless they lead somewhere already.
#[must_use]
pub fn restored(now: Option<&[HostAlias]>, before: &Before) -> Option<Vec<HostAlias>> {
    let had = before.aliases.as_deref();
    if now.unwrap_or_default() == routed(had, &before.ip, &before.hosts) {
        return before.aliases.clone();
    }
    let mut aliases: Vec<HostAlias> = now
        .unwrap_or_default()
        .iter()
        .filter_map(|alias| {
            if alias.ip == before.ip { without(alias, &before.hosts) } else { Some(alias.clone()) }
        })
        .collect();
    let taken: BTreeSet<String> = aliases
        .iter()
        .flat_map(|alias| alias.hostnames.iter().flatten())
        .map(|name| name.to_ascii_lowercase())
        .collect();
    for alias in had.unwrap_or_default() {
        let names = alias.hostnames.iter().flatten().filter(|name| {
            let name = name.to_ascii_lowercase();
            before.hosts.contains(&name) && !taken.contains(&name)
        });
        let names: Vec<String> = names.cloned().collect();
        if names.is_empty() {
            continue;
        }
        match aliases.iter_mut().find(|same| same.ip == alias.ip) {
            Some(same) => same.hostnames.get_or_insert_default().extend(names),
            None => aliases.push(HostAlias { ip: alias.ip.clone(), hostnames: Some(names) }),
        }
    }
    (!aliases.is_empty()).then_some(aliases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TargetKind;

    fn alias(ip: &str, names: &[&str]) -> HostAlias {
        HostAlias {
            ip: ip.into(),
            hostnames: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    fn names(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    fn target(mocks: &[&str]) -> Target {
        let mocks = mocks.iter().map(|mock| (*mock).to_owned()).collect();
        Target { kind: TargetKind::Deployment, name: "user".into(), mocks }
    }

    #[test]
    fn hosts_are_those_that_are_meant_and_can_be_names() {
        let recorded = ["api.example.com", "Auth.example.com", "10.0.0.1", "localhost", "a b"]
            .map(str::to_owned);
        assert_eq!(hosts(&target(&[]), &recorded), names(&["api.example.com", "auth.example.com"]));
        assert_eq!(
            hosts(&target(&["*"]), &recorded),
            names(&["api.example.com", "auth.example.com"])
        );
        let one = target(&["shop:auth.example.com:8443", "other"]);
        assert_eq!(hosts(&one, &recorded), names(&["auth.example.com"]));
        assert_eq!(ports(&[one, target(&["*", "x:0"])]), [8443].into());
    }

    #[test]
    fn a_workload_gets_back_what_it_had() {
        let hosts = names(&["api.example.com", "auth.example.com"]);
        for had in [
            None,
            Some(vec![]),
            Some(vec![alias("10.0.0.9", &["db"])]),
            Some(vec![
                alias("10.0.0.9", &["db", "API.example.com"]),
                alias("10.0.0.8", &["auth.example.com"]),
            ]),
            Some(vec![alias("10.0.0.1", &["already"])]),
        ] {
            let now = routed(had.as_deref(), "10.0.0.1", &hosts);
            let ours = now.iter().find(|alias| alias.ip == "10.0.0.1").unwrap();
            assert!(hosts.iter().all(|host| ours.hostnames.as_ref().unwrap().contains(host)));
            let all: Vec<_> = now
                .iter()
                .flat_map(|a| a.hostnames.iter().flatten())
                .map(|n| n.to_lowercase())
                .collect();
            assert_eq!(
                all.iter().collect::<BTreeSet<_>>().len(),
                all.len(),
                "no name leads to two places"
            );
            let before = Before {
                replay: "r".into(),
                aliases: had.clone(),
                ip: "10.0.0.1".into(),
                hosts: hosts.clone(),
            };
            assert_eq!(restored(Some(&now), &before), had);
        }
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let hosts = names(&["api.example.com", "auth.example.com"]);
        let had = vec![
            alias("10.0.0.9", &["db", "api.example.com"]),
            alias("10.0.0.8", &["auth.example.com"]),
        ];
        let mut now = routed(Some(&had), "10.0.0.1", &hosts);
        now.push(alias("10.0.0.7", &["new"]));
        let before =
            Before { replay: "r".into(), aliases: Some(had), ip: "10.0.0.1".into(), hosts };
        assert_eq!(
            restored(Some(&now), &before),
            Some(vec![
                alias("10.0.0.9", &["db", "api.example.com"]),
                alias("10.0.0.7", &["new"]),
                alias("10.0.0.8", &["auth.example.com"]),
            ])
        );
        // Whoever wrote the workload anew has left out our names already.
        let anew = vec![alias("10.0.0.6", &["api.example.com"])];
        assert_eq!(
            restored(Some(&anew), &before),
            Some(vec![
                alias("10.0.0.6", &["api.example.com"]),
                alias("10.0.0.8", &["auth.example.com"])
            ])
        );
    }
}
