//! `keyward rule add`, `edit` and `move`: changes of stored rules, and their confirmation for the person.

use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::words;
use crate::cli::agent::own_authorization;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::resource::{ResourceContext, members, path};
use keyward_api::wire::List;
use keyward_model::{Rule, RulePlace, RuleShown, RuleSpec};
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::decode::did_you_mean;

/// The text that means all hosts.
const ALL_HOSTS: &str = "*";

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// deny, inject (a credential), pass (no credential) or tunnel (no interception)
    #[arg(value_parser = action)]
    action: ActionKind,
    /// methods if not all, then HOST, HOST/PATH, `*.` and a suffix, or `*` for all
    #[arg(value_name = "REQUEST", num_args = 1..=2, required = true)]
    request: Vec<String>,
    #[command(flatten)]
    lists: Lists,
    /// inject this connection: name or id
    #[arg(long = "use", value_name = "CONNECTION")]
    use_connection: Option<String>,
    /// letters, digits, - _ .; default: made of action and host
    #[arg(long)]
    name: Option<String>,
    /// the branches may be deleted too
    #[arg(long)]
    delete_branches: bool,
    /// the credential may go over cleartext to an address of `upstream.allow_private`
    #[arg(long)]
    allow_plaintext: bool,
    /// requests with an authorization of their own: pass them as they are, or refuse
    #[arg(long, value_name = "refuse|pass", value_parser = own_authorization)]
    own_authorization: Option<OwnAuthorization>,
    #[command(flatten)]
    place: RulePosition,
}

/// Lists of a rule.
#[derive(Debug, Args)]
struct Lists {
    /// an agent that the rule is for: name or id; several times; default: all agents
    #[arg(long = "agent", value_name = "AGENT")]
    agents: Vec<String>,
    /// a host; several times
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// a method; several times
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// a path; `*` is one segment, `**` any number of them; several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// a named action: `clone`, or `github:push` without --use; several times
    #[arg(long = "named-action", value_name = "ACTION")]
    actions: Vec<String>,
    /// a branch of pushes by git: `agent/*`; several times
    #[arg(long = "branch", value_name = "BRANCH")]
    branches: Vec<String>,
}

/// A place among the stored rules.
#[derive(Debug, Args)]
#[group(id = "place", multiple = false)]
struct RulePosition {
    /// before this stored rule
    #[arg(long, value_name = "RULE")]
    before: Option<String>,
    /// after this stored rule
    #[arg(long, value_name = "RULE")]
    after: Option<String>,
    /// before all other stored rules
    #[arg(long)]
    first: bool,
    /// after all other stored rules
    #[arg(long)]
    last: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").args(["before", "after", "first", "last"]).required(true)))]
pub(crate) struct Move {
    /// name or id
    rule: String,
    #[command(flatten)]
    place: RulePosition,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// name or id
    rule: String,
    /// another name
    #[arg(long)]
    name: Option<String>,
    /// another action: inject, deny, pass or tunnel
    #[arg(long, value_parser = action)]
    action: Option<ActionKind>,
    #[command(flatten)]
    lists: Lists,
    /// inject this connection: name or id
    #[arg(long = "use", value_name = "CONNECTION")]
    use_connection: Option<String>,
    /// name no connection
    #[arg(long, conflicts_with = "use_connection")]
    no_use: bool,
    /// for all agents
    #[arg(long, conflicts_with = "agents")]
    all_agents: bool,
    /// for all hosts
    #[arg(long, conflicts_with = "hosts")]
    all_hosts: bool,
    /// for all methods
    #[arg(long, conflicts_with = "methods")]
    all_methods: bool,
    /// for all paths
    #[arg(long, conflicts_with = "paths")]
    all_paths: bool,
    /// for all actions
    #[arg(long, conflicts_with = "actions")]
    all_actions: bool,
    /// for pushes to all branches
    #[arg(long, conflicts_with = "branches")]
    all_branches: bool,
    /// whether the branches may be deleted too
    #[arg(long, value_name = "BOOL")]
    delete_branches: Option<bool>,
    /// cleartext to an address of `upstream.allow_private` is allowed
    #[arg(long, value_name = "BOOL")]
    allow_plaintext: Option<bool>,
    /// requests with an authorization of their own: pass them as they are, or refuse
    #[arg(long, value_name = "refuse|pass", value_parser = own_authorization)]
    own_authorization: Option<OwnAuthorization>,
}

/// What is posted to make one.
#[derive(Debug, Serialize)]
struct New {
    #[serde(flatten)]
    spec: RuleSpec,
    #[serde(flatten)]
    place: RulePlace,
}

impl Add {
    pub(super) async fn run(self, asked: &ResourceContext<'_>) -> Result<(), Failure> {
        let made: RuleShown = asked.client.post("/api/v1/rules", &self.body()?).await?;
        report(asked, "added", &made).await
    }

