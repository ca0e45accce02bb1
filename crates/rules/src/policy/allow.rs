//! [`AllowedSets`]: the sets of hosts that an agent may reach without a credential. They decide after rules and
//! bindings, and before the default.
//!
//! All agents share one compiled index of the sets; an agent only has the numbers of its own. A look-up costs the
//! same for any number of sets, and nothing for an agent without any.

use std::sync::{Arc, LazyLock};

use http::Method;

use super::index::HostIndex;
use crate::host_sets::{Allowance, HostSets};
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};

/// The sets of one agent, as numbers of [`CompiledSets`], in its order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowedSets(Arc<[usize]>);

/// Why a set allows a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllowedBy<'a> {
    pub(super) rule: &'static RuleId,
    /// The pattern that matches the host; `None` for a set of every host.
    pub(super) pattern: Option<&'a HostPattern>,
}

/// All sets.
struct CompiledSets {
    all: Vec<CompiledSet>,
    hosts: HostIndex<CompiledAllowance>,
}

struct CompiledSet {
    id: String,
    /// `allow:ID`.
    rule: RuleId,
    /// The set and those that it includes, as bits by their numbers.
    contains: u64,
    every_host: bool,
}

struct CompiledAllowance {
    set: usize,
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
    query: Option<String>,
}

/// The set to suggest for a request that the default refuses: the largest that allows it and does not contain every
/// host. Without method and path: a set with the host.
pub fn set_for(target: &Target, request: Option<(&Method, &DecodedPath)>) -> Option<&'static str> {
    let sets = CompiledSets::built_in();
    let mut meant = sets.hosts.matching(target).map(|entry| &entry.value);
    let found =
        meant.find(|it| request.is_none_or(|(method, path)| it.allows(method, path, None)))?;
    // A set follows those that it includes.
    let largest = sets.all.iter().rfind(|set| set.contains & (1 << found.set) != 0);
    largest.map(|set| &*set.id)
}

/// The hosts of all sets. Refusals for them are sent inside TLS, so that a program shows the hint.
pub fn hosts_of_sets() -> impl Iterator<Item = &'static HostPattern> {
    let allowances = HostSets::built_in().all().iter().flat_map(|set| &set.allow);
    allowances.flat_map(|allowance| &allowance.hosts)
}

impl AllowedSets {
    /// The sets with these names. Others are ignored: a later version may have written them, and they allow nothing.
    pub fn named<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let all = &CompiledSets::built_in().all;
        let number = |name: &str| all.iter().position(|set| *set.id == *name);
        Self(names.into_iter().filter_map(number).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let all = &CompiledSets::built_in().all;
        self.0.iter().map(|number| &*all[*number].id)
    }

    /// Each set alone, with its rule id.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static RuleId, Self)> + '_ {
        let all = &CompiledSets::built_in().all;
        self.0.iter().map(|number| (&all[*number].rule, Self(Arc::from([*number]))))
    }

    /// The first set that allows the request.
    pub(super) fn allowing<'a>(
        &self,
        target: &'a Target,
        method: &Method,
        path: &DecodedPath,
        query: Option<&str>,
    ) -> Option<AllowedBy<'a>> {
        self.first(target, |allowance| allowance.allows(method, path, query))
    }

    /// The first set that allows some request to the target.
    pub(super) fn allowing_some<'a>(&self, target: &'a Target) -> Option<AllowedBy<'a>> {
        self.first(target, |_| true)
    }

    fn first<'a>(
        &self,
        target: &'a Target,
        is_meant: impl Fn(&CompiledAllowance) -> bool,
    ) -> Option<AllowedBy<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let sets = CompiledSets::built_in();
        let mut found = 0;
        let mut pattern = None;
        for entry in sets.hosts.matching(target).filter(|entry| is_meant(&entry.value)) {
            found |= 1 << entry.value.set;
            pattern = pattern.or(Some(&entry.pattern));
        }
        let is_web = is_web_port(target.port());
        let mut own = self.0.iter().map(|number| &sets.all[*number]);
        let set = own.find(|set| set.contains & found != 0 || set.every_host && is_web)?;
        Some(AllowedBy { rule: &set.rule, pattern: pattern.filter(|_| !set.every_host) })
    }
}

impl CompiledSets {
    fn built_in() -> &'static Self {
        static COMPILED: LazyLock<CompiledSets> =
            LazyLock::new(|| CompiledSets::of(HostSets::built_in()));
        &COMPILED
    }

    fn of(sets: &HostSets) -> Self {
        let mut compiled = Self { all: Vec::new(), hosts: HostIndex::default() };
        for (number, set) in sets.all().iter().enumerate() {
            // A set follows those that it includes, so that these are complete.
            let included = compiled.all.iter().filter(|other| set.includes.contains(&other.id));
            let contains = included.fold(1 << number, |all, other| all | other.contains);
            compiled.all.push(CompiledSet {
                id: set.id.clone(),
                rule: RuleId::new(format!("allow:{}", set.id)),
                contains,
                every_host: set.every_host,
            });
            for Allowance { hosts, methods, paths, query, .. } in &set.allow {
                for host in hosts {
                    let (methods, paths, query) = (methods.clone(), paths.clone(), query.clone());
                    let value = CompiledAllowance { set: number, methods, paths, query };
                    compiled.hosts.insert(host.clone(), value);
                }
            }
        }
        compiled
    }
}

