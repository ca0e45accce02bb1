//! `keyward explain`: shows what the gateway would do with a request, and why.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::client::Client;
use super::connection::{settings, token};
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::output;
use super::rule::is_methods;
use super::settings::Global;
use super::terminal::table::{fields, moment};
use keyward_api::wire::{
    AddressView, ExplainRequest, ExplainedConnection, Explanation, PlacementView,
};
use keyward_rules::policy::ConsideredRule;
use keyward_rules::policy::explain::ActionKind;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "keyward explain [OPTIONS] [METHOD] <URL>",
    after_help = "examples:\n  keyward explain https://api.github.com/user --agent claude\n  \
                  keyward explain DELETE https://api.github.com/repos/a/b --agent ci --json\n  \
                  keyward explain POST https://api.linear.app/graphql --agent ci \\\n      \
                  --graphql '{ viewer { id } }'\n  \
                  keyward explain POST https://github.com/o/r.git/git-receive-pack \\\n      \
                  --agent ci --push main\n  \
                  keyward explain ssh://deploy@build.example.com --agent ci\n\n\
                  exit code: 0 when it would be sent, 4 when it would be refused"
)]
pub(crate) struct Args {
    /// the URL, with the method before it if not GET; or a login, ssh://USER@HOST
    #[arg(value_name = "REQUEST", num_args = 1..=2, required = true)]
    request: Vec<String>,
    /// the agent that sends the request: name or id
    #[arg(long, value_name = "NAME", default_value = DEFAULT_AGENT)]
    pub(super) agent: String,
    /// the agent's session that the request belongs to
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// the connection that the request names in `Keyward-Connection`
    #[arg(long, value_name = "CONNECTION")]
    connection: Option<String>,
    /// a header field of the request; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// the GraphQL document in the body of the request
    #[arg(long, value_name = "TEXT")]
    graphql: Option<String>,
    /// a branch that git would push to, `:NAME` to delete it; several times
    #[arg(long, value_name = "BRANCH")]
    push: Vec<String>,
    /// also list every rule and binding in order, and why it does not decide
    #[arg(long)]
    rules: bool,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let with_rules = self.rules;
        let ask = self.ask()?;
        let client = Client::open(global).await?;
        let told: Explanation = client.post("/api/v1/rules/explain", &ask).await?;
        output::show(global.json, &told, |told| match with_rules {
            true => show(told) + &considered(told),
            false => show(told),
        })?;
        if told.allowed { Ok(()) } else { Err(Failure::silent(Exit::Forbidden)) }
    }

    fn ask(self) -> Result<ExplainRequest, Failure> {
        let mut words = self.request.into_iter();
        let (method, url) = match (words.next(), words.next()) {
            (Some(method), Some(url)) => (Some(method), url),
            (Some(word), None) if is_methods(&word) => {
                return Err(Failure::usage(format!("there is no URL after `{word}`")).hint(
                    format!("name one: `keyward explain {word} URL --agent {}`", self.agent),
                ));
            }
            (Some(url), None) => (None, url),
            (None, _) => return Err(Failure::usage("name a URL")),
        };
        // As browsers and curl take it; https, because credentials go nowhere else.
        let url = if url.contains("://") { url } else { format!("https://{url}") };
        let mut headers = BTreeMap::new();
        for (name, value) in self.headers {
            if headers.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err(Failure::usage(format!("header `{name}` is given twice")));
            }
        }
        let Self { agent, session, connection, graphql, push, .. } = self;
        Ok(ExplainRequest { agent, session, method, url, connection, headers, graphql, push })
    }
}

/// `NAME: VALUE` of an argument.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write `NAME: VALUE`".to_owned()),
    }
}

