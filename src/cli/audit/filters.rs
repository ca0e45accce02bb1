//! The filters of records, and notes about filters that matched nothing because their name does not exist. They are
//! no errors: records keep the names of agents and connections that were removed.

use clap::Args;

use crate::cli::client::{Client, segment};
use crate::cli::output;
use keyward_base::codes::Code;
use keyward_base::visible::visible;
use keyward_model::{Agent, Connection, Shown};
use keyward_rules::provider::decode::did_you_mean;

/// Records per request.
pub(super) const PAGE: usize = 1_000;

/// The filters of records.
#[derive(Debug, Args)]
pub(super) struct AuditFilters {
    /// records of this agent
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// records of requests in this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// records of requests in sessions of this end user, and of changes by this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// records of requests to this host: HOST, HOST:PORT or *.SUFFIX
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// records of requests with this connection's credential
    #[arg(long, value_name = "NAME")]
    pub(super) connection: Option<String>,
    /// requests that Keyward itself answered with this code
    #[arg(long, value_name = "CODE", conflicts_with = "refused")]
    pub(super) code: Option<String>,
    /// requests that Keyward itself answered, with any code
    #[arg(long)]
    refused: bool,
    /// only changes of resources, no exchanges
    #[arg(long, conflicts_with_all = ["agent", "session", "host", "connection", "method"])]
    pub(super) changes: bool,
    /// only changes of the resource with this name or id
    #[arg(long, value_name = "RESOURCE", conflicts_with_all = ["agent", "session", "host", "connection", "method"])]
    pub(super) changed: Option<String>,
    /// changes that are events of this type, such as honeytoken.used
    #[arg(long, value_name = "TYPE")]
    pub(super) event: Option<String>,
    /// only exchanges, no changes of resources
    #[arg(long, conflicts_with_all = ["changes", "changed", "event"])]
    pub(super) requests: bool,
    /// requests with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// records with this id, as in error bodies and logs
    #[arg(long, value_name = "ID")]
    exchange: Option<String>,
    /// exchanges that began at this time or later
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// exchanges that began before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl AuditFilters {
    /// A path of the API with the filters and `more` as its query.
    pub(super) fn path(&self, path: &str, more: &[(&str, String)]) -> String {
        let given = [
            ("agent", &self.agent),
            ("session", &self.session),
            ("user", &self.user),
            ("event", &self.event),
            ("host", &self.host),
            ("connection", &self.connection),
            ("code", &self.code),
            ("changed", &self.changed),
            ("method", &self.method),
            ("exchange", &self.exchange),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        let refused = self.refused.then(|| ("refused", "true".to_owned()));
        let changes = self.changes.then(|| ("changes", "true".to_owned()));
        let requests = self.requests.then(|| ("requests", "true".to_owned()));
        let all = given.chain(refused).chain(changes).chain(requests).chain(more.iter().cloned());
        let pairs: Vec<_> = all.map(|(key, value)| format!("{key}={}", segment(&value))).collect();
        format!("/api/v1{path}?{}", pairs.join("&"))
    }
}

/// Notes each name of the filters that does not exist, with the nearest that does. Without a gateway, only codes
/// are known.
pub(super) async fn note_unknown(client: &Client, filters: &AuditFilters) {
    if let Some(agent) = &filters.agent
        && let Ok(agents) = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await
    {
        note("agent", agent, agents.items.iter().map(|agent| &*agent.name));
    }
    if let Some(connection) = &filters.connection
        && let Ok(all) = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await
    {
        note("connection", connection, all.items.iter().map(|connection| &*connection.name));
    }
    if let Some(code) = &filters.code {
        note("code", code, Code::ALL.iter().map(|code| code.as_str()));
    }
}

fn note<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) {
    if let Some(text) = unknown(what, name, known) {
        output::note(&text);
    }
}

/// `hint: there is no agent `clade`: did you mean `claude`?`
fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    if known.clone().any(|known| known == name) {
        return None;
    }
    let near = did_you_mean(name, known).map(|near| format!(": {near}")).unwrap_or_default();
    // It comes from the user's own command line, but may have been pasted.
    Some(format!("hint: there is no {what} `{}`{near}", visible(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_becomes_one_percent_encoded_query_parameter() {
        let filters = AuditFilters {
            agent: Some("a&limit=9".to_owned()),
            session: None,
            user: None,
            host: Some("*.a.test:8443".to_owned()),
            connection: None,
            code: None,
            refused: true,
            changes: false,
            changed: None,
            event: None,
            requests: false,
            method: None,
            exchange: None,
            since: Some("2026-01-31T10:00:00+02:00".to_owned()),
            until: None,
        };
        insta::assert_snapshot!(
            filters.path("/audit", &[("limit", "5".to_owned())]),
            @"/api/v1/audit?agent=a%26limit%3D9&host=%2A.a.test%3A8443&since=2026-01-31T10%3A00%3A00%2B02%3A00&refused=true&limit=5"
        );
    }

    #[test]
    fn a_name_that_exists_needs_no_hint_and_a_mistyped_one_gets_the_nearest() {
        let known = || ["claude", "ci"].into_iter();
        assert_eq!(unknown("agent", "ci", known()), None);
        let near = unknown("agent", "clade", known());
        assert_eq!(
            near.as_deref(),
            Some("hint: there is no agent `clade`: did you mean `claude`?")
        );
        let far = unknown("agent", "elsewhere", known());
        assert_eq!(far.as_deref(), Some("hint: there is no agent `elsewhere`"));
    }
}