impl CompiledAllowance {
    /// A path that servers read in two ways is not in a list of paths.
    fn allows(&self, method: &Method, path: &DecodedPath, query: Option<&str>) -> bool {
        let is_listed = || !path.ambiguous() && self.paths.iter().any(|it| it.matches(path));
        self.methods.contains(method)
            && (self.query.is_none() || self.query.as_deref() == query)
            && (self.paths.is_empty() || is_listed())
    }
}

/// Whether the port may be dialled although no rule names it.
pub(super) fn is_web_port(port: u16) -> bool {
    matches!(port, 80 | 443)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Scheme;

    fn set(line: &str) -> Option<&'static str> {
        let (method, url) = line.split_once(' ').unwrap();
        let (host, path) = url.split_at(url.find('/').unwrap());
        let target = Target::parse(Scheme::Https, host).unwrap();
        let (method, path) = (method.parse().unwrap(), DecodedPath::parse(path).unwrap());
        set_for(&target, Some((&method, &path)))
    }

    #[test]
    fn no_set_is_suggested_that_does_not_allow_the_request() {
        for line in [
            "POST pypi.org/legacy/",
            "GET pypi.org.evil.test/simple/six/",
            "GET pypi.org:8443/simple/six/",
            "PUT crates.io/api/v1/crates/new",
            "GET crates.io/me",
            "POST registry.npmjs.org/-/v1/login",
            "PUT registry.npmjs.org/six",
            "GET storage.googleapis.com/other-bucket/x",
            "GET storage.googleapis.com/proxy-golang-org-prod/a%2fother/x",
            "POST github.com/o/r.git/git-receive-pack",
            "GET github.com/o/r/issues",
            "GET github.com/login",
            "POST ghcr.io/v2/o/i/blobs/uploads/",
            "POST auth.docker.io/token",
            "PUT github-cloud.s3.amazonaws.com/alambic/media/1",
            "PUT productionresultssa7.blob.core.windows.net/actions-results/1",
            "GET mine.blob.core.windows.net/x",
            "GET acme.sharepoint.com/sites/a",
            "GET dl.google.com/chrome/x",
            "POST packagist.org/downloads/",
            "GET gitlab.com/g/s/p",
            "GET example.com/",
        ] {
            assert_eq!(set(line), None, "{line}");
        }
    }

    #[test]
    fn the_largest_set_that_allows_the_request_is_suggested() {
        for (line, name) in [
            ("GET pypi.org/simple/six/", "packages"),
            ("GET registry.npmjs.org/@babel%2fcore", "packages"),
            ("POST registry.npmjs.org/-/npm/v1/security/advisories/bulk", "packages"),
            ("GET storage.googleapis.com/proxy-golang-org-prod/8e29-a.org:api.zip", "packages"),
            ("HEAD registry-1.docker.io/v2/library/alpine/manifests/latest", "packages"),
            ("GET github.com/o/r.git/info/refs", "github-read"),
            ("POST github.com/o/r/git-upload-pack", "github-read"),
            ("GET github-cloud.githubusercontent.com/alambic/media/1", "github-read"),
            ("GET github-cloud.s3.amazonaws.com/alambic/media/1", "github-read"),
            ("GET productionresultssa7.blob.core.windows.net/actions-results/1", "github-read"),
            ("GET services.gradle.org/distributions/gradle-9.3.0-bin.zip", "packages"),
            ("GET dl.google.com/dl/android/maven2/x.pom", "packages"),
            ("GET static.rust-lang.org/dist/channel-rust-stable.toml", "packages"),
            ("GET nodejs.org/dist/v22.0.0/node-v22.0.0-headers.tar.gz", "packages"),
            ("GET acme-my.sharepoint.com/personal/a/_layouts/15/download.aspx", "onedrive"),
            ("GET dl.boxcloud.com/d/1/x", "box"),
            ("GET cas-bridge.xethub.hf.co/x", "hugging-face"),
            ("GET huggingface.co/org/model/resolve/main/config.json", "hugging-face"),
            ("GET ssrweb.zoom.us/replay/x", "zoom"),
        ] {
            assert_eq!(set(line), Some(name), "{line}");
        }
    }

    #[test]
    fn the_built_in_sets_fit_into_64_bits() {
        assert!(HostSets::built_in().all().len() <= 64);
    }
}