fn show(told: &Explanation) -> String {
    let mut text = format!("{} {}{} as {}\n\n", told.method, told.target, told.path, told.agent);
    let verdict = if told.allowed { "would be sent" } else { "would be refused" };
    let connection = told.connection.as_ref();
    let connection = connection.map(|c| format!("{} ({}, {})", c.name, c.provider, c.id));
    let mut rows = vec![
        ("verdict", verdict.to_owned()),
        ("action", action(told).to_owned()),
        ("path sent", told.path_sent.clone().unwrap_or_default()),
        ("rule", told.rule.clone().unwrap_or_default()),
        ("for hosts", told.host.clone().unwrap_or_default()),
        ("connection", connection.unwrap_or_default()),
    ];
    let not_taken = told.considered.iter().filter(|it| it.fit.is_not_taken());
    rows.extend(not_taken.map(|it| ("not used", format!("{}: {}", it.rule, it.fit.words()))));
    rows.extend(told.connection.iter().flat_map(behind));
    rows.extend(told.settings.iter().flat_map(settings::rows));
    let placed = |placement: &PlacementView| format!("{}: {}", placement.at, placement.value);
    rows.extend(told.placements.iter().map(|placement| ("placement", placed(placement))));
    rows.extend(told.addresses.iter().map(|address| ("address", judged(address))));
    let by = |proxy: &String| ("by proxy", format!("{proxy}, which resolves the host"));
    rows.extend(told.proxy.iter().map(by));
    text.push_str(&fields(&rows));
    for stop in &told.stopped_by {
        let _ = writeln!(text, "\nstopped by {}: {}", stop.code, stop.message);
        if let Some(hint) = &stop.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
    }
    text
}

/// The rules, bindings and sets in the order in which they decide.
fn considered(told: &Explanation) -> String {
    let mut text = "\nrules and bindings, in the order in which they decide:\n".to_owned();
    for ConsideredRule { rule, fit } in &told.considered {
        let _ = writeln!(text, "  {:<16}  {rule}", fit.words());
    }
    text
}

/// Rows about a connection: why it was selected, its token and its app.
fn behind(used: &ExplainedConnection) -> impl Iterator<Item = (&'static str, String)> {
    let app = used.app.as_ref();
    let default = match &used.default_over[..] {
        [] => String::new(),
        others => format!("default of this agent, before {}", others.join(", ")),
    };
    let rows = [
        ("selected as", default),
        ("token", token(used.token.as_ref())),
        ("reconnect before", used.ends.map(moment).unwrap_or_default()),
        ("app", app.map(|app| app.name.clone()).unwrap_or_default()),
        ("redirect URI", app.map(|app| app.redirect_uri.clone()).unwrap_or_default()),
        ("app's problem", app.and_then(|app| app.problem.clone()).unwrap_or_default()),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty())
}

fn action(told: &Explanation) -> &'static str {
    match told.action {
        ActionKind::Inject if told.method == "SIGN" => "sign the login with the connection's key",
        ActionKind::Inject => "inject the connection's credential",
        ActionKind::Pass => "forward without a credential",
        ActionKind::Tunnel => "tunnel, without looking inside",
        ActionKind::Deny => "refuse",
    }
}

