//! `keyward rule add`, `edit` and `move`: changes of stored rules, and their confirmation for the person.

use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::words;
use crate::cli::derive::{Adding, Changing, MemberArgs};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::resource::{ResourceContext, path};
use keyward_api::wire::List;
use keyward_model::{Rule, RulePlace, RuleShown};
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
    /// letters, digits, - _ .; default: made of action and host
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    members: MemberArgs<Rule, Adding>,
    #[command(flatten)]
    place: RulePosition,
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
    #[command(flatten)]
    members: MemberArgs<Rule, Changing>,
}

/// What is posted to make one.
#[derive(Debug, Serialize)]
struct New {
    #[serde(flatten)]
    spec: Map<String, Value>,
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
        let mut spec = self.members.body()?;
        prepend(&mut spec, "hosts", host);
        prepend(&mut spec, "methods", methods);
        prepend(&mut spec, "paths", path);
        upper(&mut spec);
        spec.insert("action".to_owned(), json!(self.action.as_str()));
        spec.extend(self.name.map(|name| ("name".to_owned(), name.into())));
        Ok(New { spec, place: self.place.into() })
    }
}

/// Adds words of the request to those of an option.
fn prepend(spec: &mut Map<String, Value>, name: &str, words: impl IntoIterator<Item = String>) {
    let mut all: Vec<Value> = words.into_iter().map(Value::from).collect();
    if let Some(Value::Array(more)) = spec.remove(name) {
        all.extend(more);
    }
    spec.insert(name.to_owned(), all.into());
}

fn upper(spec: &mut Map<String, Value>) {
    let methods = spec.get_mut("methods").and_then(Value::as_array_mut);
    for method in methods.into_iter().flatten() {
        *method = method.as_str().unwrap_or_default().to_uppercase().into();
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
        let mut patch = self.members.patch()?;
        upper(&mut patch);
        let hosts = patch.get_mut("hosts");
        if let Some(hosts) = hosts
            && hosts.as_array().is_some_and(|hosts| hosts.iter().any(|host| host == ALL_HOSTS))
        {
            *hosts = Value::Null;
        }
        let changed: RuleShown = asked.client.patch(&path::<Rule>(&self.rule), &patch).await?;
        report(asked, "changed", &changed).await
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
