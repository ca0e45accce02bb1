//! The table of environment variables that make clients use the gateway. `keyward run` and `keyward env`
//! set these variables, those of [`RUN_FILES`] and `git.rs`, the placeholders and [`PLACEHOLDERS`], and no others.

use super::files::{APT_CONF, BUNDLE, CA, NODE_SHIM, WGETRC};
use keyward_rules::provider::run_files::RUN_FILES;

/// The variable that names those with placeholders. The next environment in the same shell removes those that it does not
/// set.
pub(super) const PLACEHOLDERS: &str = "KEYWARD_PLACEHOLDERS";

/// What a variable is set to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SetTo {
    /// The proxy's URL, with the agent's name and token.
    Proxy,
    /// The hosts that are reached without the proxy.
    NoProxy,
    /// The path of this file.
    File(&'static str),
    /// The path of the bundle, only where the user has a bundle of their own for these clients. Without one they use that of other variables.
    BundleForOwn,
    Text(&'static str),
    /// Options of Java, after those that are there.
    Java,
    /// Options of Maven's Java, likewise.
    Maven,
    /// Options of Gradle's Java, likewise.
    Gradle,
    /// Options of Node, after those that are there.
    Node,
    /// Directories of PHP's ini files, after those that are there.
    Php,
    /// Directories of Python's modules, before those that are there.
    Python,
}

impl SetTo {
    /// Whether the inherited value is a part of the new one.
    pub(super) fn has_inherited(self) -> bool {
        matches!(
            self,
            Self::NoProxy
                | Self::Java
                | Self::Maven
                | Self::Gradle
                | Self::Node
                | Self::Php
                | Self::Python
        )
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EnvironmentVariable {
    pub(crate) name: &'static str,
    /// What it is set to.
    pub(crate) set_to: SetTo,
    /// Whom it is for.
    pub(crate) why: &'static str,
}

const fn variable(name: &'static str, set_to: SetTo, why: &'static str) -> EnvironmentVariable {
    EnvironmentVariable { name, set_to, why }
}

/// All of them, in the order in which they are printed.
pub(crate) const TABLE: &[EnvironmentVariable] = &[
    variable("HTTPS_PROXY", SetTo::Proxy, "nearly every client"),
    variable("https_proxy", SetTo::Proxy, "wget and gRPC read only this case"),
    variable("HTTP_PROXY", SetTo::Proxy, "http:// URLs; undici, gRPC and Slack fall back to it"),
    variable("http_proxy", SetTo::Proxy, "curl reads only this case for http://"),
    variable("ALL_PROXY", SetTo::Proxy, "httpx, requests, curl, git, cargo, deno, bun, reqwest"),
    variable("all_proxy", SetTo::Proxy, "the same"),
    variable("WSS_PROXY", SetTo::Proxy, "aiohttp reads no other for WebSockets"),
    variable("wss_proxy", SetTo::Proxy, "the same"),
    variable("WS_PROXY", SetTo::Proxy, "the same for ws:// URLs"),
    variable("ws_proxy", SetTo::Proxy, "the same"),
    variable("grpc_proxy", SetTo::Proxy, "gRPC: a value of the user's own would win"),
    variable("NO_PROXY", SetTo::NoProxy, "an inherited entry could lead past the gateway"),
    variable("no_proxy", SetTo::NoProxy, "the same"),
    variable("no_grpc_proxy", SetTo::NoProxy, "the same, for gRPC"),
    variable("SSL_CERT_FILE", SetTo::File(BUNDLE), "OpenSSL, Python, Go, rustls with native roots"),
    variable("REQUESTS_CA_BUNDLE", SetTo::File(BUNDLE), "requests and what is built on it"),
    variable("CURL_CA_BUNDLE", SetTo::File(BUNDLE), "curl"),
    variable("GIT_SSL_CAINFO", SetTo::File(BUNDLE), "git reads no other"),
    variable("NODE_EXTRA_CA_CERTS", SetTo::File(CA), "Node, npm, bun, deno"),
    variable("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", SetTo::File(BUNDLE), "grpcio reads no other"),
    variable("HTTPLIB2_CA_CERTS", SetTo::File(BUNDLE), "httplib2 reads no other"),
    variable(
        "AWS_CA_BUNDLE",
        SetTo::BundleForOwn,
        "the user's own bundle would win; many programs in Go refuse any",
    ),
    variable("PIP_CERT", SetTo::File(BUNDLE), "a value of the user's own would win"),
    variable("CARGO_HTTP_CAINFO", SetTo::File(BUNDLE), "the same"),
    variable("npm_config_cafile", SetTo::File(BUNDLE), "the same"),
    variable("WEBSOCKET_CLIENT_CA_BUNDLE", SetTo::File(BUNDLE), "the same"),
    variable("DENO_CERT", SetTo::File(CA), "deno"),
    variable("DENO_TLS_CA_STORE", SetTo::Text("system,mozilla"), "deno"),
    variable("WGETRC", SetTo::File(WGETRC), "wget with GnuTLS has no variable for roots"),
    variable("APT_CONFIG", SetTo::File(APT_CONF), "apt has none either"),
    variable("JAVA_TOOL_OPTIONS", SetTo::Java, "Java reads nothing else"),
    variable(
        "MAVEN_OPTS",
        SetTo::Maven,
        "Maven 3.9 and newer read Java's options only with this option",
    ),
    variable("GRADLE_OPTS", SetTo::Gradle, "a Gradle daemon keeps the environment that started it"),
    variable(
        "NODE_USE_ENV_PROXY",
        SetTo::Text("1"),
        "fetch and https of Node 22.21, 24.5 and later",
    ),
    variable(
        "NODE_OPTIONS",
        SetTo::Node,
        "older Node, and clients with an agent or sockets of their own",
    ),
    variable("BUN_INSPECT_PRELOAD", SetTo::File(NODE_SHIM), "Bun reads no options of Node"),
    variable("PYTHONPATH", SetTo::Python, "Python's clients that read no variable"),
    variable("GIT_HTTP_PROXY_AUTHMETHOD", SetTo::Text("basic"), "saves git a round trip"),
    variable("YARN_HTTPS_PROXY", SetTo::Proxy, "yarn"),
    variable("YARN_HTTP_PROXY", SetTo::Proxy, "yarn"),
    variable("YARN_HTTPS_CA_FILE_PATH", SetTo::File(BUNDLE), "yarn"),
    variable("GLOBAL_AGENT_HTTPS_PROXY", SetTo::Proxy, "global-agent"),
    variable("GLOBAL_AGENT_HTTP_PROXY", SetTo::Proxy, "global-agent"),
    variable("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", SetTo::File(BUNDLE), "gcloud"),
    variable("NIX_SSL_CERT_FILE", SetTo::File(BUNDLE), "nix"),
    variable("SYSTEM_CERTIFICATE_PATH", SetTo::File(BUNDLE), "Haskell's TLS reads no other"),
    variable("BUNDLE_SSL_CA_CERT", SetTo::File(BUNDLE), "bundler"),
    variable("COMPOSER_CAFILE", SetTo::File(BUNDLE), "composer"),
    variable("PERL_LWP_SSL_CA_FILE", SetTo::File(BUNDLE), "Perl's LWP"),
    variable(
        "PERL_LWP_ENV_PROXY",
        SetTo::Text("1"),
        "LWP reads the proxy variables only with this",
    ),
    variable("MOJO_PROXY", SetTo::Text("1"), "Mojolicious, likewise"),
    variable("PHP_INI_SCAN_DIR", SetTo::Php, "PHP's curl has no variable for roots"),
    variable("HEX_CACERTS_PATH", SetTo::File(BUNDLE), "hex"),
    variable("CONDA_SSL_VERIFY", SetTo::File(BUNDLE), "conda"),
];

/// Whom a variable is for; `None` for one of a provider.
pub(crate) fn why(name: &str) -> Option<&'static str> {
    if name.starts_with(super::git::PREFIX) {
        return Some("git: SSH URLs of a forge become HTTPS URLs");
    }
    if name == PLACEHOLDERS {
        return Some("the next environment in the same shell removes these");
    }
    let of_file = RUN_FILES.iter().find(|file| file.variable == name);
    let of_table = TABLE.iter().find(|variable| variable.name == name);
    of_table.map(|variable| variable.why).or(of_file.map(|file| file.why.as_str()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_variable_is_named_twice_and_each_has_a_reason() {
        let names: BTreeSet<_> = TABLE.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(RUN_FILES.iter().all(|file| !names.contains(file.variable.as_str())));
        assert!(TABLE.iter().all(|variable| !variable.why.is_empty()));
    }

    #[test]
    fn proxy_variables_are_set_in_upper_and_lower_case() {
        let set_to = |name: &str| TABLE.iter().find(|v| v.name == name).map(|v| v.set_to);
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "WSS_PROXY", "WS_PROXY", "NO_PROXY"]
        {
            assert!(set_to(name).is_some(), "{name}");
            assert_eq!(set_to(name), set_to(&name.to_ascii_lowercase()), "{name}");
        }
    }

    /// x509-system reads `SYSTEM_CERTIFICATE_PATH` in place of its own list of files and directories. Pandoc and Stack
    /// are built on it.
    #[test]
    fn haskell_gets_the_bundle_and_not_only_the_ca() {
        let haskell = TABLE.iter().find(|v| v.name == "SYSTEM_CERTIFICATE_PATH");
        assert_eq!(haskell.map(|v| v.set_to), Some(SetTo::File(BUNDLE)));
    }

    #[test]
    fn a_variable_that_adds_trust_roots_gets_only_the_ca() {
        for variable in TABLE {
            let adds = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"].contains(&variable.name);
            assert_eq!(variable.set_to == SetTo::File(CA), adds, "{}", variable.name);
        }
    }
}