    fn body(self) -> Result<New, Failure> {
        let RuleRequests { methods, host, path } = RuleRequests::of(&self.request)?;
        let Lists { agents, hosts, methods: more, paths, actions, branches } = self.lists;
        let spec = RuleSpec {
            name: self.name,
            agents: Some(agents).filter(|agents| !agents.is_empty()),
            hosts: host.into_iter().chain(hosts).collect(),
            methods: methods.into_iter().chain(more.iter().map(|it| it.to_uppercase())).collect(),
            paths: path.into_iter().chain(paths).collect(),
            actions,
            branches,
            delete_branches: self.delete_branches,
            action: Some(self.action),
            use_connection: self.use_connection,
            allow_plaintext: self.allow_plaintext,
            own_authorization: self.own_authorization,
        };
        Ok(New { spec, place: self.place.into() })
    }
}

impl Move {
    pub(super) async fn run(self, asked: &ResourceContext<'_>) -> Result<(), Failure> {
        let (at, place) = (path::<Rule>(&self.rule), RulePlace::from(self.place));
        let moved: RuleShown = asked.client.patch(&at, &place).await?;
        report(asked, "moved", &moved).await
    }
}

impl Edit {
    pub(super) async fn run(self, asked: &ResourceContext<'_>) -> Result<(), Failure> {
        let at = path::<Rule>(&self.rule);
        let patch = self.patch();
        if patch.is_empty() {
            let usage = Failure::usage("nothing to change");
            return Err(usage.hint("`keyward rule edit --help` shows what can be changed"));
        }
        let changed: RuleShown = asked.client.patch(&at, &patch).await?;
        report(asked, "changed", &changed).await
    }

    fn patch(self) -> Map<String, Value> {
        let Lists { agents, hosts, methods, paths, actions, branches } = self.lists;
        let all_hosts = self.all_hosts || hosts.iter().any(|host| host == ALL_HOSTS);
        let hosts = if all_hosts { Vec::new() } else { hosts };
        let methods: Vec<_> = methods.iter().map(|method| method.to_uppercase()).collect();
        let list = |items: Vec<String>, all: bool| match items.is_empty() {
            true => all.then(|| json!([])),
            false => Some(json!(items)),
        };
        let agents = if self.all_agents { Some(Value::Null) } else { list(agents, false) };
        let connection = match self.no_use {
            true => Some(Value::Null),
            false => self.use_connection.map(Value::from),
        };
        members([
            ("name", self.name.map(Value::from)),
            ("action", self.action.map(|action| action.as_str().into())),
            ("agents", agents),
            ("hosts", list(hosts, all_hosts)),
            ("methods", list(methods, self.all_methods)),
            ("paths", list(paths, self.all_paths)),
            ("actions", list(actions, self.all_actions)),
            ("branches", list(branches, self.all_branches)),
            ("delete_branches", self.delete_branches.map(Value::from)),
            ("use", connection),
            ("allow_plaintext", self.allow_plaintext.map(Value::from)),
            ("own_authorization", self.own_authorization.map(|own| own.as_str().into())),
        ])
    }
}

impl From<RulePosition> for RulePlace {
    fn from(RulePosition { before, after, first, last }: RulePosition) -> Self {
        Self { before, after, first, last }
    }
}

/// Prints what a rule does, where it is in the order, and whether it has an effect.
async fn report(asked: &ResourceContext<'_>, what: &str, rule: &RuleShown) -> Result<(), Failure> {
    if asked.global.json {
        return output::print_json(rule);
    }
    let all: List<RuleShown> = asked.client.list("/api/v1/rules", &[]).await?;
    output::print(&format!("{what}: {}\n", words::sentence(rule)))?;
    output::print(&format!("{}\n", words::position(rule, &all.items)))?;
    if let Some(words::Warning { text, hint }) = words::shadow(rule) {
        output::note(&format!("warning: {text}\nhint: {hint}"));
    }
    for warning in &rule.status.warnings {
        output::note(&format!("warning: {warning}"));
    }
    Ok(())
}

/// The requests that the words after the action name.
#[derive(Debug, Default, Eq, PartialEq)]
struct RuleRequests {
    methods: Vec<String>,
    /// `None`: all hosts.
    host: Option<String>,
    path: Option<String>,
}

impl RuleRequests {
    fn of(words: &[String]) -> Result<Self, Failure> {
        let (methods, address) = match words {
            [methods, address] => (Some(methods), address),
            [word] if is_methods(word) => {
                let usage = Failure::usage(format!("there is no host after `{word}`"));
                return Err(usage.hint("name one, or write '*' for all hosts"));
            }
            [address] => (None, address),
            _ => return Err(Failure::usage("name a host")),
        };
        if let Some(host) = methods.filter(|word| word.contains(['.', ':', '/'])) {
            let usage = Failure::usage(format!("`{host}` is not a method"));
            return Err(usage.hint(format!("methods come before the host: {address} {host}")));
        }
        let methods = methods.into_iter().flat_map(|text| text.split(','));
        let methods = methods.map(|text| text.trim().to_uppercase()).collect();
        let (host, path) = parted(address)?;
        Ok(Self { methods, host: Some(host).filter(|host| host != ALL_HOSTS), path })
    }
}

/// Whether a word is a method, or several.
pub(in crate::cli) fn is_methods(word: &str) -> bool {
    word.split(',').all(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase()))
}