fn judged(address: &AddressView) -> String {
    let verdict = if address.allowed { "allowed" } else { "refused" };
    format!("{} ({}): {verdict}", address.address, address.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(request: &[&str]) -> Args {
        let request = request.iter().map(|word| (*word).to_owned()).collect();
        Args {
            request,
            agent: "ci".to_owned(),
            connection: None,
            session: None,
            headers: Vec::new(),
            graphql: None,
            push: Vec::new(),
            rules: false,
        }
    }

    fn told(json: serde_json::Value) -> String {
        show(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn an_invalid_header_is_refused_and_not_repeated() {
        for bad in ["", "canary", ": canary"] {
            let error = header(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_method_may_be_omitted() {
        assert_eq!(args(&["https://a.example/"]).ask().unwrap().method, None);
        let ask = args(&["DELETE", "https://a.example/"]).ask().unwrap();
        assert_eq!((ask.method.as_deref(), &*ask.url), (Some("DELETE"), "https://a.example/"));
    }

    #[test]
    fn an_allowed_request_is_shown_with_its_rule_and_placement() {
        insta::assert_snapshot!(told(serde_json::json!({
            "agent": "ci", "method": "GET", "target": "https://api.github.com", "path": "/user",
            "allowed": true, "action": "inject", "rule": "binding:con_1", "host": "api.github.com",
            "connection": {"id": "con_1", "name": "work", "provider": "github"},
            "placements": [{"at": "header authorization", "value": "Bearer {token}"}],
            "addresses": [{"address": "203.0.113.5:443", "allowed": true, "class": "public"}],
            "stopped_by": [],
        })));
    }

    #[test]
    fn a_path_with_a_credential_is_shown_as_requested_and_as_sent() {
        let told = told(serde_json::json!({
            "agent": "ci", "method": "POST", "target": "https://api.telegram.org",
            "path": "/sendMessage", "path_sent": "/bot{credential}/sendMessage",
            "allowed": false, "action": "deny", "rule": "file:no-send", "host": null,
            "connection": null, "placements": [], "addresses": [],
            "stopped_by": [{"code": "denied", "message": "rule `file:no-send` denies this"}],
        }));
        assert!(told.starts_with("POST https://api.telegram.org/sendMessage as ci"), "{told}");
        assert!(
            told.contains("path sent") && told.contains("/bot{credential}/sendMessage"),
            "{told}"
        );
    }

    #[test]
    fn the_settings_of_the_connection_are_shown() {
        let told = told(serde_json::json!({
            "agent": "ci", "method": "GET", "target": "https://api.github.com", "path": "/user",
            "allowed": true, "action": "inject", "rule": "binding:con_1", "host": "api.github.com",
            "connection": {"id": "con_1", "name": "work", "provider": "github"},
            "settings": {"timeout": "30s", "rate_limit": "10/s", "retry": {"attempts": 2}},
            "placements": [], "addresses": [], "stopped_by": [],
        }));
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_token_is_shown_with_its_expiry_its_app_and_the_reconnect_deadline() {
        let told = told(serde_json::json!({
            "agent": "ci", "method": "GET", "target": "https://api.github.com", "path": "/user",
            "allowed": true, "action": "inject", "rule": "binding:con_1", "host": "api.github.com",
            "connection": {"id": "con_1", "name": "work", "provider": "github",
                "app": {"name": "hub", "redirect_uri": "http://localhost:8081/oauth/callback/app_1",
                        "problem": "the secret of app `hub` cannot be opened"},
                "token": {"generation": 2, "expires": null, "refreshed": null, "failing": null},
                "ends": "2025-01-02T03:04:05Z"},
            "placements": [], "addresses": [], "stopped_by": [],
        }));
        for line in
            ["good until it is rejected", "app_1", "app `hub` cannot be opened", "2025-01-02"]
        {
            assert!(told.contains(line), "{line}: {told}");
        }
    }

    #[test]
    fn rules_are_listed_with_why_they_do_not_decide() {
        let told = serde_json::from_value(serde_json::json!({
            "agent": "ci", "method": "GET", "target": "https://a.example", "path": "/",
            "allowed": false, "action": "deny", "rule": "store:reads", "host": null,
            "connection": null, "placements": [], "addresses": [], "stopped_by": [],
            "considered": [
                {"rule": "file:no-deletes", "fit": "method"},
                {"rule": "store:reads", "fit": "decides"},
                {"rule": "default", "fit": "not_reached"},
            ],
        }));
        let text = considered(&told.unwrap());
        let lines: Vec<_> = text.lines().skip(2).collect();
        let expected = [
            "another method    file:no-deletes",
            "decides           store:reads",
            "not reached       default",
        ];
        assert_eq!(lines, expected.map(|line| format!("  {line}")));
    }

    #[test]
    fn a_refusal_names_its_remedy() {
        insta::assert_snapshot!(told(serde_json::json!({
            "agent": "ci", "method": "GET", "target": "https://example.com", "path": "/",
            "allowed": false, "action": "deny", "rule": "default", "host": null,
            "connection": null,
            "placements": [], "addresses": [],
            "stopped_by": [{"code": "default_deny", "message": "no rule names this host",
                            "hint": "bind a connection: keyward agent bind ci CONNECTION"}],
        })));
    }
}