/// Host and path of `HOST/PATH`, which may be a URL.
fn parted(address: &str) -> Result<(String, Option<String>), Failure> {
    let (rest, port) = match (address.strip_prefix("https://"), address.strip_prefix("http://")) {
        (Some(rest), _) => (rest, None),
        (_, Some(rest)) => (rest, Some("80")),
        (None, None) => (address, None),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match port {
        Some(port) if !host.contains(':') => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    match path {
        "" => Ok((host, None)),
        "/" => {
            let usage = Failure::usage(format!("`{address}` may mean the whole host or its root"));
            Err(usage
                .hint(format!("write `{host}` for the whole host, `{host} --path /` for its root")))
        }
        path if path.contains(['?', '#']) => {
            Err(Failure::usage("rules look at paths without a query")
                .hint("omit what follows `?` or `#`"))
        }
        path => Ok((host, Some(path.to_owned()))),
    }
}

/// All actions.
pub(in crate::cli) const ACTIONS: [ActionKind; 4] =
    [ActionKind::Deny, ActionKind::Inject, ActionKind::Pass, ActionKind::Tunnel];

/// An action by its name; a word that people use for one is answered with it.
fn action(text: &str) -> Result<ActionKind, String> {
    if let Some(action) = ACTIONS.into_iter().find(|action| action.as_str() == text) {
        return Ok(action);
    }
    Err(match text {
        "allow" | "permit" => {
            "write `pass` to forward without a credential, or `inject` with one".to_owned()
        }
        "block" | "refuse" | "reject" => "write `deny`".to_owned(),
        _ => did_you_mean(text, ACTIONS.map(ActionKind::as_str))
            .unwrap_or_else(|| "write inject, deny, pass or tunnel".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<RuleRequests, String> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        RuleRequests::of(&words).map_err(|failure| failure.message())
    }

    #[test]
    fn ambiguous_words_for_requests_are_refused() {
        for bad in [
            &["DELETE"][..],
            &["GET,HEAD"],
            &["a.test/"],
            &["https://a.test/"],
            &["a.test/x?y=1"],
            &["GET", "a.test/#x"],
            &["a.test", "DELETE"],
            &["https://a.test/x", "GET"],
        ] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn methods_host_and_path_are_distinguished() {
        let request = |methods: &[&str], host: Option<&str>, path: Option<&str>| RuleRequests {
            methods: methods.iter().map(ToString::to_string).collect(),
            host: host.map(str::to_owned),
            path: path.map(str::to_owned),
        };
        for (words, wanted) in [
            (&["a.test"][..], request(&[], Some("a.test"), None)),
            (&["delete", "a.test"], request(&["DELETE"], Some("a.test"), None)),
            (
                &["GET, HEAD", "a.test/v1/**"],
                request(&["GET", "HEAD"], Some("a.test"), Some("/v1/**")),
            ),
            (&["https://a.test:8443/x"], request(&[], Some("a.test:8443"), Some("/x"))),
            (&["http://a.test"], request(&[], Some("a.test:80"), None)),
            (&["GET", "*"], request(&["GET"], None, None)),
            (&["*.a.test"], request(&[], Some("*.a.test"), None)),
        ] {
            assert_eq!(asked(words), Ok(wanted), "{words:?}");
        }
    }

    #[test]
    fn an_unknown_action_is_refused_with_a_suggestion() {
        for (word, answer) in
            [("allow", "`pass`"), ("block", "`deny`"), ("dney", "`deny`"), ("x", "tunnel")]
        {
            let error = action(word).unwrap_err();
            assert!(error.contains(answer), "{word}: {error}");
        }
        assert_eq!(action("deny"), Ok(ActionKind::Deny));
    }
}
